"""Metrics of the node as a whole: what runs here, and how far the peers are."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class NodeMetrics(Collector):
    """`round_trips_s()` is by peer; `streams()` counts the open ones."""

    def __init__(
        self,
        version: str,
        round_trips_s: Callable[[], Mapping[int, float]],
        streams: Callable[[], int],
    ) -> None:
        self._version = version
        self._round_trips_s = round_trips_s
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        """One family for each."""
        build = GaugeMetricFamily(
            "kvstore_build_info", "1, with the version that runs here", labels=["version"]
        )
        build.add_metric([self._version], 1)
        yield build
        yield GaugeMetricFamily(
            "kvstore_streams", "Streams that clients hold open: watches, live pages",
            value=self._streams(),
        )  # fmt: skip
        trips = GaugeMetricFamily(
            "kvstore_peer_round_trip_seconds",
            "As leader: the last heartbeat to this member and its answer back",
            labels=["peer"],
        )
        for peer, seconds in self._round_trips_s().items():
            trips.add_metric([str(peer)], seconds)
        yield trips

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand."""
        return iter(())

    def register(self, registry: CollectorRegistry) -> None:
        """Be scraped through `registry`."""
        registry.register(self)
