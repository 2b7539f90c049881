"""Throughput, memory and files with few keys and with many, side by side.

python -m benchmarks.growth [--keys 10000 1000000] [--rounds 3] [--seconds 4] [--directory DIR]

A cluster of three nodes for each number of keys; all of them run, and are measured in turns. Ten
million keys take some 10 GB below DIR and, on two cores, a quarter of an hour to write.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.clients.load import LoadFailed, best_client
from benchmarks.comparison import Effort
from benchmarks.parts import growth
from benchmarks.parts.plan import BenchPlan
from benchmarks.shared.probe import Unreachable
from benchmarks.shared.procfs import machine
from benchmarks.shared.session import say, workspace
from benchmarks.systems.clusters import ClusterFailed


def main(arguments: list[str] | None = None) -> int:
    """Measure, and tell; 1 if anything failed."""
    parser = argparse.ArgumentParser(description="Few keys and many.")
    parser.add_argument("--keys", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--directory", type=Path, help="parent of the temporary data directory")
    options = parser.parse_args(arguments)
    effort = Effort(options.rounds, options.seconds, best_client())
    say(machine())
    try:
        with workspace(options.directory) as directory:
            found = growth.run(BenchPlan(directory, effort, 0.0, ("ours",)), tuple(options.keys))
    except (ClusterFailed, LoadFailed, Unreachable, TimeoutError) as error:
        say(f"FAILED: {error}")
        return 1
    say(f"\n{found.text}")
    for problem in found.problems:
        say(f"FAILED: {problem}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
