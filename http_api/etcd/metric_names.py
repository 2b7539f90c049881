"""etcd's most used metrics, as other names of ours, so that its dashboards and alerts work."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from http_api.etcd.maintenance import SERVER_VERSION
from kvstore.replica.metrics import Counters
from kvstore.replica.stages import Durations

GAUGES = {
    "etcd_server_has_leader": ("has_leader", "1 if this node knows a leader"),
    "etcd_server_is_leader": ("is_leader", "1 if this node leads"),
    "etcd_server_proposals_pending": ("writes_waiting", "Writes that have no answer yet"),
    "etcd_server_proposals_applied_total": ("applied_through", "The last slot applied here"),
    "etcd_server_proposals_committed_total": ("chosen_through", "The last slot known as chosen"),
    "etcd_debugging_mvcc_current_revision": ("revision", "The current revision"),
    "etcd_debugging_mvcc_compact_revision": ("compacted_revision", "The oldest readable revision"),
}
"""etcd's name to our gauge and its help text. etcd, too, has the two totals as gauges."""
HISTOGRAMS = {
    "etcd_disk_wal_fsync_duration_seconds": ("commit", "A group of records, until it is durable"),
}


class EtcdNames(Collector):
    """A collector of the aliases. `peers()` counts those that are connected."""

    def __init__(
        self,
        counters: Counters,
        gauges: Callable[[], dict[str, float]],
        stages: Callable[[], Iterable[tuple[str, Durations]]],
        peers: Callable[[], int],
        state: Path,
        round_trips: Callable[[], Mapping[int, Durations]],
    ) -> None:
        self._counters = counters
        self._gauges = gauges
        self._stages = stages
        self._peers = peers
        self._state = state
        self._round_trips = round_trips

    def collect(self) -> Iterator[Metric]:
        """One family for each name."""
        found = self._gauges()
        for name, (ours, text) in GAUGES.items():
            if ours in found:
                yield GaugeMetricFamily(name, text, value=found[ours])
        changes = self._counters.leader_changes
        yield CounterMetricFamily(
            "etcd_server_leader_changes_seen", "Changes of the leader", value=changes
        )
        stages = dict(self._stages())
        for name, (stage, text) in HISTOGRAMS.items():
            if stage in stages:
                buckets, total_s = stages[stage].histogram()
                yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=total_s)
        yield GaugeMetricFamily(
            "etcd_mvcc_db_total_size_in_bytes", "Size of the state's file", value=self._bytes()
        )
        yield GaugeMetricFamily(
            "etcd_network_active_peers", "Peers with a link that works", value=self._peers()
        )
        trips = HistogramMetricFamily(
            "etcd_network_peer_round_trip_time_seconds", "Of heartbeats, as leader", labels=["To"]
        )
        for peer, durations in self._round_trips().items():
            trips.add_metric([str(peer)], *durations.histogram())
        yield trips
        version = GaugeMetricFamily(
            "etcd_server_version", "The etcd that is spoken", labels=["server_version"]
        )
        version.add_metric([SERVER_VERSION], 1)
        yield version

    def _bytes(self) -> float:
        try:
            return float(os.stat(self._state).st_size)
        except OSError:
            return 0.0

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand."""
        return iter(())

    def register(self, registry: CollectorRegistry) -> None:
        """Be scraped through `registry`."""
        registry.register(self)
