"""Is a history linearizable: could every call have taken effect at one instant between call and
return, one after another?

- Each key is judged by itself: a history is linearizable if every object's part of it is (locality;
  Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990, §3.3).
- A key's operations are put in order one by one, each among those that no other must precede, going
  back where that leads nowhere (Wing and Gong, "Testing and Verifying Concurrent Objects", 1993).
- A configuration, that is which operations are placed and the value they left, is never entered
  twice (Lowe, "Testing for Linearizability", 2017, §4; so does the checker Porcupine).

One operation precedes another if it returned strictly before the other was called. Writes of
unknown outcome may take effect at any time after the call, or never.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from proof.histories.history import CallRecord, CompareAndPut
from proof.histories.register import ABSENT, OTHER, Step, Steps, line, seen_by, steps_of, written_by

STATES_MAX = 300_000
"""Configurations to visit per key before giving up: about ten seconds and 150 MB."""
_EXPLAIN_FACTOR = 3
"""The explanation of a failure may visit so many times as many in all."""
_LINES_MAX = 24


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the operations on `key` are not linearizable.

    The history up to just before `unplaced` returned is linearizable, and `order` is how; with that
    return it is not. If `exact` is False, the search for the first such return was cut short, and
    an earlier one may be at fault. `window` is the operations that were under way meanwhile, or
    that wrote what `unplaced` saw.
    """

    key: str
    order: tuple[CallRecord, ...]
    unplaced: CallRecord
    window: tuple[CallRecord, ...]
    exact: bool

    def describe(self) -> str:
        """The failure as numbered lines for people."""
        return "\n".join(_failure_lines(self))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `check` found. `undecided` are the keys whose search was given up: neither is proved.

    `linearizable` says that all keys were searched and none failed. `states` counts the
    configurations visited.
    """

    linearizable: bool
    operations: int
    keys: int
    failures: tuple[Failure, ...]
    undecided: tuple[str, ...]
    states: int

    def describe(self) -> str:
        """The verdict for people: one line, and the failures below it."""
        name = "linearizable" if self.linearizable else "not proved linearizable"
        if self.failures:
            name = "NOT linearizable"
        lines = [f"{name}: {self.operations} operations on {self.keys} keys"]
        if self.undecided:
            keys = ", ".join(self.undecided)
            lines.append(f"undecided, the search was given up at its bound: {keys}")
        return "\n".join([*lines, *(failure.describe() for failure in self.failures)])


def check(operations: Iterable[CallRecord], states_max: int = STATES_MAX) -> Verdict:
    """Judge a history, visiting at most `states_max` configurations per key.

    Raises ValueError if two operations on a key write the same value, or if times make no sense.
    """
    by_key: dict[str, list[CallRecord]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    failures, undecided, states = [], [], 0
    for key, of_key in sorted(by_key.items()):
        search = _Search(steps_of(of_key), states_max)
        if search.run() is None:
            if search.given_up:
                undecided.append(key)
            else:
                failures.append(_explain(key, of_key, states_max))
        states += search.states
    return Verdict(
        linearizable=not failures and not undecided,
        operations=sum(map(len, by_key.values())),
        keys=len(by_key),
        failures=tuple(failures),
        undecided=tuple(undecided),
        states=states,
    )


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


class _Search:
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
            horizon = min(horizon, step.deadline)
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
        for number in sorted(movers, key=lambda number: self._steps[number].deadline):
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
            rank.append((stays, step.deadline))
        return rank


def _unwind(node: _Node) -> Iterator[CallRecord]:
    while node is not None:
        node, operation = node
        yield operation


@dataclass(slots=True)
class _Cut:
    """A history as it stood when the first `returns` calls had returned."""

    operations: list[CallRecord]
    by_return: list[CallRecord] = field(init=False)

    def __post_init__(self) -> None:
        returned = [o for o in self.operations if o.returned_s is not None]
        self.by_return = sorted(returned, key=_end)

    def at(self, returns: int) -> list[CallRecord]:
        """Calls that had not returned are of unknown outcome, later ones are left out."""
        if returns == 0:
            return []
        now = _end(self.by_return[returns - 1])
        late = {id(operation) for operation in self.by_return[returns:]}
        return [
            replace(o, returned_s=None, answer=None) if id(o) in late else o
            for o in self.operations
            if o.called_s <= now
        ]


def _end(operation: CallRecord) -> float:
    return math.inf if operation.returned_s is None else operation.returned_s


def _explain(key: str, operations: list[CallRecord], states_max: int) -> Failure:
    """Find the first return with which the history stops being linearizable.

    What is linearizable stays so if it is cut earlier, so halving finds it.
    """
    cut = _Cut(operations)
    budget = _EXPLAIN_FACTOR * states_max
    good, bad, order, exact = 0, len(cut.by_return), list[CallRecord](), True
    while bad - good > 1:
        middle = (good + bad) // 2
        search = _Search(steps_of(cut.at(middle)), min(budget, states_max))
        found = search.run()
        budget -= search.states
        if search.given_up:
            exact = False
            break
        if found is None:
            bad = middle
        else:
            good, order = middle, found
    unplaced = cut.by_return[bad - 1]
    return Failure(key, tuple(order), unplaced, _window(operations, unplaced), exact)


def _window(operations: list[CallRecord], unplaced: CallRecord) -> tuple[CallRecord, ...]:
    """What was under way while `unplaced` was, and who wrote what it saw. Calls without an answer
    are under way for ever: those made before are left out."""
    window = [
        o
        for o in operations
        if o is not unplaced
        and (
            (o.called_s <= _end(unplaced) and unplaced.called_s <= _last_known(o))
            or (written_by(o) is not None and written_by(o) == seen_by(unplaced))
        )
    ]
    return tuple(sorted(window, key=lambda o: o.called_s))


def _last_known(operation: CallRecord) -> float:
    return operation.called_s if operation.returned_s is None else operation.returned_s


def _failure_lines(failure: Failure) -> Iterator[str]:
    yield f"key {failure.key!r} is not linearizable"
    if failure.order:
        yield "  What had returned before can be explained, in this order:"
        hidden = max(0, len(failure.order) - _LINES_MAX)
        if hidden:
            yield f"        ({hidden} earlier operations are not shown)"
        for number, operation in enumerate(failure.order[hidden:], hidden + 1):
            yield f"  {number:>4}. {line(operation)}"
    if failure.exact:
        yield "  This one then has no place, in that order or any other:"
    else:
        yield "  By the time this one returned there is no order (the first such was not found):"
    yield f"  {len(failure.order) + 1:>4}. {line(failure.unplaced)}"
    yield f"        {_why(failure)}"
    if failure.window:
        yield "  Under way meanwhile, or the write of what it saw:"
        for operation in failure.window[:_LINES_MAX]:
            yield f"        {line(operation)}"
        if len(failure.window) > _LINES_MAX:
            yield f"        ({len(failure.window) - _LINES_MAX} more are not shown)"


def _why(failure: Failure) -> str:
    seen = seen_by(failure.unplaced)
    if seen is None:
        return "No order gives the key what this answer needs, between its call and its return."
    writer = next((o for o in failure.window if written_by(o) == seen), None)
    if writer is None:
        return f"Nobody wrote {seen!r}."
    if isinstance(writer.call, CompareAndPut) and writer.answer and not writer.answer.held:
        return f"The write of {seen!r} was answered with: condition not held."
    if writer.called_s > _end(failure.unplaced):
        return f"{seen!r} was written only later."
    return f"The key cannot have held {seen!r} between its call and its return."
