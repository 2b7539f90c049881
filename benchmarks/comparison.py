"""Systems side by side in one run: scenarios in turns, in rounds, after many writes.

In every round each scenario is measured for one system and then at once for the next, while the
idle clusters only keep their heartbeats.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients.load import Load, Sample, measure
from benchmarks.clients.traffic import EtcdDialect, generation_of, key_of, write_requests
from benchmarks.report import Results
from benchmarks.scenarios import (
    ETCD,
    KEYS,
    OURS,
    PYSYNCOBJ,
    STEADY_WRITES,
    ZOOKEEPER,
    Aim,
    Api,
    BenchScenario,
)
from benchmarks.shared.probe import Unreachable
from benchmarks.shared.procfs import filesystem_of, machine
from benchmarks.shared.session import say
from benchmarks.systems.clusters import (
    BenchCluster,
    ClusterFailed,
    EtcdBenchCluster,
    OurBenchCluster,
)
from benchmarks.systems.filling import fill
from benchmarks.systems.pysyncobj_cluster import PySyncObjBenchCluster
from benchmarks.systems.zookeeper import ZooKeeperBenchCluster
from kvstore_cli.launcher.node_process import ServerProcess

SYSTEMS: dict[str, Callable[[Path], BenchCluster]] = {
    OURS: OurBenchCluster,
    ETCD: EtcdBenchCluster,
    ZOOKEEPER: ZooKeeperBenchCluster,
    PYSYNCOBJ: PySyncObjBenchCluster,
}
VERIFIED_KEYS = 40


@dataclass(frozen=True)
class Effort:
    """How much is measured. `client`: wrk, or raw. No round is begun that would likely end later
    than `limit_s` after the beginning, on a machine that is slow."""

    rounds: int
    seconds: float
    client: str
    steady_writes: int = STEADY_WRITES
    limit_s: float = math.inf


class SideBySide:
    """One run: its scenarios, its clusters, and what it found so far."""

    def __init__(
        self,
        scenarios: Sequence[BenchScenario],
        effort: Effort,
        directory: Path,
        clusters: Sequence[BenchCluster],
    ) -> None:
        """The clusters are ready."""
        self.effort, self.directory, self.clusters = effort, directory, clusters
        self.results = Results(scenarios=list(scenarios))
        self.round = 0
        self._began = self._round_began = time.monotonic()

    def run(self) -> Results:
        """Write much, then measure in rounds."""
        busy = Path("/proc/loadavg").read_text().split()[0]
        for cluster in self.clusters:
            self.settle(cluster)
        self._round_began = time.monotonic()
        while self.round < self.effort.rounds and self.in_time():
            self.round += 1
            say(f"round {self.round} of {self.effort.rounds}")
            for scenario in self.results.scenarios:
                for cluster in self.clusters:
                    if cluster.name in scenario.systems:
                        self.measure(cluster, scenario)
        self.results.head = [*self.head(busy), *self.results.head]
        return self.results

    def in_time(self) -> bool:
        """Whether one more round, as long as the last one, ends in time. The first always does."""
        now = time.monotonic()
        took_s, self._round_began = now - self._round_began, now
        return not self.round or now + took_s - self._began <= self.effort.limit_s

    def head(self, busy: str) -> list[str]:
        """What the report says first."""
        effort = self.effort
        return [
            f"Machine: {machine()}; data on {filesystem_of(self.directory)}; load before: {busy}.",
            f"Systems: {', '.join(c.version() for c in self.clusters)}; 3 nodes each.",
            f"Before: {effort.steady_writes:,} writes to each; ours compacts by its defaults, etcd "
            "to its last 1,000 revisions (--auto-compaction-mode revision), once by hand.",
            f"Load: {effort.client}, closed loop; {KEYS:,} keys, 256-byte values unless said "
            f"otherwise; medians of {self.round} alternating rounds of {effort.seconds:g} s.",
        ]

    def settle(self, cluster: BenchCluster) -> None:
        """Write every key, many times, and read some back."""
        rounds = max(1, self.effort.steady_writes // KEYS)
        took_s = fill(cluster, KEYS, rounds)
        cluster.compact()
        say(f"{cluster.name}: {rounds * KEYS:,} writes in {took_s:.1f} s")
        self.verify(cluster, f"{cluster.name}, before the rounds", many_new=True)

    def request_file(self, cluster: BenchCluster, scenario: BenchScenario) -> Path:
        """Requests for this round, made when they are first needed: each writes other values."""
        name = f"{cluster.name}-{scenario.traffic}-{self.round}.requests"
        file = self.directory / name
        if not file.exists():
            write_requests(file, scenario.requests(cluster.dialect, self.round))
        return file

    def measure(self, cluster: BenchCluster, scenario: BenchScenario) -> None:
        """One measurement, kept with the others of its scenario."""
        with speaking(cluster, scenario.api):
            leader = cluster.wait_leader()
            load = Load(
                self.effort.client, scenario.connections, scenario.seconds or self.effort.seconds,
                self.round * 1000 + scenario.connections, scenario.rate_per_s, cluster.dialect.wire,
            )  # fmt: skip
            ports = [node.client_port for node in targets(cluster, scenario)]
            file = self.request_file(cluster, scenario)
            sample = measure(load, ports, file, cluster.pids())
            cluster.check_alive()
            self.keep(cluster, scenario, sample)
            label = f"{cluster.name}, {scenario.name}, round {self.round}"
            if cluster.wait_leader() is not leader:
                self.results.head.append(f"Note: the leader changed during {label}.")
            if scenario.puts == 1.0 and scenario.keys == KEYS:
                self.verify(cluster, label, many_new=sample.requests > KEYS / 2)

    def keep(self, cluster: BenchCluster, scenario: BenchScenario, sample: Sample) -> None:
        """Also what failed: a figure without its errors would be a lie."""
        self.results.samples[cluster.name, scenario.name].append(sample)
        say(
            f"  {scenario.name:<16} {cluster.name:<9} {sample.per_s:>9,.0f}/s"
            f"  p50 {sample.p50_ms:8.2f} ms  p99 {sample.p99_ms:8.2f} ms  errors {sample.errors}"
        )
        if sample.failed:
            self.problem(
                f"{cluster.name}, {scenario.name}, round {self.round}: "
                f"{sample.errors} errors in {sample.requests} requests"
            )

    def verify(self, cluster: BenchCluster, label: str, *, many_new: bool) -> None:
        """Read some keys through every node: each must hold a value that was written to it, and
        some of them one of this round if `many_new` were written."""
        current = 0
        for i, number in enumerate(random.sample(range(KEYS), VERIFIED_KEYS)):
            node = cluster.nodes[i % len(cluster.nodes)]
            try:
                value = cluster.read(node, key_of(number))
            except Unreachable as error:
                self.problem(f"{label}: {error}")
                continue
            generation = generation_of(number, value) if value else None
            if generation is None:
                self.problem(f"{label}: node {node.number} has no written value of key {number}")
            current += generation == self.round
        if many_new and not current:
            self.problem(f"{label}: none of {VERIFIED_KEYS} keys holds a value of this round")

    def problem(self, text: str) -> None:
        """Something that makes the run a failure."""
        say(f"  FAILED: {text}")
        self.results.problems.append(text)


@contextlib.contextmanager
def speaking(cluster: BenchCluster, api: Api) -> Iterator[None]:
    """Ours is asked by this API meanwhile."""
    own = cluster.dialect
    if api is Api.ETCD and isinstance(cluster, OurBenchCluster):
        cluster.dialect = EtcdDialect()
    try:
        yield
    finally:
        cluster.dialect = own


def targets(cluster: BenchCluster, scenario: BenchScenario) -> list[ServerProcess]:
    """The nodes that the connections go to."""
    match scenario.aim:
        case Aim.LEADER:
            return [cluster.wait_leader()]
        case Aim.FOLLOWER:
            return [cluster.follower()]
        case Aim.ALL:
            return cluster.nodes


@contextlib.contextmanager
def running(systems: Sequence[str], directory: Path) -> Iterator[list[BenchCluster]]:
    """Clusters of these systems, ready. What is missing on this machine is left out, and said,
    unless it is ours. Raises ClusterFailed."""
    with contextlib.ExitStack() as stack:
        clusters = []
        for name in systems:
            try:
                clusters.append(stack.enter_context(SYSTEMS[name](directory)))
            except ClusterFailed as error:
                if name == OURS:
                    raise
                say(f"skipped: {error}")
        for cluster in clusters:
            cluster.start()
        for cluster in clusters:
            cluster.wait_ready()
        yield clusters


def compare(
    scenarios: Sequence[BenchScenario], effort: Effort, directory: Path, systems: Sequence[str]
) -> Results:
    """Start what the scenarios need, and measure. Raises ClusterFailed, LoadFailed, Unreachable."""
    wanted = {system for scenario in scenarios for system in scenario.systems}
    with running([name for name in systems if name in wanted], directory) as clusters:
        return SideBySide(scenarios, effort, directory, clusters).run()
