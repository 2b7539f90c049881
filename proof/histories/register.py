"""One key as a register: what each call asks of its value and leaves there, ready for the search.

Every call is a step: enabled if the value is (or is not) a certain one, and leaving another, or the
same. Since written values are unique, a good deal is known about the order before any search:

- Who saw a value came after its write. So a write took effect before the first return of those who
  saw it, and none of them took effect before the write was called: intervals are narrowed so. They
  stand for the same orders, for an order is possible exactly if each step can be given a point in
  its interval such that the points never go back.
- A write of unknown outcome that somebody saw took effect, and before that first return: it is
  known after all. Only the unseen ones stay optional: they may take effect at any time, or never.
- A value that no call asks about is one like any other such: they share one state, `OTHER`.
- A read of unknown outcome, or an optional step that asks for a value nobody writes, does nothing.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proof.histories.history import (
    Call,
    CallRecord,
    CompareAndDelete,
    CompareAndPut,
    DeleteCall,
    Get,
    PutCall,
)

ABSENT = 0
"""The state of a key that is not there. States are small integers."""
OTHER = 1
"""Some value that no call asks about."""
_FIRST_VALUE = 2
_NO_STATE = -1


@dataclass(slots=True, eq=False)
class Step:
    """What `operation` does: nothing unless `(state == operand) is equal`; then the state is
    `result`, or what it was if that is None.

    It takes effect between `called` and `deadline_s`, both in seconds; an optional one has no
    deadline.
    """

    operation: CallRecord
    called: float
    deadline_s: float
    equal: bool
    operand: int
    result: int | None

    def enabled(self, state: int) -> bool:
        """Whether the step can be taken in `state` with the answer it was given."""
        return (state == self.operand) is self.equal

    @property
    def effect(self) -> tuple[bool, int, int | None]:
        """Steps of the same effect are told apart by their intervals only."""
        return self.equal, self.operand, self.result


@dataclass(frozen=True, slots=True)
class Steps:
    """The history of one key. `required` and `optional` are in the order of `called`.

    `impossible`: some required step has an empty interval or saw what was never written.
    """

    required: list[Step]
    optional: list[Step]
    impossible: bool


def steps_of(operations: Iterable[CallRecord]) -> Steps:
    """The steps of operations on one key.

    Raises ValueError if two of them write the same value, or if times make no sense.
    """
    steps = _translate(operations)
    writers = _writers(steps)
    _narrow_deadlines(steps, writers)
    _narrow_calls(steps, writers)
    impossible = False
    required, optional = [], []
    for step in steps:
        unwritten = step.equal and step.operand >= _FIRST_VALUE and step.operand not in writers
        if step.deadline_s < math.inf:
            required.append(step)
            impossible |= unwritten or step.called > step.deadline_s
        elif not unwritten:
            optional.append(step)
    _merge_unasked(steps)
    required.sort(key=lambda step: (step.called, step.deadline_s))
    optional.sort(key=lambda step: step.called)
    return Steps(required, optional, impossible)


def written_by(operation: CallRecord) -> str | None:
    """The value that `operation` writes if it takes effect; None if it writes none."""
    call = operation.call
    return call.value if isinstance(call, PutCall | CompareAndPut) else None


def seen_by(operation: CallRecord) -> str | None:
    """The value that the key must have held when `operation` took effect, if it says so."""
    call, answer = operation.call, operation.answer
    if answer is None:
        return None
    if isinstance(call, Get):
        return answer.value
    if isinstance(call, CompareAndPut | CompareAndDelete) and answer.held:
        return call.expected
    return None


def _translate(operations: Iterable[CallRecord]) -> list[Step]:
    numbers: dict[str | None, int] = {None: ABSENT}

    def number(value: str | None) -> int:
        return numbers.setdefault(value, len(numbers) - 1 + _FIRST_VALUE)

    steps, values = [], set()
    for operation in operations:
        _require_sense(operation)
        if (value := written_by(operation)) is not None:
            if value in values:
                raise ValueError(f"{value!r} is written twice: {operation}")
            values.add(value)
        if operation.answer is None and isinstance(operation.call, Get):
            continue
        returned = math.inf if operation.returned_s is None else operation.returned_s
        steps.append(Step(operation, operation.called_s, returned, *_effect(operation, number)))
    return steps


def _require_sense(operation: CallRecord) -> None:
    if (operation.returned_s is None) != (operation.answer is None):
        raise ValueError(f"an answer and its time come together: {operation}")
    returned = operation.called_s if operation.returned_s is None else operation.returned_s
    if not (math.isfinite(returned) and operation.called_s <= returned):
        raise ValueError(f"a call returns after it was made, at finite times: {operation}")


def _effect(
    operation: CallRecord, number: Callable[[str | None], int]
) -> tuple[bool, int, int | None]:
    """`equal`, `operand` and `result`. A write of unknown outcome does nothing unless it holds."""
    held = operation.answer is None or operation.answer.held
    match operation.call:
        case Get():
            assert operation.answer is not None
            return True, number(operation.answer.value), None
        case PutCall(value):
            return False, _NO_STATE, number(value)
        case DeleteCall():
            return (False, ABSENT, ABSENT) if held else (True, ABSENT, None)
        case CompareAndPut(expected, value):
            operand = number(expected)
            return (True, operand, number(value)) if held else (False, operand, None)
        case CompareAndDelete(expected):
            operand = number(expected)
            return (True, operand, ABSENT) if held else (False, operand, None)


def _writers(steps: list[Step]) -> dict[int, Step]:
    return {
        step.result: step
        for step in steps
        if step.result is not None and step.result >= _FIRST_VALUE
    }


def _narrow_deadlines(steps: list[Step], writers: dict[int, Step]) -> None:
    """A write takes effect before the first return of those who saw its value."""
    queue = deque(step for step in steps if step.deadline_s < math.inf)
    while queue:
        step = queue.popleft()
        writer = writers.get(step.operand) if step.equal else None
        if writer is not None and step.deadline_s < writer.deadline_s:
            writer.deadline_s = step.deadline_s
            queue.append(writer)


def _narrow_calls(steps: list[Step], writers: dict[int, Step]) -> None:
    """Those who saw a value take effect after its write was called."""
    seers: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        if step.equal and step.operand in writers:
            seers[step.operand].append(step)
    queue = deque(writers.values())
    while queue:
        writer = queue.popleft()
        assert writer.result is not None
        for step in seers[writer.result]:
            if step.called < writer.called:
                step.called = writer.called
                if step.result in writers:
                    queue.append(step)


def _merge_unasked(steps: list[Step]) -> None:
    asked = {step.operand for step in steps}
    for step in steps:
        if step.result is not None and step.result >= _FIRST_VALUE and step.result not in asked:
            step.result = OTHER


def line(operation: CallRecord) -> str:
    """`operation` for people: when, who, what and the answer."""
    returned = operation.returned_s
    end = "no answer" if returned is None else f"{returned:.6f} s"
    text = f"{_call_text(operation.call)} -> {_answer_text(operation)}"
    return f"{operation.called_s:.6f} s to {end}: client {operation.client}: {text}"


def _call_text(call: Call) -> str:
    match call:
        case Get():
            return "get"
        case PutCall(value):
            return f"put {value!r}"
        case DeleteCall():
            return "delete"
        case CompareAndPut(expected, value):
            return f"put {value!r} if {'absent' if expected is None else repr(expected)}"
        case CompareAndDelete(expected):
            return f"delete if {expected!r}"


def _answer_text(operation: CallRecord) -> str:
    answer = operation.answer
    if answer is None:
        return "outcome unknown"
    match operation.call:
        case Get():
            return "absent" if answer.value is None else repr(answer.value)
        case PutCall():
            return "done"
        case DeleteCall():
            return "done" if answer.held else "nothing there"
        case _:
            return "done" if answer.held else "condition not held"
