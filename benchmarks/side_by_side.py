"""Our cluster and etcd's on one machine, in one run, in turns: what `make bench` runs.

python -m benchmarks.side_by_side [--rounds 3] [--seconds 3] [--spread] [--etcd-api] [--output FILE]

Three nodes each, fsync on. A closed loop of puts, then of linearizable gets, over random keys, for
each number of connections, to ours by its own API or by etcd's; in every round each cell is
measured for one system and then at once for the other, while the idle cluster only keeps its
heartbeats. Figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.ceiling import ceiling
from benchmarks.clusters import BenchCluster, ClusterFailed, EtcdBenchCluster, OurBenchCluster
from benchmarks.load import Load, LoadFailed, best_client, measure
from benchmarks.probe import Unreachable, call
from benchmarks.procfs import filesystem_of, machine
from benchmarks.raw_client import drive
from benchmarks.report import Cell, Results, render
from benchmarks.session import publish, say, workspace
from benchmarks.traffic import (
    EtcdDialect,
    generation_of,
    key_of,
    read_requests,
    value_of,
    write_requests,
)

SYSTEMS: dict[str, type[BenchCluster]] = {"ours": OurBenchCluster, "etcd": EtcdBenchCluster}
VERIFIED_KEYS = 40


class SideBySide:
    """One run: its settings, its directory, its clusters, and what it found so far."""

    def __init__(
        self, options: argparse.Namespace, directory: Path, clusters: Sequence[BenchCluster]
    ) -> None:
        """Nothing is started yet."""
        self.options, self.directory, self.clusters = options, directory, clusters
        self.results = Results()
        self.generation = 0

    def run(self) -> None:
        """Start, load, find the ceilings, then the rounds."""
        for cluster in self.clusters:
            cluster.start()
        for cluster in self.clusters:
            cluster.wait_ready()
        self.results.head = self.head()
        self.write_requests()
        for cluster in self.clusters:
            self.load_keys(cluster)
        self.ceilings()
        while self.generation < self.options.rounds:
            self.generation += 1
            say(f"round {self.generation} of {self.options.rounds}")
            self.write_requests()
            for cell in cells(self.options):
                for cluster in self.clusters:
                    self.measure_cell(cluster, cell)

    def head(self) -> list[str]:
        """What the report says first."""
        options = self.options
        busy = Path("/proc/loadavg").read_text().split()[0]
        api = "etcd's API" if options.etcd_api else "its own API"
        return [
            f"Machine: {machine()}; data on {filesystem_of(self.directory)}; load before: {busy}.",
            f"Systems: {', '.join(c.version() for c in self.clusters)}; 3 nodes each, fsync on; "
            f"ours by {api}.",
            f"Load: {options.client}, one thread, closed loop; {options.keys:,} keys, 256-byte "
            f"values; medians of {options.rounds} alternating rounds of {options.seconds} s.",
        ]

    def request_file(self, cluster: BenchCluster, op: str) -> Path:
        """Prepared requests for one system and operation."""
        return self.directory / f"{cluster.name}-{op}.requests"

    def write_requests(self) -> None:
        """Prepare this generation's requests: every round writes other values."""
        numbers = range(self.options.keys)
        values = [value_of(n, self.generation) for n in numbers]
        for cluster in self.clusters:
            spell = cluster.dialect
            puts = (spell.put(key_of(n), values[n]) for n in numbers)
            write_requests(self.request_file(cluster, "put"), puts)
            write_requests(
                self.request_file(cluster, "get"), (spell.get(key_of(n)) for n in numbers)
            )

    def load_keys(self, cluster: BenchCluster) -> None:
        """Write every key once, so that every get finds one, and read some back."""
        leader = cluster.wait_leader()
        say(f"{cluster.name}: node {leader.number} leads; writing {self.options.keys:,} keys")
        waiting = iter(read_requests(self.request_file(cluster, "put")))
        tally = uvloop.run(drive(leader.client_port, 64, lambda: next(waiting, None)))
        errors = tally.bad_status + tally.socket_errors
        if errors or tally.requests != self.options.keys:
            raise LoadFailed(f"{cluster.name}: {errors} errors while loading")
        self.verify(cluster, "loading")

    def ceilings(self) -> None:
        """Every request file against an empty handler."""
        load = Load(self.options.client, 64, self.options.seconds)
        for cluster in self.clusters:
            for op in ("put", "get"):
                sample = ceiling(load, self.request_file(cluster, op))
                self.results.ceilings[f"{cluster.name} {op}"] = sample
                say(f"  empty handler, {cluster.name} {op}: {sample.per_s:,.0f}/s")

    def measure_cell(self, cluster: BenchCluster, cell: Cell) -> None:
        """One measurement, kept with the others of its cell."""
        leader = cluster.wait_leader()
        targets = cluster.nodes if cell.spread else [leader]
        seed = self.generation * 1000 + cell.connections
        load = Load(self.options.client, cell.connections, self.options.seconds, seed)
        sample = measure(
            load, [n.client_port for n in targets],
            self.request_file(cluster, cell.op), cluster.pids(),
        )  # fmt: skip
        cluster.check_alive()
        self.results.samples[cluster.name, cell].append(sample)
        say(
            f"  {cell.op} {cell!s:<11} {cluster.name:<5} {sample.per_s:>9,.0f}/s"
            f"  p50 {sample.p50_ms:8.2f} ms  p99 {sample.p99_ms:8.2f} ms  errors {sample.errors}"
        )
        label = f"{cluster.name}, {cell.op}, {cell}, round {self.generation}"
        if sample.failed:
            self.problem(f"{label}: {sample.errors} errors in {sample.requests} requests")
        if cluster.wait_leader() is not leader:
            self.results.head.append(f"Note: the leader changed during {label}.")
        if cell.op == "put":
            self.verify(cluster, label)

    def verify(self, cluster: BenchCluster, label: str) -> None:
        """Read some keys through every node: each must hold a value that was written to it."""
        current = 0
        for i, number in enumerate(random.sample(range(self.options.keys), VERIFIED_KEYS)):
            node = cluster.nodes[i % len(cluster.nodes)]
            try:
                request = cluster.dialect.get(key_of(number))
                status, body = call(node.client_port, request, timeout_s=10)
            except Unreachable as error:
                self.problem(f"{label}: {error}")
                continue
            value = cluster.dialect.value_in(body) if status == 200 else None
            generation = generation_of(number, value) if value else None
            if generation is None:
                self.problem(f"{label}: node {node.number} answers {status} and no written value")
            current += generation == self.generation
        if not current and self.options.keys <= 20_000:
            self.problem(f"{label}: none of {VERIFIED_KEYS} keys holds a value of this round")

    def problem(self, text: str) -> None:
        """Something that makes the run a failure."""
        say(f"  FAILED: {text}")
        self.results.problems.append(text)


def cells(options: argparse.Namespace) -> list[Cell]:
    """Which loads are measured; by default one of them is spread over all nodes."""
    everywhere = options.spread
    found = [
        Cell(op, c, everywhere and c >= 3) for c in options.connections for op in ("put", "get")
    ]
    if not everywhere and 64 in options.connections:
        found += [Cell(op, 64, True) for op in ("put", "get")]
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Our cluster and etcd's, in turns.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--spread", action="store_true", help="all loads over all three nodes")
    parser.add_argument("--etcd-api", action="store_true", help="speak etcd's API to ours, too")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--client", choices=["wrk", "raw"], default=best_client())
    parser.add_argument("--directory", type=Path, help="parent of the temporary data directory")
    parser.add_argument("--output", type=Path, help="default: a new file in benchmarks/results/")
    return parser.parse_args()


def main() -> int:
    """Run the comparison; 1 when a figure cannot be believed."""
    options = parse()
    try:
        with workspace(options.directory) as directory, contextlib.ExitStack() as stack:
            clusters = [stack.enter_context(SYSTEMS[s](directory)) for s in options.systems]
            if options.etcd_api:
                for cluster in clusters:
                    cluster.dialect = EtcdDialect()
            comparison = SideBySide(options, directory, clusters)
            comparison.run()
    except KeyboardInterrupt:
        say("interrupted; every process is ended")
        return 130
    except (ClusterFailed, LoadFailed, Unreachable, TimeoutError) as error:
        say(f"FAILED: {error}")
        return 1
    text = render(comparison.results)
    say("\n" + text)
    publish(text, "side-by-side", options.output)
    return 1 if comparison.results.problems else 0


if __name__ == "__main__":
    sys.exit(main())
