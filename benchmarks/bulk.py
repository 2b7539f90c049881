"""Bulk writes: three nodes, whole batches of puts to all of them at once, by `POST /v1/batch`.

python -m benchmarks.bulk [--seconds 5] [--rounds 3] [--connections 12] [--keys 100000]
                          [--operations 1000] [--value-bytes 64]

Prints puts per second, and CPU in seconds per 1,000 puts, of each node and of the client.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from random import Random

from benchmarks.clients.load import Load, best_client, measure
from benchmarks.clients.traffic import OursDialect, key_of, value_of, write_requests
from benchmarks.shared.procfs import cpu_seconds, machine
from benchmarks.shared.session import say, workspace
from benchmarks.systems.clusters import OurBenchCluster

_REQUESTS = 100
"""Different batches; they are sent in random order."""


def batches(keys: int, operations: int, value_bytes: int) -> Iterator[bytes]:
    """Requests of so many puts each, of different random keys."""
    random = Random(1)
    for number in range(_REQUESTS):
        value = value_of(number, 0, value_bytes)
        chosen = random.sample(range(keys), operations)
        yield OursDialect().put_many((key_of(key), value) for key in chosen)


def main() -> int:
    """Press, and tell; 1 if anything failed."""
    parser = argparse.ArgumentParser(description="Bulk writes to three durable nodes.")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=12)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--value-bytes", type=int, default=64)
    options = parser.parse_args()
    failed = False
    say(machine())
    with workspace() as directory, OurBenchCluster(directory) as cluster:
        cluster.start()
        cluster.wait_ready()
        file = directory / "batches"
        write_requests(file, batches(options.keys, options.operations, options.value_bytes))
        leader = cluster.wait_leader()
        for number in range(options.rounds):
            load = Load(best_client(), options.connections, options.seconds, number)
            before = [cpu_seconds([pid]) for pid in cluster.pids()]
            sample = measure(load, [n.client_port for n in cluster.nodes], file, cluster.pids())
            used = [cpu_seconds([pid]) - s for pid, s in zip(cluster.pids(), before, strict=True)]
            cluster.check_alive()
            failed = failed or sample.failed
            puts = options.operations * max(sample.requests, 1)
            nodes = ", ".join(f"{seconds / puts * 1000:.4f}" for seconds in used)
            client = sample.client_cpu / options.operations
            say(
                f"{sample.per_s * options.operations:,.0f} puts/s, a batch p50 {sample.p50_ms:.0f} "
                f"ms, p99 {sample.p99_ms:.0f} ms; CPU s for 1,000 puts: nodes {nodes} (node "
                f"{leader.number} leads), client {client:.4f}; errors {sample.errors}"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
