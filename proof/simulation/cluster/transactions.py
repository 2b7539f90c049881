"""Transactions of simulated clients, and what each of their parts says about its own key."""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from kvstore.commands.operations import (
    Comparison,
    Field,
    Relation,
    Select,
    Selected,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnDeleteDone,
    TxnOperation,
    TxnOperationResult,
    TxnPut,
    TxnPutDone,
    only,
)
from proof.histories.history import Call, DeleteCall, Get, PutCall, Returned

NO_LEASE = 99
"""Nobody grants it: a transaction that names it must change nothing."""


class Part(NamedTuple):
    """One operation of a transaction on one key. `revision` is 0 if it wrote nothing."""

    key: bytes
    call: Call
    answer: Returned
    revision: int
    value: bytes | None


def draw_transaction(
    rng: random.Random,
    keys: int,
    known: Mapping[str, tuple[str, int]],
    new_value: Callable[[], str],
) -> Transaction:
    """Over up to three keys: compares of what is known, writes, removals, reads, nested at times.
    No key is written twice."""
    chosen = [f"k{n}".encode() for n in rng.sample(range(keys), min(keys, rng.randint(1, 3)))]
    compares = tuple(_compare(rng, key, known) for key in chosen if rng.random() < 0.4)
    success = [_change(rng, key, new_value) for key in chosen]
    failure: list[TxnOperation] = []
    if rng.random() < 0.5:
        failure.append(Select(chosen[0], only(chosen[0])))
    elif rng.random() < 0.5:
        failure.append(_change(rng, chosen[-1], new_value))
    if len(success) > 1 and rng.random() < 0.3:
        inner = tuple(_compare(rng, key, known) for key in chosen[:1])
        success[-1] = Transaction(inner, (success[-1],), ())
    if rng.random() < 0.3:
        success.append(Select(b"k", b"l"))
    return Transaction(compares, tuple(success), tuple(failure))


def _compare(rng: random.Random, key: bytes, known: Mapping[str, tuple[str, int]]) -> Comparison:
    value, revision = known.get(key.decode(), ("", 0))
    end = only(key)
    match rng.randrange(4):
        case 0:
            return Comparison(Field.MOD, Relation.EQUAL, key, end, revision)
        case 1:
            relation = rng.choice((Relation.EQUAL, Relation.NOT_EQUAL))
            return Comparison(Field.VALUE, relation, key, end, value.encode())
        case 2:
            return Comparison(Field.VERSION, Relation.GREATER, key, end, rng.randrange(3))
    return Comparison(Field.CREATE, Relation.LESS, b"k", b"l", revision + 5)


def _change(rng: random.Random, key: bytes, new_value: Callable[[], str]) -> TxnOperation:
    if rng.random() < 0.2:
        return TxnDelete(key, only(key), previous=True)
    lease = NO_LEASE if rng.random() < 0.05 else 0
    return TxnPut(key, new_value().encode(), lease, previous=rng.random() < 0.3)


def parts_possible(transaction: Transaction) -> Iterator[Part]:
    """All writes that any branch may do, for when nobody knows which did."""
    for operation in (*transaction.success, *transaction.failure):
        match operation:
            case TxnPut(key, value):
                assert value is not None
                yield Part(key, PutCall(value.decode()), Returned(), 0, value)
            case TxnDelete(key):
                yield Part(key, DeleteCall(), Returned(), 0, None)
            case Transaction():
                yield from parts_possible(operation)


def parts_done(transaction: Transaction, done: TransactionDone) -> Iterator[Part]:
    """What the branch that ran did and saw."""
    branch = transaction.success if done.succeeded else transaction.failure
    for operation, result in zip(branch, done.results, strict=True):
        yield from _parts(operation, result)


def _parts(operation: TxnOperation, result: TxnOperationResult) -> Iterator[Part]:
    match operation, result:
        case TxnPut(key, value), TxnPutDone(revision):
            assert value is not None
            yield Part(key, PutCall(value.decode()), Returned(), revision, value)
        case TxnDelete(key), TxnDeleteDone(revision, deleted):
            answer = Returned(held=deleted > 0)
            yield Part(key, DeleteCall(), answer, revision if deleted else 0, None)
        case Select(), Selected(_, items):
            for item in items:
                yield Part(item.key, Get(), Returned(item.value.decode()), 0, None)
        case Transaction(), TransactionDone():
            yield from parts_done(operation, result)
