"""Where the leader's loop thread spends its time: three nodes under cProfile, one load.

python -m benchmarks.profile_leader [put|get] [--connections 64] [--seconds 5] [--rows 40]

cProfile slows Python code, not C code: read shares and call counts, not throughput.
"""

from __future__ import annotations

import argparse
import pstats
import sys

from benchmarks.clients.load import Load, best_client, measure
from benchmarks.clients.traffic import key_of, value_of, write_requests
from benchmarks.shared.session import say, workspace
from benchmarks.systems.clusters import OurBenchCluster, profile_of

_KEYS = 10_000


def main() -> int:
    """Load the leader, stop it cleanly, print its profile."""
    parser = argparse.ArgumentParser(description="Profile our leader under load.")
    parser.add_argument("op", nargs="?", choices=["put", "get"], default="put")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=40)
    options = parser.parse_args()
    with workspace() as directory, OurBenchCluster(directory, profile=True) as cluster:
        cluster.start()
        cluster.wait_ready()
        leader = cluster.wait_leader()
        spell, numbers = cluster.dialect, range(_KEYS)
        puts, gets = directory / "puts", directory / "gets"
        write_requests(puts, (spell.put(key_of(n), value_of(n, 0)) for n in numbers))
        write_requests(gets, (spell.get(key_of(n)) for n in numbers))
        load = Load(best_client(), options.connections, options.seconds)
        chosen = puts if options.op == "put" else gets
        say(str(measure(load, [leader.client_port], chosen, cluster.pids())))
        cluster.stop()
        pstats.Stats(str(profile_of(leader))).sort_stats("tottime").print_stats(options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
