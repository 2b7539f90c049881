"""The checker of linearizability: known histories, and what it says of those that fail."""

import pytest

from proof.histories.history import (
    CallRecord,
    CompareAndDelete,
    CompareAndPut,
    DeleteCall,
    Get,
    PutCall,
    Returned,
)
from proof.histories.linearizability import check
from tests.support.registers import UNKNOWN, op

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
