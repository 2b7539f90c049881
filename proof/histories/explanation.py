"""Why a history is not linearizable, for people: the first answer that no order explains."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from proof.histories.history import CallRecord, CompareAndPut
from proof.histories.register import line, seen_by, steps_of, written_by
from proof.histories.search import OrderSearch

_EXPLAIN_FACTOR = 3
"""The explanation of a failure may visit so many times as many configurations in all as the search
that found it."""
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


def explain(key: str, operations: list[CallRecord], states_max: int) -> Failure:
    """Find the first return with which the history stops being linearizable.

    What is linearizable stays so if it is cut earlier, so halving finds it.
    """
    cut = _Cut(operations)
    budget = _EXPLAIN_FACTOR * states_max
    good, bad, order, exact = 0, len(cut.by_return), list[CallRecord](), True
    while bad - good > 1:
        middle = (good + bad) // 2
        search = OrderSearch(steps_of(cut.at(middle)), min(budget, states_max))
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
