"""The search for an order of one key's operations; `proof.histories.linearizability` says whose.

Which configurations are visited, and which are left out without losing an order that matters.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proof.histories.history import CallRecord
from proof.histories.register import ABSENT, OTHER, Step, Steps

_Node = tuple["_Node", CallRecord] | None
"""The operations placed so far, the last one first."""


@dataclass(slots=True)
class _Config:
    """All required steps before number `base` are placed, and `base + i` if bit i of `placed` is.

    Counting from `base` keeps the sets as small as the concurrency, however long the history: at a
    quiescent point the set is empty. `used` are the optional steps placed, by number. `since` are
    the states that optional steps left since the last required one was placed.
    """

    base: int = 0
    placed: int = 0
    state: int = ABSENT
    used: int = 0
    since: tuple[int, ...] = ()
    node: _Node = None


class OrderSearch:
    """Depth first over the configurations of one key. Four rules keep them few; each loses no
    order that matters, so an exhausted search is a proof.

    Stay: a placeable step that would leave the state as it is, is placed at once. In any order
    that places it later it can be moved here: nothing else notices, and whoever had to precede it
    is placed already.

    Seen: a value cannot be overwritten while a required step that must see it is not placed, for
    a value is written only once.

    Late: an optional step is placed only right before a step that could not be placed without it
    (nor without those before it, if several follow each other). In an order with the fewest
    optional steps, and those as late as possible, every one is such: the step after it could
    otherwise be moved before it, or, if it writes, would leave the same state without it.

    Alike: values that no step left asks about are one state. Of several placeable steps of the same
    effect, the one with the first deadline is placed first, for exchanging the two puts neither out
    of its interval. Optional steps of the same effect are taken in the order of their calls. A
    configuration that has used up the same optional steps as one visited before, and others
    beside, is not entered.
    """

    def __init__(self, steps: Steps, states_max: int) -> None:
        self.states = 0
        self.given_up = False
        self._states_max = states_max
        self._impossible = steps.impossible
        self._steps = steps.required
        self._optional = steps.optional
        self._alike = self._find_alike()
        self._seers = self._find_bits(lambda step: step.equal)
        self._askers = self._find_bits(lambda step: True)
        self._asked_by_optional = {step.operand for step in steps.optional}
        self._rank = self._find_rank()
        self._visited: dict[tuple[int, int, int, tuple[int, ...]], list[int]] = {}

    def run(self) -> list[CallRecord] | None:
        """An order that explains every answer; None if there is none or the bound was reached."""
        if self._impossible:
            return None
        stack = [_Config()]
        while stack:
            config = stack.pop()
            movers, horizon = self._settle(config)
            if config.base == len(self._steps):
                return list(_unwind(config.node))[::-1]
            if not self._is_new(config):
                continue
            if self.states == self._states_max:
                self.given_up = True
                return None
            self.states += 1
            stack.extend(self._next(config, movers, horizon))
        return None

    def _settle(self, config: _Config) -> tuple[list[int], float]:
        """Place all steps that leave the state as it is. What else could be placed, by number, and
        the first deadline: no step called after it may come before the one it belongs to."""
        steps, base, state = self._steps, config.base, config.state
        movers: list[int] = []
        horizon = math.inf
        free = ~config.placed
        while True:
            bit = free & -free
            free ^= bit
            number = base + bit.bit_length() - 1
            if number >= len(steps):
                break
            step = steps[number]
            if step.called > horizon:
                break
            if step.enabled(state):
                if step.result is None:
                    config.placed |= bit
                    config.node = (config.node, step.operation)
                    config.since = ()
                    continue
                movers.append(number)
            horizon = min(horizon, step.deadline_s)
        done = (~config.placed & (config.placed + 1)).bit_length() - 1
        config.base += done
        config.placed >>= done
        config.state = self._merged(config, state) or ABSENT
        return movers, horizon

    def _is_new(self, config: _Config) -> bool:
        key = (config.base, config.placed, config.state, config.since)
        visited = self._visited.setdefault(key, [])
        if any(used & config.used == used for used in visited):
            return False
        visited.append(config.used)
        return True

    def _next(self, config: _Config, movers: list[int], horizon: float) -> Iterator[_Config]:
        """The configurations one step on, the most promising last."""
        owed = self._owed(config)
        if owed == 0:
            yield from self._next_optional(config, horizon)
        first: dict[tuple[bool, int, int | None], int] = {}
        for number in sorted(movers, key=lambda number: self._steps[number].deadline_s):
            equal, operand, result = self._steps[number].effect
            first.setdefault((equal, operand, self._merged(config, result)), number)
        for number in sorted(first.values(), key=self._rank.__getitem__, reverse=True):
            step, bit = self._steps[number], 1 << (number - config.base)
            if owed & ~bit or any(step.enabled(state) for state in config.since):
                continue
            assert step.result is not None
            yield _Config(
                config.base,
                config.placed | bit,
                step.result,
                config.used,
                (),
                (config.node, step.operation),
            )

    def _next_optional(self, config: _Config, horizon: float) -> Iterator[_Config]:
        since = (*config.since, config.state)
        for alike in (*self._alike[None], *self._alike.get(config.state, ())):
            number = next((n for n in alike if not config.used >> n & 1), None)
            if number is None:
                continue
            step = self._optional[number]
            if (
                step.called > horizon
                or not step.enabled(config.state)
                or step.result == config.state
                or any(step.enabled(state) for state in config.since)
            ):
                continue
            assert step.result is not None
            yield _Config(
                config.base,
                config.placed,
                step.result,
                config.used | 1 << number,
                since,
                (config.node, step.operation),
            )

    def _owed(self, config: _Config) -> int:
        """The steps, as bits from `base`, that must see the present value and are not placed."""
        return self._left(config, self._seers.get(config.state, (0, 0)))

    def _left(self, config: _Config, steps: tuple[int, int]) -> int:
        first, bits = steps
        shift = config.base - first
        return (bits >> shift if shift >= 0 else bits << -shift) & ~config.placed

    def _merged(self, config: _Config, state: int | None) -> int | None:
        """`OTHER` for a value that no step asks about any more."""
        if state is None or state <= OTHER or state in self._asked_by_optional:
            return state
        return state if self._left(config, self._askers.get(state, (0, 0))) else OTHER

    def _find_alike(self) -> dict[int | None, list[list[int]]]:
        """The optional steps of equal effect, in the order of their calls, by the state that they
        ask for; under None those that ask for no certain one."""
        alike: dict[tuple[bool, int, int | None], list[int]] = defaultdict(list)
        for number, step in enumerate(self._optional):
            alike[step.effect].append(number)
        by_state: dict[int | None, list[list[int]]] = {None: []}
        for (equal, operand, _), numbers in alike.items():
            by_state.setdefault(operand if equal else None, []).append(numbers)
        return by_state

    def _find_bits(self, chosen: Callable[[Step], bool]) -> dict[int, tuple[int, int]]:
        """For each value the required steps that ask for it, of those `chosen`: the number of the
        first, and all of them as bits counted from it."""
        found: dict[int, tuple[int, int]] = {}
        for number, step in enumerate(self._steps):
            if chosen(step) and step.operand > OTHER:
                first, bits = found.get(step.operand, (number, 0))
                found[step.operand] = first, bits | 1 << (number - first)
        return found

    def _find_rank(self) -> list[tuple[float, float]]:
        """What to try first: values that must stay for long come last, for everything that is due
        meanwhile comes before them; then the first deadline."""
        rank = []
        for step in self._steps:
            stays = -math.inf
            if step.result in self._seers:
                first, bits = self._seers[step.result]
                stays = self._steps[first + bits.bit_length() - 1].called
            rank.append((stays, step.deadline_s))
        return rank


def _unwind(node: _Node) -> Iterator[CallRecord]:
    while node is not None:
        node, operation = node
        yield operation
