"""Makes a failing scenario smaller: what can be left out without losing the failure is left out.

Greedy, as in delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
Input", 2002): halves first, then single parts, until nothing more can go. Every attempt is a whole
run from the same seed, so the result is a scenario that fails each time.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from proof.simulation.cluster.scenario import Scenario
from proof.simulation.cluster.world import RunOutcome, run
from proof.simulation.machine.paths import Conditions

T = TypeVar("T")

RUNS_MAX = 400


class Shrinker:
    """Shrinks one scenario. `runs` counts the attempts, at most `runs_max`."""

    def __init__(
        self,
        outcome: RunOutcome,
        runs_max: int = RUNS_MAX,
        attempt: Callable[[Scenario], RunOutcome] = run,
    ) -> None:
        assert outcome.violations, "nothing to shrink: the run is sound"
        self.invariant = outcome.violations[0].invariant
        self.outcome = outcome
        self.runs = 0
        self._runs_max = runs_max
        self._attempt = attempt

    def shrink(self) -> RunOutcome:
        """The smallest outcome found that breaks the same invariant."""
        progress = True
        while progress and self.runs < self._runs_max:
            found = [self._first(candidates) for candidates in _WAYS]
            progress = any(found)
        return self.outcome

    def _first(self, candidates: Callable[[Scenario], Iterator[Scenario]]) -> bool:
        """Take the first smaller scenario that still fails, as often as there is one."""
        found = False
        while True:
            for scenario in candidates(self.outcome.scenario):
                if self.runs >= self._runs_max:
                    return found
                self.runs += 1
                outcome = self._attempt(scenario)
                if outcome.violations and outcome.violations[0].invariant == self.invariant:
                    self.outcome, found = outcome, True
                    break
            else:
                return found


def _without(parts: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """Fewer parts: without one half, then without each one."""
    half = len(parts) // 2
    if half > 1:
        yield parts[:half]
        yield parts[half:]
    for i in range(len(parts)):
        yield parts[:i] + parts[i + 1 :]


def _fewer_faults(scenario: Scenario) -> Iterator[Scenario]:
    if len(scenario.faults) > 1:
        for faults in _without(scenario.faults):
            yield replace(scenario, faults=faults)


def _fewer_clients(scenario: Scenario) -> Iterator[Scenario]:
    if len(scenario.clients) > 1:
        for clients in _without(scenario.clients):
            yield replace(scenario, clients=clients)


def _fewer_operations(scenario: Scenario) -> Iterator[Scenario]:
    for i, client in enumerate(scenario.clients):
        for operations in (client.operations // 2, client.operations - 1):
            if 0 < operations < client.operations:
                fewer = replace(client, operations=operations)
                clients = (*scenario.clients[:i], fewer, *scenario.clients[i + 1 :])
                yield replace(scenario, clients=clients)


def _calmer(scenario: Scenario) -> Iterator[Scenario]:
    conditions = scenario.conditions
    calmer: list[Conditions] = [
        replace(conditions, loss=0.0),
        replace(conditions, repeat=0.0),
        replace(conditions, overtake=0.0),
        replace(conditions, tail_probability=0.0),
    ]
    for other in calmer:
        if other != conditions:
            yield replace(scenario, conditions=other)
    true = (1.0,) * scenario.nodes
    if scenario.clock_rates != true:
        yield replace(scenario, clock_rates=true)
    if scenario.watchers:
        yield replace(scenario, watchers=0)
    for others in ("holders", "bulk", "repeaters", "users"):
        if getattr(scenario, others):
            yield replace(scenario, **{others: ()})
    if scenario.administrators:
        yield replace(scenario, administrators=(), users=())
    if scenario.apply_s:
        yield replace(scenario, apply_s=0.0)
    if scenario.keys > 1:
        yield replace(scenario, keys=1)


_WAYS = (_fewer_faults, _fewer_clients, _fewer_operations, _calmer)
