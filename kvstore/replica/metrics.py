"""What Prometheus sees of a replica. Read at scrape time: the hot path only adds to integers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from kvstore.replica.metric_texts import COUNTERS, GAUGES, text_of
from kvstore.replica.stages import Durations


@dataclass(slots=True)
class Counters:
    """Events since the start of the process. Each field's name is its metric's."""

    commands_applied: int = 0
    slots_applied: int = 0
    slots_proposed: int = 0
    log_groups: int = 0
    log_records: int = 0
    checkpoints: int = 0
    checkpoint_failures: int = 0
    leader_changes: int = 0
    linearizable_reads: int = 0
    bundles_relayed: int = 0
    snapshots_installed: int = 0
    scrub_passes: int = 0
    scrub_records: int = 0


def stage_family(name: str, text: str, stages: Iterable[tuple[str, Durations]]) -> Metric:
    """One histogram for each stage, told apart by a label."""
    family = HistogramMetricFamily(name, text, labels=["stage"])
    for stage, durations in stages:
        family.add_metric([stage], *durations.histogram())
    return family


class Metrics(Collector):
    """A registry of its own: the process, the counters, and gauges computed on demand."""

    def __init__(
        self,
        counters: Counters,
        stages: Callable[[], Iterable[tuple[str, Durations]]],
        gauges: Callable[[], dict[str, float]],
        peers: Callable[[], dict[int, tuple[bool, float]]],
        kinds: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self.counters = counters
        self.stages = stages
        self.gauges = gauges
        self.peers = peers
        self._kinds = kinds
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    @property
    def commands_applied(self) -> int:
        """Since the start of the process."""
        return self.counters.commands_applied

    def collect(self) -> Iterator[Metric]:
        """One family for each counter and gauge."""
        for field in fields(Counters):
            name = f"kvstore_{field.name}"
            text = text_of(field.name, COUNTERS)
            yield CounterMetricFamily(name, text, value=getattr(self.counters, field.name))
        yield stage_family(
            "kvstore_write_stage_seconds",
            "Time of a batch in each stage of a write: batch, commit, quorum, apply",
            self.stages(),
        )
        for name, value in self.gauges().items():
            yield GaugeMetricFamily(f"kvstore_{name}", text_of(name, GAUGES), value=value)
        up = GaugeMetricFamily(
            "kvstore_peer_up", "1 if there is a link to this member that works", labels=["peer"]
        )
        silent = GaugeMetricFamily(
            "kvstore_peer_silent_seconds",
            "Seconds since this member was heard last; infinite if it never was",
            labels=["peer"],
        )
        for peer, (connected, silent_s) in self.peers().items():
            up.add_metric([str(peer)], float(connected))
            silent.add_metric([str(peer)], silent_s)
        members = GaugeMetricFamily(
            "kvstore_members",
            "Members of the cluster by kind: voter, learner, expected",
            labels=["kind"],
        )
        for kind, count in self._kinds().items():
            members.add_metric([kind], float(count))
        yield from (up, silent, members)

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: gauges need a running replica."""
        return iter(())
