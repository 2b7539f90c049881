"""The checker of linearizability says what trying all orders says."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proof.histories.history import (
    CallRecord,
    Get,
    PutCall,
    Returned,
)
from proof.histories.linearizability import check
from tests.support.registers import apply, random_call


def brute_force(history: list[CallRecord]) -> bool:
    """Whether some order of all answered calls, and of some of the others, explains the answers:
    by trying them all."""

    def search(left: list[CallRecord], value: str | None) -> bool:
        if all(o.returned_s is None for o in left):
            return True
        for chosen in left:
            rest = [o for o in left if o is not chosen]
            if any(o.returned_s is not None and o.returned_s < chosen.called_s for o in rest):
                continue
            after, answer = apply(chosen.call, value)
            if chosen.answer in (None, answer) and search(rest, after):
                return True
        return False

    return search(history, None)


def small_history(rng: random.Random, operations: int) -> list[CallRecord]:
    """A run of a register at small whole times, with up to two answers or intervals changed."""
    values = [f"v{n}" for n in range(operations)]
    calls = []
    for new in values:
        start = rng.randrange(8)
        end = start + rng.randrange(5)
        call = random_call(rng, new, values)
        known = rng.random() < 0.7
        at = rng.uniform(start, end if known else 14)
        calls.append((at, CallRecord(0, "k", call, start, end if known else None)))
    history, value = [], None
    for _, operation in sorted(calls, key=lambda pair: pair[0]):
        if operation.returned_s is None:
            if rng.random() < 0.6:
                value, _ = apply(operation.call, value)
            history.append(operation)
        else:
            value, answer = apply(operation.call, value)
            history.append(replace(operation, answer=answer))
    for _ in range(rng.randrange(3)):
        n = rng.randrange(len(history))
        history[n] = changed(rng, history[n], values)
    return history


def changed(rng: random.Random, operation: CallRecord, values: list[str]) -> CallRecord:
    if operation.answer is None or rng.random() < 0.3:
        start = rng.randrange(8)
        end = None if operation.answer is None else start + rng.randrange(5)
        return replace(operation, called_s=start, returned_s=end)
    if isinstance(operation.call, Get):
        return replace(operation, answer=Returned(value=rng.choice([None, *values])))
    if isinstance(operation.call, PutCall):
        return operation
    return replace(operation, answer=Returned(held=not operation.answer.held))


def assert_same_as_brute_force(history: list[CallRecord]) -> bool:
    expected = brute_force(history)
    verdict = check(history)
    assert not verdict.undecided
    assert verdict.linearizable is expected, [*history, verdict.describe()]
    return expected


@given(st.integers(0, 2**32), st.integers(1, 6))
@settings(max_examples=500)
def test_the_verdict_is_that_of_brute_force(seed: int, operations: int) -> None:
    assert_same_as_brute_force(small_history(random.Random(seed), operations))


@pytest.mark.proof
def test_the_verdict_is_that_of_brute_force_thousands_of_times() -> None:
    rng, verdicts = random.Random(7), Counter[bool]()
    for _ in range(6000):
        verdicts[assert_same_as_brute_force(small_history(rng, 6))] += 1
    assert min(verdicts.values()) > 1200, verdicts


def test_the_explanation_is_that_of_brute_force() -> None:
    """Before the return that is blamed, an order exists; with it, none."""
    rng, failures = random.Random(8), 0
    while failures < 400:
        history = small_history(rng, 6)
        for failure in check(history).failures:
            failures += 1
            returns = sorted({o.returned_s for o in history if o.returned_s is not None})
            blamed = failure.unplaced.returned_s
            assert blamed is not None and failure.exact
            assert not brute_force(until(history, blamed))
            assert all(brute_force(until(history, r)) for r in returns if r < blamed)


def until(history: list[CallRecord], now: float) -> list[CallRecord]:
    """What was known at `now`, returns of that instant included."""
    return [
        o
        if o.returned_s is None or o.returned_s <= now
        else replace(o, returned_s=None, answer=None)
        for o in history
        if o.called_s <= now
    ]
