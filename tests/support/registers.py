"""Registers that run at random, and what an operation of a history looks like."""

import random
from collections.abc import Callable
from dataclasses import replace

from proof.histories.history import (
    Call,
    CallRecord,
    CompareAndDelete,
    CompareAndPut,
    DeleteCall,
    Get,
    PutCall,
    Returned,
)

UNKNOWN = None


def op(
    start: float,
    end: float | None,
    call: Call,
    answer: Returned | str | bool | None = None,
    key: str = "k",
) -> CallRecord:
    """An operation from `start` to `end` (None: outcome unknown). `answer`: what a read returned,
    or whether a condition held."""
    if end is not None and not isinstance(answer, Returned):
        held = answer is not False
        answer = Returned(value=answer if isinstance(answer, str) else None, held=held)
    assert not isinstance(answer, str | bool)
    return CallRecord(int(start), key, call, start, end, answer)


def apply(call: Call, value: str | None) -> tuple[str | None, Returned]:
    """What `call` leaves of `value`, and its answer. Written for this test alone."""
    match call:
        case Get():
            return value, Returned(value=value)
        case PutCall(new):
            return new, Returned()
        case DeleteCall():
            return None, Returned(held=value is not None)
        case CompareAndPut(expected, new) if expected == value:
            return new, Returned()
        case CompareAndDelete(expected) if expected == value:
            return None, Returned()
    return value, Returned(held=False)


def random_call(rng: random.Random, new: str, known: list[str]) -> Call:
    old = rng.choice(known) if known else None
    kind = rng.choices(range(6), (5, 4, 2, 2, 1, 1))[0]
    if kind == 4 or (old is None and kind > 2):
        return CompareAndPut(None, new)
    calls: list[Call] = [Get(), PutCall(new), DeleteCall()]
    if old is not None:
        calls += [CompareAndPut(old, new), Get(), CompareAndDelete(old)]
    return calls[kind]


Fault = Callable[[random.Random, list[str | None], Call], str | None]
"""What a faulty register takes for the present value, given all values it ever had."""


def run_register(
    rng: random.Random,
    operations: int,
    clients: int,
    keys: int = 1,
    unknown: float = 0.1,
    fault: Fault | None = None,
) -> list[CallRecord]:
    """Clients that work one call after another, each taking effect at a random instant between
    call and return. Calls of unknown outcome take effect late, or never."""
    free = [rng.random() for _ in range(clients)]
    names = [f"key {n}" for n in range(keys)]
    written: dict[str, list[str]] = {name: [] for name in names}
    calls = []
    for number in range(operations):
        client = min(range(clients), key=free.__getitem__)
        key, start = rng.choice(names), free[client]
        end = free[client] = start + rng.expovariate(1)
        call = random_call(rng, f"v{number}", written[key][-4:])
        if isinstance(call, PutCall | CompareAndPut):
            written[key].append(call.value)
        known = rng.random() >= unknown
        at = rng.uniform(start, end) if known else start + rng.expovariate(0.1)
        if not known and rng.random() < 0.4:
            at = float("inf")
        calls.append((at, CallRecord(client, key, call, start, end if known else None)))
    calls.sort(key=lambda pair: pair[0])
    values: dict[str, list[str | None]] = {name: [None] for name in names}
    history = []
    for at, operation in calls:
        answer = None
        if at < float("inf"):
            past = values[operation.key]
            present = past[-1] if fault is None else fault(rng, past, operation.call)
            value, answer = apply(operation.call, present)
            if value != present or isinstance(operation.call, PutCall):
                past.append(value)
        done = operation.returned_s is not None
        history.append(replace(operation, answer=answer if done else None))
    rng.shuffle(history)
    return history
