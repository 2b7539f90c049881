"""The checker of linearizability against registers that run, honest and faulty, small and large."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proof.histories.history import (
    Call,
    CallRecord,
    CompareAndDelete,
    CompareAndPut,
    Get,
)
from proof.histories.linearizability import check
from tests.support.registers import Fault, run_register


@given(
    st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 8), st.integers(1, 3), st.floats(0, 1)
)
@settings(max_examples=300)
def test_a_register_is_always_linearizable(
    seed: int, operations: int, clients: int, keys: int, unknown: float
) -> None:
    history = run_register(random.Random(seed), operations, clients, keys, unknown)
    verdict = check(history)
    assert verdict.linearizable, verdict.describe()


def stale(rng: random.Random, past: list[str | None], call: Call) -> str | None:
    """Now and then a read is answered from before the last few writes."""
    is_old = isinstance(call, Get) and len(past) > 9 and rng.random() < 0.02
    return past[-9] if is_old else past[-1]


def lost(rng: random.Random, past: list[str | None], call: Call) -> str | None:
    """Now and then the last write is forgotten after it was answered."""
    if len(past) > 1 and rng.random() < 0.01:
        del past[-1]
    return past[-1]


def blind(rng: random.Random, past: list[str | None], call: Call) -> str | None:
    """Conditions are judged by an old value now and then."""
    is_old = isinstance(call, CompareAndPut | CompareAndDelete) and rng.random() < 0.1
    return past[-2] if is_old and len(past) > 1 else past[-1]


def revived(rng: random.Random, past: list[str | None], call: Call) -> str | None:
    """A deleted value is there again now and then."""
    if len(past) > 1 and past[-1] is None and rng.random() < 0.05:
        past.append(past[-2])
    return past[-1]


@pytest.mark.parametrize(
    "fault",
    [blind, revived, *(pytest.param(f, marks=pytest.mark.proof) for f in (stale, lost))],
)
def test_faulty_registers_are_found(fault: Fault) -> None:
    found = 0
    for seed in range(20):
        history = run_register(random.Random(seed), 600, 2, 1, 0.02, fault)
        verdict = check(history)
        assert not verdict.undecided and all(failure.exact for failure in verdict.failures)
        found += not verdict.linearizable
    # Now and then all faults of a run fall where calls at the same time excuse them.
    assert found >= 15, found


@pytest.mark.parametrize(
    ("operations", "clients", "keys", "unknown"),
    [
        (2_000, 8, 2, 0.02),
        (2_000, 30, 1, 0.01),
        pytest.param(4_000, 30, 5, 0.03, marks=pytest.mark.proof),
        pytest.param(20_000, 30, 5, 0.03, marks=pytest.mark.proof),
        pytest.param(20_000, 8, 2, 0.02, marks=pytest.mark.proof),
        pytest.param(4_000, 30, 1, 0.01, marks=pytest.mark.proof),
    ],
)
def test_large_histories(operations: int, clients: int, keys: int, unknown: float) -> None:
    history = run_register(random.Random(1), operations, clients, keys, unknown)
    assert sum(o.returned_s is None for o in history) > operations * unknown / 2
    verdict = check(history)
    assert verdict.linearizable, verdict.describe()
    # One stale read near the end is found among all these.
    broken, spoiled = spoil(history)
    assert [failure.unplaced for failure in check(broken).failures] == [spoiled]


def spoil(history: list[CallRecord]) -> tuple[list[CallRecord], CallRecord]:
    """The last read that saw a value now returns the first one that was ever read; that read."""
    reads = [o for o in history if isinstance(o.call, Get) and o.answer and o.answer.value]
    reads.sort(key=lambda o: o.called_s)
    last = reads[-1]
    old = next(o for o in reads if o.key == last.key)
    spoiled = replace(last, answer=old.answer)
    return [spoiled if o is last else o for o in history], spoiled
