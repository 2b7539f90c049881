"""`python -m proof.museum`: the list; with a name, the fault is seen to fail, and ours to hold."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from proof.museum.exhibits import EXHIBITS, Exhibit, named
from proof.simulation.cli import recording_of
from proof.simulation.cluster.scenario import Scenario
from proof.simulation.cluster.world import RunOutcome, run
from proof.simulation.mutations.known import KNOWN
from proof.simulation.mutations.measure import SHOWS_NOTHING
from proof.simulation.mutations.table import named as mutation_named
from proof.simulation.tell.page import render
from proof.simulation.tell.story import story

SEEDS_MAX = 40
"""From the seed that is known on; scenarios may have changed since."""


def broken_run(exhibit: Exhibit, seeds_max: int = SEEDS_MAX) -> RunOutcome | None:
    """The first run in which the broken build fails, told; None if none of the seeds shows it."""
    mutation = mutation_named(exhibit.mutation)
    first, _, swarm = KNOWN[exhibit.mutation]
    for seed in range(first, first + seeds_max):
        with mutation.apply():
            outcome = run(swarm.draw(seed), keep_trace=True)
        if any(one.invariant != SHOWS_NOTHING for one in outcome.violations):
            return outcome
    return None


def sound_run(scenario: Scenario) -> RunOutcome:
    """The same scenario in the build as it is."""
    return run(scenario, keep_trace=True)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof.museum", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[one.name for one in EXHIBITS])
    parser.add_argument("--trace", type=Path, metavar="FILE", help="the failing run as a page")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """0 if the broken build fails and ours holds; 1 if not."""
    arguments = _arguments(argv)
    if arguments.name is None:
        for one in EXHIBITS:
            print(f"{one.name:<22} {one.title}\n{'':<22} {one.source}")
        return 0
    exhibit = named(arguments.name)
    print(f"{exhibit.title}\n{exhibit.source}\n\n{exhibit.text}\n")
    outcome = broken_run(exhibit)
    if outcome is None:
        print(f"no seed shows it: python -m proof.simulation.mutations --only {exhibit.mutation!r}")
        return 1
    print(f"The broken build ({exhibit.mutation}), seed {outcome.scenario.seed}:\n")
    print("\n".join(story(outcome)))
    if arguments.trace is not None:
        page = render(recording_of(outcome, f"python -m proof.museum {exhibit.name}"))
        arguments.trace.write_text(page, encoding="utf-8")
        print(f"\nThe picture: {arguments.trace}")
    sound = sound_run(outcome.scenario)
    print(f"\nThe same scenario in our build: {'it holds' if sound.ok else sound.violations[0]}.")
    return 0 if sound.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
