"""`python -m proof.simulation.mutations`: every fault, what found it, how many seeds that took."""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from proof.simulation.mutations.measure import Measured, search_all
from proof.simulation.mutations.table import MUTATIONS, named

START_STEP = 1_000_000
SOUND_CHUNK = 50
"""Seeds of the sound build that one process runs."""


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m proof.simulation.mutations", description=__doc__
    )
    parser.add_argument("--starts", type=int, default=5, help="searches of each fault (5)")
    parser.add_argument("--seeds-max", type=int, default=500, help="a search gives up then (500)")
    parser.add_argument("--only", metavar="NAME", action="append", help="this fault only")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    return parser.parse_args(argv)


def row(name: str, searches: Sequence[Measured]) -> str:
    """One line of the table: the invariant that found it most often, and how many seeds it took."""
    found = [search.found for search in searches if search.found is not None]
    lost = len(searches) - len(found)
    if not found:
        return f"| {name} | NOT FOUND | | | |"
    invariant = Counter(one.violation.invariant for one in found).most_common(1)[0][0]
    seeds = [one.seeds for one in found]
    note = f" (NOT FOUND from {lost} starts)" if lost else ""
    first = min(one.seed for one in found)
    return f"| {name} | {invariant} | {median(seeds):g} | {max(seeds)}{note} | {first} |"


def _measure_all(names: list[str], starts: list[int], seeds_max: int, jobs: int) -> dict[int, int]:
    """Print the table; how many seeds from each start were needed. Raises SystemExit with 1 if
    not all were found."""
    searches: dict[str | None, list[Measured]] = defaultdict(list)
    needed: dict[int, int] = defaultdict(int)
    print("| fault | found by | median of seeds | most | a seed |", flush=True)
    print("|---|---|---:|---:|---:|", flush=True)
    for search in search_all(names, starts, seeds_max, jobs):
        of_this = searches[search.name]
        of_this.append(search)
        used = search.found.seeds if search.found is not None else seeds_max
        needed[search.start] = max(needed[search.start], used)
        if len(of_this) == len(starts):
            print(row(str(search.name), of_this), flush=True)
    missed = [name for name in names if any(s.found is None for s in searches[name])]
    if missed:
        raise SystemExit(f"not found from every start: {', '.join(missed)}")
    return needed


def _check_sound(needed: dict[int, int], jobs: int) -> None:
    """The build without any fault passes the same seeds. Raises SystemExit with 1 if not."""
    chunks = [
        s for start, count in needed.items() for s in range(start, start + count, SOUND_CHUNK)
    ]
    for search in search_all([None], chunks, SOUND_CHUNK, jobs):
        if search.found is not None:
            raise SystemExit(f"seed {search.found.seed} fails without any fault: {search.found}")
    print(f"The build without any fault passes those seeds, {len(chunks) * SOUND_CHUNK} in all.")


def main(argv: Sequence[str]) -> None:
    """Exit code 1 if a fault was not found from every start, or if the sound build fails."""
    arguments = _arguments(argv)
    names = [named(name).name for name in arguments.only or [m.name for m in MUTATIONS]]
    starts = [1 + n * START_STEP for n in range(arguments.starts)]
    needed = _measure_all(names, starts, arguments.seeds_max, arguments.jobs)
    _check_sound(needed, arguments.jobs)


if __name__ == "__main__":
    main(sys.argv[1:])
