"""How long a node with many keys takes from kill -9 to serving, and the memory it then holds.

python -m benchmarks.startup [--keys 1000000] [--restarts 3] [--output FILE]

One node of ours and one of etcd, one after the other: load over HTTP, kill -9 at once, run again,
and measure from exec until a linearizable get answers with the right value. The page cache stays
warm, as it does when only a process dies.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.clients.load import LoadFailed
from benchmarks.clients.traffic import key_of, value_of
from benchmarks.shared.probe import Unreachable, call
from benchmarks.shared.procfs import disk_mb, filesystem_of, machine, resident_mb
from benchmarks.shared.session import publish, say, workspace
from benchmarks.shared.tables import ratio, table
from benchmarks.systems.clusters import (
    BenchCluster,
    ClusterFailed,
    EtcdBenchCluster,
    OurBenchCluster,
)
from benchmarks.systems.filling import fill
from kvstore_cli.launcher.node_process import ServerProcess
from proof.processes.waiting import eventually

SYSTEMS: dict[str, type[BenchCluster]] = {"ours": OurBenchCluster, "etcd": EtcdBenchCluster}
READY_S_MAX = 300.0


@dataclass(frozen=True)
class Start:
    """One start: seconds to ready, and resident memory at that moment in MB."""

    ready_s: float
    anonymous_mb: float
    file_mb: float


@dataclass(frozen=True)
class StartupOutcome:
    """What was found for one system."""

    load_s: float
    disk_mb: float
    starts: list[Start]

    def middle(self, figure: str) -> float:
        """The median of one figure over the starts."""
        return float(median(getattr(start, figure) for start in self.starts))


def serves(cluster: BenchCluster, node: ServerProcess, number: int) -> bool:
    """Whether a linearizable get answers; a wrong answer is an error, not a delay."""
    try:
        if cluster.name == "ours" and not cluster.ready(node):
            return False
        request = cluster.dialect.get(key_of(number))
        status, body = call(node.client_port, request, timeout_s=10)
    except Unreachable:
        return False
    if status not in (200, 404):
        return False
    if status == 404 or cluster.dialect.value_in(body) != value_of(number, 0):
        raise LoadFailed(
            f"{cluster.name} has no such value for key {number}: {status} {body[:80]!r}"
        )
    return True


def restart(cluster: BenchCluster, keys: int) -> Start:
    """kill -9, run again, wait until it serves, and check that keys survived."""
    node = cluster.nodes[0]
    cluster.kill()
    begun = time.monotonic()
    cluster.start()
    wait(lambda: serves(cluster, node, 0), cluster)
    ready_s = time.monotonic() - begun
    (pid,) = cluster.pids()
    anonymous_mb, file_mb = resident_mb(pid)
    verify(cluster, keys)
    return Start(ready_s, anonymous_mb, file_mb)


def verify(cluster: BenchCluster, keys: int) -> None:
    """Read the last key and random others; `serves` raises on a missing or wrong value."""
    for number in [keys - 1, *random.sample(range(keys), min(keys, 500))]:
        if not serves(cluster, cluster.nodes[0], number):
            raise LoadFailed(f"{cluster.name} does not answer for key {number}")


def wait(condition: Callable[[], bool], cluster: BenchCluster) -> None:
    """Poll until the condition holds. Raises ClusterFailed or TimeoutError."""

    def look() -> bool:
        cluster.check_alive()
        return condition()

    eventually(look, f"{cluster.name} serves", READY_S_MAX, poll_s=0.005)


def examine(kind: type[BenchCluster], directory: Path, keys: int, restarts: int) -> StartupOutcome:
    """Load one system and restart it several times."""
    with kind(directory, size=1) as cluster:
        cluster.start()
        cluster.wait_ready()
        load_s = fill(cluster, keys)
        verify(cluster, keys)  # before the crash, so that a key missing later was lost by it
        say(f"{cluster.name}: {keys:,} keys loaded in {load_s:.1f} s")
        starts = []
        for _ in range(restarts):
            starts.append(restart(cluster, keys))
            say(f"{cluster.name}: {starts[-1]}")
        return StartupOutcome(load_s, sum(disk_mb(cluster.nodes[0].data_dir).values()), starts)


def render(head: list[str], outcomes: dict[str, StartupOutcome]) -> str:
    """The report, in markdown."""
    columns = {
        "ready s": [o.middle("ready_s") for o in outcomes.values()],
        "RssAnon MB": [o.middle("anonymous_mb") for o in outcomes.values()],
        "RssFile MB": [o.middle("file_mb") for o in outcomes.values()],
        "disk MB": [o.disk_mb for o in outcomes.values()],
        "load s": [o.load_s for o in outcomes.values()],
    }
    rows = [
        [name, *(f"{figures[i]:,.2f}" for figures in columns.values())]
        for i, name in enumerate(outcomes)
    ]
    if len(outcomes) == 2:
        rows.append(["ours / etcd", *(ratio(*figures) for figures in columns.values())])
    notes = "Load times: ours takes 1,000 puts in a batch, etcd 100 in a transaction."
    lines = "\n".join(f"- {line}" for line in head)
    body = table(["system", *columns], rows)
    return f"# From kill -9 to serving\n\n{lines}\n\n{body}\n\n{notes}\n"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="From kill -9 to serving.")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--directory", type=Path, help="parent of the temporary data directory")
    parser.add_argument("--output", type=Path, help="default: a new file in benchmarks/results/")
    return parser.parse_args()


def main() -> int:
    """Examine each system in turn; 1 when one fails or loses a key."""
    options = parse()
    outcomes: dict[str, StartupOutcome] = {}
    try:
        with workspace(options.directory) as directory:
            head = [
                f"Machine: {machine()}; data on {filesystem_of(directory)}.",
                f"{options.keys:,} keys of 256-byte values, one node, medians of "
                f"{options.restarts} restarts after kill -9, page cache warm.",
            ]
            for name in options.systems:
                kind = SYSTEMS[name]
                outcomes[name] = examine(kind, directory, options.keys, options.restarts)
    except KeyboardInterrupt:
        say("interrupted; every process is ended")
        return 130
    except (ClusterFailed, LoadFailed, TimeoutError) as error:
        say(f"FAILED: {error}")
        return 1
    text = render(head, outcomes)
    say("\n" + text)
    publish(text, "startup", options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
