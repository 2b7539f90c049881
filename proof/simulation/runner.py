"""Many seeds: over several processes, with a summary of each and the sum of all."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from proof.simulation.cluster.fault_plan import FAULTS
from proof.simulation.cluster.scenario import Scenario, draw
from proof.simulation.cluster.world import RunOutcome, run
from proof.simulation.judge.coverage import EVENTS

SEEDS_PER_TASK = 8


@dataclass(frozen=True)
class Swarm:
    """Which scenarios seeds stand for: `nodes` members (None: drawn too), these kinds of faults."""

    nodes: int | None = None
    kinds: tuple[str, ...] = FAULTS

    def draw(self, seed: int) -> Scenario:
        """Raises InvalidArgument if none of the kinds can happen to so few nodes."""
        return draw(seed, self.nodes, self.kinds)


@dataclass(frozen=True)
class Summary:
    """One run, small enough to be sent between processes."""

    seed: int
    complaint: str
    digest: str
    virtual_s: float
    messages: int
    answered: int
    unanswered: int
    reached: Counter[str]


def summarize(seed: int, outcome: RunOutcome) -> Summary:
    """Without its trace."""
    return Summary(
        seed,
        str(outcome.violations[0]) if outcome.violations else "",
        outcome.digest,
        outcome.virtual_s,
        outcome.messages,
        outcome.answered,
        outcome.unanswered,
        outcome.reached,
    )


@dataclass
class Total:
    """What many runs add up to."""

    runs: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    messages: int = 0
    answered: int = 0
    unanswered: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    runs_reaching: Counter[str] = field(default_factory=Counter)
    failed: list[Summary] = field(default_factory=list)

    def add(self, summary: Summary) -> None:
        self.runs += 1
        self.virtual_s += summary.virtual_s
        self.messages += summary.messages
        self.answered += summary.answered
        self.unanswered += summary.unanswered
        self.reached.update(summary.reached)
        self.runs_reaching.update(summary.reached.keys())
        if summary.complaint:
            self.failed.append(summary)

    def table(self) -> list[str]:
        """Every named event: how often it was reached, and in how many runs."""
        width = max(map(len, EVENTS))
        head = f"{'event':{width}}  {'reached':>9}  {'in runs':>8}"
        rows = [
            f"{name:{width}}  {self.reached[name]:9}  {self.runs_reaching[name]:8}"
            for name in EVENTS
        ]
        return [head, *rows]


def run_seeds(swarm: Swarm, seeds: Collection[int]) -> list[Summary]:
    """One after the other, in this process."""
    return [summarize(seed, run(swarm.draw(seed))) for seed in seeds]


def run_many(
    swarm: Swarm,
    seeds: Iterable[int],
    *,
    jobs: int,
    until: Callable[[Total], bool],
    progress: Callable[[Total], None],
) -> Total:
    """Run `seeds` in `jobs` processes until they end or `until(total)`; called after each task."""
    total, began = Total(), time.monotonic()
    tasks = _chunks(iter(seeds))
    work = partial(run_seeds, swarm)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running: set[Future[list[Summary]]] = set()
        try:
            while True:
                for chunk in islice(tasks, 2 * jobs - len(running)):
                    running.add(pool.submit(work, chunk))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    for summary in future.result():
                        total.add(summary)
                total.real_s = time.monotonic() - began
                progress(total)
                if until(total):
                    break
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    total.failed.sort(key=lambda summary: summary.seed)
    return total


def _chunks(seeds: Iterator[int]) -> Iterator[list[int]]:
    while chunk := list(islice(seeds, SEEDS_PER_TASK)):
        yield chunk
