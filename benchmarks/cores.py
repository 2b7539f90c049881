"""What the cores cost a command: how many one process applies, and what follows for more cores.

python -m benchmarks.cores [--seconds 5] [--connections 1 4] [--nodes 1 3]

Batches of 1,000 puts to the leader. CPU is counted by threads: apply, HTTP and links share the
loop's thread, of which no process has more than one. So on a machine on which every node has cores
of its own, the busiest loop bounds the cluster, whatever else is idle.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bulk import batches
from benchmarks.clients.load import Load, LoadFailed, best_client, measure
from benchmarks.clients.traffic import write_requests
from benchmarks.shared.probe import Unreachable
from benchmarks.shared.procfs import cpu_seconds, loop_cpu_seconds, machine
from benchmarks.shared.session import say, workspace
from benchmarks.shared.tables import table
from benchmarks.systems.clusters import ClusterFailed, OurBenchCluster

OPERATIONS = 1000
KEYS = 100_000
VALUE_BYTES = 64
WARM_S = 2.0


@dataclass(frozen=True)
class Costs:
    """Of one load: commands per second, and microseconds of CPU for each command."""

    nodes: int
    connections: int
    per_s: float
    leader_loop_us: float
    leader_us: float
    follower_loop_us: float
    all_us: float

    @property
    def loop_bound_per_s(self) -> float:
        """If every node had cores of its own."""
        return 1e6 / max(self.leader_loop_us, self.follower_loop_us)

    def cores_bound_per_s(self, cores: int) -> float:
        """If so many cores were all that is short."""
        return min(self.loop_bound_per_s, cores * 1e6 / self.all_us)


def press(cluster: OurBenchCluster, file: Path, connections: int, seconds: float) -> Costs:
    """Load the leader. Raises LoadFailed if anything is refused."""
    leader = cluster.wait_leader()
    others = [node.pid for node in cluster.nodes if node is not leader]

    def look() -> list[float]:
        loops = [loop_cpu_seconds(pid) for pid in (leader.pid, *others)]
        return [loops[0], cpu_seconds([leader.pid]), max(loops[1:], default=0.0)]

    measure(Load(best_client(), connections, WARM_S, 1), [leader.client_port], file, ())
    before = look()
    load = Load(best_client(), connections, seconds, 2)
    sample = measure(load, [leader.client_port], file, cluster.pids())
    used = [after - then for after, then in zip(look(), before, strict=True)]
    if sample.failed:
        raise LoadFailed(f"{sample.errors} errors in {sample.requests} requests")
    loop, whole, follower = (s / (sample.requests * OPERATIONS) * 1e6 for s in used)
    per_s = sample.per_s * OPERATIONS
    every = sample.server_cpu * 1000 / OPERATIONS
    return Costs(len(cluster.nodes), connections, per_s, loop, whole, follower, every)


def describe(found: list[Costs], cores: int) -> str:
    """The table, with what follows for a machine of so many cores."""
    head = ["nodes", "connections", "commands/s here", "leader's loop, us", "leader, us"]
    head += ["follower's loop, us", "all nodes, us", f"commands/s that {cores} cores allow"]
    return table(
        head,
        [
            [
                f"{c.nodes}", f"{c.connections}", f"{c.per_s:,.0f}", f"{c.leader_loop_us:.1f}",
                f"{c.leader_us:.1f}", f"{c.follower_loop_us:.1f}", f"{c.all_us:.1f}",
                f"{c.cores_bound_per_s(cores):,.0f}",
            ]
            for c in found
        ],
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, and tell; 1 if anything failed."""
    parser = argparse.ArgumentParser(description="CPU for a command, and what cores allow.")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--cores", type=int, default=8)
    options = parser.parse_args(arguments)
    found = []
    say(machine())
    try:
        with workspace() as directory:
            file = directory / "batches"
            write_requests(file, batches(KEYS, OPERATIONS, VALUE_BYTES))
            for nodes in options.nodes:
                with OurBenchCluster(directory / str(nodes), nodes) as cluster:
                    cluster.start()
                    cluster.wait_ready()
                    for connections in options.connections:
                        found.append(press(cluster, file, connections, options.seconds))
                        say(f"{found[-1]}")
    except (ClusterFailed, LoadFailed, Unreachable, TimeoutError) as error:
        say(f"FAILED: {error}")
        return 1
    say(f"\n{describe(found, options.cores)}\nAll cores here: {os.cpu_count()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
