"""Metrics of the node as a whole: what runs here, and how far the peers are."""

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvstore.backup.marks import BackupMark


class NodeMetrics(Collector):
    """`round_trips_s()` is by peer; `streams()` counts the open ones; `backups()` are what they
    said last, by name; `incidents()` counts those that are kept."""

    def __init__(
        self,
        version: str,
        round_trips_s: Callable[[], Mapping[int, float]],
        streams: Callable[[], int],
        backups: Callable[[], Mapping[str, BackupMark]],
        incidents: Callable[[], int],
    ) -> None:
        self._version = version
        self._round_trips_s = round_trips_s
        self._streams = streams
        self._backups = backups
        self._incidents = incidents

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
        yield GaugeMetricFamily(
            "kvstore_incidents_kept", "Recordings that this node kept by itself on its disk",
            value=self._incidents(),
        )  # fmt: skip
        yield from self._of_backups()

    def _of_backups(self) -> Iterator[Metric]:
        now_s = time.time()
        age = GaugeMetricFamily(
            "kvstore_backup_age_seconds",
            "Since the backup of this name held all that was written, by this node's clock",
            labels=["backup"],
        )
        late = GaugeMetricFamily(
            "kvstore_backup_late",
            "1 if the backup of this name is older than whoever makes it said that it may be",
            labels=["backup"],
        )
        drill = GaugeMetricFamily(
            "kvstore_backup_drill_ok",
            "1 if the last drill of the backup of this name went well, 0 if it failed",
            labels=["backup"],
        )
        for name, mark in self._backups().items():
            age.add_metric([name], mark.age_s(now_s))
            late.add_metric([name], float(mark.late(now_s)))
            if mark.drill is not None:
                drill.add_metric([name], float(mark.drill.ok))
        yield from (age, late, drill)

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand."""
        return iter(())

    def register(self, registry: CollectorRegistry) -> None:
        """Be scraped through `registry`."""
        registry.register(self)
