"""Transactions that are refused before they are proposed, against a check of every pair."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.batches import Bundle
from kvstore.commands.binary import decode_bundle, encode
from kvstore.commands.commands import Once
from kvstore.commands.operations import (
    Comparison,
    Field,
    Relation,
    Select,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnOperation,
    TxnPut,
    TxnPutDone,
    only,
)
from kvstore.errors import DuplicateKey, TooManyOperations
from kvstore.state.transactions import OPERATIONS_MAX, check
from tests.support.driven_state import Driven, then
from tests.support.examples import TIMES
from tests.support.naive_store import KEYS, TRANSACTIONS, within


def nested(depth: int, innermost: TxnOperation) -> Transaction:
    transaction = then(innermost)
    for _ in range(depth - 1):
        transaction = then(transaction)
    return transaction


def test_at_most_so_many_operations(driven: Driven) -> None:
    puts = tuple(TxnPut(b"%d" % n, b"") for n in range(OPERATIONS_MAX + 1))
    compares = (Comparison(Field.MOD, Relation.EQUAL, b"k", None, 0),) * (OPERATIONS_MAX + 1)
    check(Transaction(compares[1:], puts[1:], puts[1:]))
    for bad in (
        Transaction(compares, ()),
        Transaction((), puts),
        Transaction((), (), puts),
        # An inner one may have what the outer one leaves.
        Transaction((), (*puts[:100], then(*puts[100:129]))),
        Transaction((), (*puts[:127], then(Select(b"a", None)))),
        nested(OPERATIONS_MAX + 1, Select(b"a", None)),
    ):
        with pytest.raises(TooManyOperations):
            check(bad)
    check(Transaction((), (*puts[:99], then(*puts[99:127]))))


def test_the_deepest_that_is_allowed_can_be_applied(driven: Driven) -> None:
    deepest = nested(OPERATIONS_MAX, TxnPut(b"k", b"v"))
    result: Any = driven.transact(deepest)
    for _ in range(OPERATIONS_MAX):
        assert isinstance(result, TransactionDone)
        (result,) = result.results
    assert result == TxnPutDone(2, 1, 2)
    once = Once(b"id", deepest)
    assert driven.apply(once) == driven.apply(once)
    bundle = Bundle(1, 1, 1, 1, (once,))
    assert decode_bundle(encode(bundle)) == bundle


PUT, DELETE = TxnPut(b"k", b""), TxnDelete(b"a", b"z")


@pytest.mark.parametrize(
    "branch",
    [
        (PUT, PUT),
        (PUT, DELETE),
        (DELETE, PUT),
        (PUT, TxnDelete(b"k", only(b"k"))),
        (PUT, TxnDelete(b"", None)),
        (PUT, then(PUT)),
        (PUT, then(DELETE)),
        (then(PUT), then(PUT)),
        (then(DELETE), then(PUT)),
        (then(PUT), DELETE),
        (then(then(PUT)), PUT),
        (Transaction((), (DELETE,)), Transaction((), (), (PUT,))),
    ],
)
def test_a_key_is_written_once(branch: tuple[TxnOperation, ...]) -> None:
    for transaction in (Transaction((), branch), Transaction((), (), branch)):
        with pytest.raises(DuplicateKey):
            check(transaction)
        with pytest.raises(DuplicateKey):
            check(then(transaction))


@pytest.mark.parametrize(
    "transaction",
    [
        Transaction((), (PUT,), (PUT,)),
        Transaction((), (PUT,), (DELETE,)),
        then(DELETE, DELETE, TxnDelete(b"k", only(b"k"))),
        then(PUT, TxnDelete(b"a", b"k"), TxnDelete(b"k\0", None), TxnDelete(b"z", b"a")),
        then(Transaction((), (PUT,), (PUT,))),
        then(Transaction((), (PUT,), (DELETE,))),
        then(then(PUT), then(DELETE)),
        then(PUT, Select(b"k", None), Select(b"k", None)),
    ],
)
def test_what_is_fine(transaction: Transaction) -> None:
    check(transaction)


def naive_writes(branch: tuple[TxnOperation, ...]) -> tuple[list[bytes], list[TxnDelete]]:
    """The same rules, looking at every pair."""
    puts: list[bytes] = []
    deletes = [o for o in branch if isinstance(o, TxnDelete)]
    for operation in branch:
        if isinstance(operation, Transaction):
            yes, no = naive_writes(operation.success), naive_writes(operation.failure)
            mine = [*yes[0], *no[0]]
            if any(put in puts or covered(put, deletes) for put in mine):
                raise DuplicateKey
            puts += mine
            deletes += [*yes[1], *no[1]]
    for operation in branch:
        if isinstance(operation, TxnPut):
            if operation.key in puts or covered(operation.key, deletes):
                raise DuplicateKey
            puts.append(operation.key)
    return puts, deletes


def covered(key: bytes, deletes: list[TxnDelete]) -> bool:
    return any(within(key, delete.start, delete.end) for delete in deletes)


def verdict(judge: Any, transaction: Transaction) -> bool:
    try:
        judge(transaction)
    except DuplicateKey:
        return False
    return True


def naive_check(transaction: Transaction) -> None:
    naive_writes(transaction.success)
    naive_writes(transaction.failure)


@given(TRANSACTIONS)
@settings(max_examples=40 * TIMES)
def test_the_check_agrees_with_the_naive_one(transaction: Transaction) -> None:
    assert verdict(check, transaction) == verdict(naive_check, transaction)


@given(
    st.lists(st.tuples(KEYS, st.none() | KEYS), max_size=8),
    st.lists(st.binary(max_size=2), max_size=4),
)
@settings(max_examples=100 * TIMES)
def test_many_ranges_against_the_naive_check(
    removed: list[tuple[bytes, bytes | None]], keys: list[bytes]
) -> None:
    branch: tuple[TxnOperation, ...] = (
        *(TxnDelete(*each) for each in removed),
        *(TxnPut(key, b"") for key in sorted(set(keys))),
    )
    assert verdict(check, then(*branch)) == verdict(naive_check, then(*branch))


def test_a_large_one_is_checked_in_time() -> None:
    def wide(level: int, name: bytes) -> tuple[TxnOperation, ...]:
        if level == 0:
            return tuple(
                TxnPut(name + b"%d" % n, b"")
                if n % 2
                else TxnDelete(name + b"%d" % n, name + b"%d!" % n)
                for n in range(20)
            )
        return tuple(then(*wide(level - 1, name + b"%d," % n)) for n in range(20))

    transaction = then(*wide(2, b""))
    began = time.process_time()
    check(transaction)
    assert time.process_time() - began < 1
