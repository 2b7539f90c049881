"""`make bench` and `make bench-full`.

python -m benchmarks [--only NAME...] [--rounds 5] [--seconds 2] [--minutes 6]
python -m benchmarks --full [--only PART...] [--minutes 10]
python -m benchmarks --profile [--seconds 10]

The first prints the README's table, in at most six minutes; names are those of
`benchmarks.scenarios`. The second measures much more, part by part (`benchmarks.parts`), and writes
Markdown, JSON and plots to `benchmarks/results/`. The third says where the time of a put goes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import comparison, full, put_profile
from benchmarks.clients.load import LoadFailed, best_client
from benchmarks.comparison import SYSTEMS, Effort
from benchmarks.parts.plan import BenchPlan
from benchmarks.report import render, summary
from benchmarks.scenarios import EVERY, SIDE_BY_SIDE, STEADY_WRITES, find
from benchmarks.shared.probe import Unreachable
from benchmarks.shared.procfs import facts
from benchmarks.shared.session import publish, say, workspace
from benchmarks.systems.clusters import ClusterFailed

BENCH_MINUTES_MAX, LONG_MINUTES = 6.0, 10.0
STARTS_S = 30.0
"""What of these minutes starts and ends of processes may take."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure.")
    found.add_argument("--full", action="store_true", help="all parts, with plots: half an hour")
    found.add_argument("--profile", action="store_true", help="where the time of a put goes")
    found.add_argument("--only", nargs="+", default=[], metavar="NAME", help="scenarios, or parts")
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    found.add_argument(
        "--minutes", type=float, default=0.0,
        help=f"no more rounds after so many ({BENCH_MINUTES_MAX:g}); with --full: the length of "
        f"what is long ({LONG_MINUTES:g})",
    )  # fmt: skip
    found.add_argument("--writes", type=int, default=STEADY_WRITES, help="before measuring")
    found.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    found.add_argument("--client", choices=["wrk", "raw"], default=best_client())
    found.add_argument("--directory", type=Path, help="parent of the temporary data directory")
    found.add_argument("--output", type=Path, help="default: a new file in benchmarks/results/")
    return found


def check_names(options: argparse.Namespace, of: argparse.ArgumentParser) -> None:
    """Leave with 2, and say what there is, at a name that nobody has."""
    known = list(full.PARTS) if options.full else [scenario.name for scenario in EVERY]
    if unknown := sorted(set(options.only) - set(known)):
        of.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(known)}")


def effort_of(options: argparse.Namespace) -> Effort:
    """How much is measured."""
    limit_s = (options.minutes or BENCH_MINUTES_MAX) * 60 - STARTS_S
    limit_s = math.inf if options.full else limit_s
    return Effort(options.rounds, options.seconds, options.client, options.writes, limit_s)


def side_by_side(options: argparse.Namespace, directory: Path) -> bool:
    """The README's table; whether every figure can be believed."""
    scenarios = find(options.only) if options.only else list(SIDE_BY_SIDE)
    machine = facts(directory)
    found = comparison.compare(scenarios, effort_of(options), directory, options.systems)
    publish(render(found), "bench", options.output, {"machine": machine, **found.as_json()})
    say("\n" + "\n".join(found.head) + "\n\n" + summary(found))
    return not found.problems


def everything(options: argparse.Namespace, directory: Path) -> bool:
    """All parts, or those that are wanted."""
    long_s = (options.minutes or LONG_MINUTES) * 60
    plan = BenchPlan(directory, effort_of(options), long_s, tuple(options.systems))
    return full.run(plan, options.only, options.output)


def profile(options: argparse.Namespace, directory: Path) -> bool:
    """Where the time of a put goes."""
    found = put_profile.run(directory, max(options.seconds, 5.0), options.client, options.writes)
    say("\n" + found.text)
    return not found.failed


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 when a figure cannot be believed."""
    command_line = parser()
    options = command_line.parse_args(arguments)
    check_names(options, command_line)
    run: Callable[[argparse.Namespace, Path], bool] = side_by_side
    if options.full or options.profile:
        run = everything if options.full else profile
    try:
        with workspace(options.directory) as directory:
            return 0 if run(options, directory) else 1
    except KeyboardInterrupt:
        say("interrupted; every process is ended")
        return 130
    except (ClusterFailed, LoadFailed, Unreachable, TimeoutError) as error:
        say(f"FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
