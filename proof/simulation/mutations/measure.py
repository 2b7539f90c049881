"""How many seeds it takes to find a fault, and what finds it."""

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass

from proof.simulation.cluster.world import run
from proof.simulation.judge.invariants import Violation
from proof.simulation.mutations.edit import Mutation
from proof.simulation.mutations.table import named
from proof.simulation.runner import Swarm

SHOWS_NOTHING = "a run that shows nothing"
"""Fails a run, but does not count as finding a fault."""


@dataclass(frozen=True)
class Found:
    """A fault was found by the `seeds`-th seed from `start` on, which is `seed`."""

    seeds: int
    seed: int
    violation: Violation


DEFAULT = Swarm()


def violation_of(seed: int, swarm: Swarm = DEFAULT) -> Violation | None:
    """What `seed` finds in the build as it is now."""
    for violation in run(swarm.draw(seed)).violations:
        if violation.invariant != SHOWS_NOTHING:
            return violation
    return None


def measure(
    mutation: Mutation | None, start: int, seeds_max: int, swarm: Swarm = DEFAULT
) -> Found | None:
    """Try seeds from `start` on until one finds the fault; None: the build without any."""
    with mutation.apply() if mutation is not None else nullcontext():
        for seeds in range(1, seeds_max + 1):
            seed = start + seeds - 1
            violation = violation_of(seed, swarm)
            if violation is not None:
                return Found(seeds, seed, violation)
    return None


@dataclass(frozen=True)
class Measured:
    """One search: of which fault (None: the sound build), from where, and what came of it."""

    name: str | None
    start: int
    found: Found | None
    seconds: float


def _search(name: str | None, start: int, seeds_max: int) -> Measured:
    began = time.perf_counter()
    found = measure(named(name) if name is not None else None, start, seeds_max)
    return Measured(name, start, found, time.perf_counter() - began)


def search_all(
    names: Iterable[str | None], starts: Iterable[int], seeds_max: int, jobs: int
) -> Iterator[Measured]:
    """One search for each name and start, each in a process of its own, as they end."""
    context = multiprocessing.get_context("spawn")
    starts = list(starts)
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        searches = [
            pool.submit(_search, name, start, seeds_max) for name in names for start in starts
        ]
        for search in as_completed(searches):
            yield search.result()
