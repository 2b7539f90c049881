"""The checker of linearizability: known histories, honest and faulty registers, and brute force."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from proof.histories.linearizability import check

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


A, B, C = PutCall("a"), PutCall("b"), PutCall("c")
GOOD: dict[str, list[CallRecord]] = {
    "nothing": [],
    "read of nothing": [op(0, 1, Get())],
    "write, then read": [op(0, 1, A), op(2, 3, Get(), "a")],
    "read during the write sees the old": [op(0, 5, A), op(1, 2, Get())],
    "read during the write sees the new": [op(0, 5, A), op(1, 2, Get(), "a")],
    "read of a write that returns later still": [op(0, 9, A), op(1, 2, Get(), "a"), op(3, 4, B)],
    "call at the instant of a return is concurrent": [op(0, 1, A), op(1, 2, Get())],
    "two writes at once, the first one stays": [op(0, 3, A), op(1, 2, B), op(4, 5, Get(), "a")],
    "unknown write never seen": [op(0, 1, A), op(2, UNKNOWN, B), op(3, 4, Get(), "a")],
    "unknown write seen late": [
        op(0, UNKNOWN, B),
        op(1, 2, A),
        op(3, 4, Get(), "a"),
        op(90, 91, Get(), "b"),
    ],
    "unknown delete seen late": [
        op(0, 1, A),
        op(2, UNKNOWN, DeleteCall()),
        op(3, 4, Get(), "a"),
        op(5, 6, Get()),
    ],
    "unknown write seen by a delete only": [op(0, UNKNOWN, A), op(1, 2, DeleteCall(), True)],
    "unknown write seen by a failed condition only": [
        op(0, 1, A),
        op(2, UNKNOWN, B),
        op(3, 4, CompareAndPut("a", "c"), False),
    ],
    "unknown write, then unknown conditional write on top": [
        op(0, UNKNOWN, A),
        op(1, UNKNOWN, CompareAndPut("a", "b")),
        op(2, 3, Get()),
        op(4, 5, Get(), "b"),
    ],
    "unknown conditional delete explains absence": [
        op(0, 1, A),
        op(2, UNKNOWN, CompareAndDelete("a")),
        op(3, 4, Get(), "a"),
        op(5, 6, Get()),
    ],
    "unknown write and unknown delete of it": [
        op(0, UNKNOWN, A),
        op(1, UNKNOWN, CompareAndDelete("a")),
        op(2, 3, B),
        op(4, 5, Get()),
    ],
    "two unknown deletes, both needed": [
        op(0, UNKNOWN, DeleteCall()),
        op(0, UNKNOWN, DeleteCall()),
        op(1, 2, A),
        op(3, 4, Get()),
        op(5, 6, B),
        op(7, 8, Get()),
    ],
    "unknown read tells nothing": [op(0, 1, A), op(2, UNKNOWN, Get())],
    "delete of nothing": [op(0, 1, DeleteCall(), False), op(2, 3, A), op(4, 5, DeleteCall(), True)],
    "condition on absence": [
        op(0, 1, CompareAndPut(None, "a")),
        op(2, 3, CompareAndPut(None, "b"), False),
        op(4, 5, CompareAndDelete("a")),
        op(6, 7, CompareAndPut(None, "c")),
        op(8, 9, Get(), "c"),
    ],
    "of two conditional writes at once one holds": [
        op(0, 1, A),
        op(2, 5, CompareAndPut("a", "b"), False),
        op(2, 5, CompareAndPut("a", "c"), True),
        op(6, 7, Get(), "c"),
    ],
    "a write seen by nobody lets a delete find something": [
        op(0, 9, A),
        op(1, 2, DeleteCall(), True),
        op(3, 4, Get()),
    ],
    "unknown delete not used up by an order that came to nothing": [
        op(0, 4, CompareAndPut(None, "a")),
        op(2, 3, B),
        op(3, 6, CompareAndPut(None, "c")),
        op(4, UNKNOWN, DeleteCall()),
        op(6, UNKNOWN, PutCall("d")),
    ],
    "keys are judged apart": [op(0, 1, A), op(2, 3, Get(), None, key="l")],
}
BAD: dict[str, list[CallRecord]] = {
    "stale read": [op(0, 1, A), op(2, 3, B), op(4, 5, Get(), "a")],
    "lost acknowledged write": [op(0, 1, A), op(2, 3, Get())],
    "lost acknowledged write under a later one": [
        op(0, 1, A),
        op(2, 3, Get(), "a"),
        op(4, 5, B),
        op(6, 7, Get(), "a"),
    ],
    "applied twice: an overwritten value reappears": [
        op(0, 1, A),
        op(2, 3, B),
        op(4, 5, Get(), "b"),
        op(6, 7, Get(), "a"),
    ],
    "applied twice: of unknown outcome": [
        op(0, UNKNOWN, A),
        op(1, 2, Get(), "a"),
        op(3, 4, B),
        op(5, 6, Get(), "a"),
    ],
    "two readers see two writes in different orders": [
        op(0, 9, A),
        op(0, 9, B),
        op(1, 2, Get(), "a"),
        op(3, 4, Get(), "b"),
        op(5, 6, Get(), "a"),
    ],
    "new value seen, then the old": [
        op(0, 1, A),
        op(2, 9, B),
        op(3, 4, Get(), "b"),
        op(5, 6, Get(), "a"),
    ],
    "value never written": [op(0, 1, A), op(2, 3, Get(), "z")],
    "value read before it was written": [op(0, 1, Get(), "a"), op(2, 3, A)],
    "dirty read of a conditional write that did not hold": [
        op(0, 1, A),
        op(2, 3, CompareAndPut("z", "b"), False),
        op(4, 5, Get(), "b"),
    ],
    "two conditional writes that both held": [
        op(0, 1, A),
        op(2, 5, CompareAndPut("a", "b"), True),
        op(2, 5, CompareAndPut("a", "c"), True),
    ],
    "two creations that both held": [
        op(0, 5, CompareAndPut(None, "a"), True),
        op(0, 5, CompareAndPut(None, "b"), True),
    ],
    "condition held on an overwritten value": [
        op(0, 1, A),
        op(2, 3, B),
        op(4, 5, CompareAndPut("a", "c"), True),
    ],
    "condition did not hold though nothing else happened": [
        op(0, 1, A),
        op(2, 3, CompareAndPut("a", "b"), False),
    ],
    "deleted value is back": [op(0, 1, A), op(2, 3, DeleteCall(), True), op(4, 5, Get(), "a")],
    "two deletes of one value": [
        op(0, 1, A),
        op(2, 5, DeleteCall(), True),
        op(3, 5, DeleteCall(), True),
    ],
    "delete found nothing where something was": [op(0, 1, A), op(2, 3, DeleteCall(), False)],
    "conditional delete had no effect": [
        op(0, 1, A),
        op(2, 3, CompareAndDelete("a"), True),
        op(4, 5, Get(), "a"),
    ],
    "unknown write seen, then gone": [
        op(0, 1, A),
        op(2, UNKNOWN, B),
        op(3, 4, Get(), "b"),
        op(5, 6, Get(), "a"),
    ],
    "unknown write seen, then absent": [op(0, UNKNOWN, A), op(1, 2, Get(), "a"), op(3, 4, Get())],
    "unknown write seen before it was called": [op(0, 1, Get(), "a"), op(2, UNKNOWN, A)],
    "one unknown delete explains absence only once": [
        op(0, UNKNOWN, DeleteCall()),
        op(1, 2, A),
        op(3, 4, Get()),
        op(5, 6, B),
        op(7, 8, Get()),
    ],
    "unknown conditional write cannot have held": [
        op(0, 1, A),
        op(2, UNKNOWN, CompareAndPut("z", "b")),
        op(3, 4, Get(), "b"),
    ],
    "one bad key among good ones": [op(0, 1, A), op(0, 1, B, key="l"), op(2, 3, Get(), key="l")],
}


@pytest.mark.parametrize("name", GOOD)
def test_accepts(name: str) -> None:
    verdict = check(GOOD[name])
    assert verdict.linearizable, verdict.describe()
    assert verdict.operations == len(GOOD[name])
    assert not verdict.failures and not verdict.undecided


@pytest.mark.parametrize("name", BAD)
def test_finds(name: str) -> None:
    verdict = check(BAD[name])
    assert not verdict.linearizable and not verdict.undecided
    [failure] = verdict.failures
    assert failure.exact
    assert failure.unplaced in BAD[name] and failure.unplaced not in failure.order


def test_order_of_operations_in_the_history_is_of_no_account() -> None:
    for histories, expected in ((GOOD, True), (BAD, False)):
        for name, history in histories.items():
            assert check(reversed(history)).linearizable is expected, name


def test_a_failure_names_the_first_return_that_cannot_be_explained() -> None:
    history = [op(0, 1, A), op(2, 3, B), op(4, 5, Get(), "b"), op(6, 7, Get(), "a"), op(8, 9, C)]
    [failure] = check(history).failures
    assert failure.order == tuple(history[:3])
    assert failure.unplaced == history[3]
    assert failure.window == (history[0],)
    assert check(history).describe().splitlines() == [
        "NOT linearizable: 5 operations on 1 keys",
        "key 'k' is not linearizable",
        "  What had returned before can be explained, in this order:",
        "     1. 0.000000 s to 1.000000 s: client 0: put 'a' -> done",
        "     2. 2.000000 s to 3.000000 s: client 2: put 'b' -> done",
        "     3. 4.000000 s to 5.000000 s: client 4: get -> 'b'",
        "  This one then has no place, in that order or any other:",
        "     4. 6.000000 s to 7.000000 s: client 6: get -> 'a'",
        "        The key cannot have held 'a' between its call and its return.",
        "  Under way meanwhile, or the write of what it saw:",
        "        0.000000 s to 1.000000 s: client 0: put 'a' -> done",
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("value never written", "Nobody wrote 'z'."),
        ("value read before it was written", "'a' was written only later."),
        (
            "dirty read of a conditional write that did not hold",
            "The write of 'b' was answered with: condition not held.",
        ),
        ("two deletes of one value", "No order gives the key what this answer needs"),
    ],
)
def test_a_failure_says_why(name: str, why: str) -> None:
    assert why in check(BAD[name]).describe()


def test_long_explanations_are_cut() -> None:
    history = [op(n, n + 0.5, PutCall(str(n))) for n in range(500)]
    lines = check([*history, op(501, 502, Get(), "3")]).describe().splitlines()
    assert len(lines) < 40
    assert any("earlier operations are not shown" in line for line in lines)


@pytest.mark.parametrize(
    "history",
    [
        [op(0, 1, A), op(2, 3, A)],
        [op(0, 1, A), op(2, UNKNOWN, CompareAndPut(None, "a"))],
        [op(1, 0, A)],
        [op(0, float("nan"), A)],
        [op(0, float("inf"), A)],
        [CallRecord(0, "k", Get(), 0, 1, None)],
        [CallRecord(0, "k", Get(), 0, None, Returned())],
    ],
)
def test_histories_without_sense_are_refused(history: list[CallRecord]) -> None:
    with pytest.raises(ValueError, match=r"written twice|come together|returns after"):
        check(history)


def test_values_may_repeat_on_different_keys() -> None:
    assert check([op(0, 1, A), op(0, 1, A, key="l"), op(2, 3, Get(), "a", key="l")]).linearizable


def test_a_search_given_up_is_no_proof() -> None:
    history = [op(n, n + 0.3, PutCall(str(n))) for n in range(20)]
    history += [op(n + 0.5, n + 0.8, Get(), str(n)) for n in range(20)]
    verdict = check(history, states_max=5)
    assert not verdict.linearizable and verdict.undecided == ("k",) and not verdict.failures
    assert "undecided" in verdict.describe()
    assert check(history, states_max=30).linearizable


# Registers that run.


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


@given(
    st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 8), st.integers(1, 3), st.floats(0, 1)
)
@settings(max_examples=300, deadline=None)
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


@pytest.mark.parametrize("fault", [stale, lost, blind, revived])
def test_faulty_registers_are_found(fault: Fault) -> None:
    found = 0
    for seed in range(20):
        history = run_register(random.Random(seed), 600, 2, 1, 0.02, fault)
        verdict = check(history)
        assert not verdict.undecided and all(failure.exact for failure in verdict.failures)
        found += not verdict.linearizable
    # Now and then all faults of a run fall where calls at the same time excuse them.
    assert found >= 15, found


# Brute force.


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
@settings(max_examples=500, deadline=None)
def test_the_verdict_is_that_of_brute_force(seed: int, operations: int) -> None:
    assert_same_as_brute_force(small_history(random.Random(seed), operations))


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


# Size.


@pytest.mark.parametrize(
    ("operations", "clients", "keys", "unknown"),
    [
        (20_000, 30, 5, 0.03),
        pytest.param(20_000, 8, 2, 0.02, marks=pytest.mark.proof),
        (4_000, 30, 1, 0.01),
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
