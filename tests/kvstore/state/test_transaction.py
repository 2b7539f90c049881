"""Transactions: etcd's rules one by one, and what is refused beforehand against a naive check."""

from typing import Any

import pytest

from kvstore.commands.commands import Compact, Grant, Once, Put
from kvstore.commands.operations import (
    Comparison,
    Field,
    KeyValue,
    Relation,
    Select,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnDeleteDone,
    TxnOperation,
    TxnPut,
    TxnPutDone,
    only,
)
from kvstore.commands.results import BadRevision, Mismatched, NoKey, NoLease, Result
from kvstore.state.chains import revision_at
from tests.support.driven_state import Driven, then


def compare(
    field: Field, relation: Relation, operand: int | bytes, key: bytes = b"k", end: Any = 0
) -> Comparison:
    return Comparison(field, relation, key, only(key) if end == 0 else end, operand)


def test_writes_share_a_revision_and_later_operations_see_earlier_ones(driven: Driven) -> None:
    driven.apply(Put(b"a", b"old"), Put(b"b", b"old"))
    result = driven.transact(
        then(
            Select(b"a", None),
            TxnDelete(b"b", only(b"b"), True),
            TxnPut(b"a", b"new", 0, True),
            TxnPut(b"c", b"new", 0, True),
            Select(b"a", None, keys_only=True),
            TxnDelete(b"x", None, True),
        ),
    )
    assert isinstance(result, TransactionDone)
    assert (result.revision, result.succeeded, driven.state.revision) == (4, True, 4)
    before, deleted, put, created, after, nothing = result.results
    assert [item.key for item in before.items] == [b"a", b"b"]  # type: ignore[union-attr]
    # The revision before the first write of the transaction, and the new one from then on.
    assert [r.revision for r in result.results] == [3, 4, 4, 4, 4, 4]
    assert deleted == TxnDeleteDone(4, 1, (KeyValue(b"b", b"old", 3, 3, 1, 0),))
    assert put == TxnPutDone(4, 2, 2, KeyValue(b"a", b"old", 2, 2, 1, 0))
    assert created == TxnPutDone(4, 1, 4, None)
    assert [i.key for i in after.items] == [b"a", b"c"]  # type: ignore[union-attr]
    assert nothing == TxnDeleteDone(4, 0, ())
    ((revision, events),) = driven.state.changes(4, 9)
    assert (revision, [(e.item.key, e.deleted) for e in events]) == (
        4,
        [(b"b", True), (b"a", False), (b"c", False)],
    )


def test_nothing_written_takes_no_revision(driven: Driven) -> None:
    assert driven.transact(Transaction((), ())) == TransactionDone(1, True, ())
    no = compare(Field.VERSION, Relation.GREATER, 0)
    assert driven.transact(Transaction((no,), ())) == TransactionDone(1, False, ())
    assert isinstance(
        driven.transact(then(Select(b"a", None), TxnDelete(b"a", None))), TransactionDone
    )
    assert driven.state.revision == 1


@pytest.mark.parametrize(
    ("field", "held"),
    [(Field.VERSION, 2), (Field.CREATE, 2), (Field.MOD, 3), (Field.LEASE, 7), (Field.VALUE, b"v")],
)
@pytest.mark.parametrize("relation", list(Relation))
def test_every_compare(driven: Driven, field: Field, held: int | bytes, relation: Relation) -> None:
    driven.apply(Grant(7, 60), Put(b"k", b"u"), Put(b"k", b"v", None, 7))
    same, low, high = (
        (held, held - 1, held + 1) if isinstance(held, int) else (held, b"uz", held + b"\0")
    )
    wanted = {
        Relation.EQUAL: (True, False, False),
        Relation.GREATER: (False, True, False),
        Relation.LESS: (False, False, True),
        Relation.NOT_EQUAL: (False, True, True),
    }[relation]
    for operand, holds in zip((same, low, high), wanted, strict=True):
        done = driven.transact(Transaction((compare(field, relation, operand),), ()))
        assert isinstance(done, TransactionDone)
        assert done.succeeded is holds


def test_compares_with_absent_keys_ranges_and_foreign_operands(driven: Driven) -> None:
    driven.apply(Put(b"p1", b"v"), Put(b"p2", b"v"), Put(b"p2", b"w"))

    def holds(*compares: Comparison) -> bool:
        done = driven.transact(Transaction(compares, ()))
        assert isinstance(done, TransactionDone)
        return done.succeeded

    for field in (Field.VERSION, Field.CREATE, Field.MOD, Field.LEASE):
        assert holds(compare(field, Relation.EQUAL, 0, b"absent"))
        assert not holds(compare(field, Relation.NOT_EQUAL, 0, b"absent"))
    for relation in Relation:
        assert not holds(compare(Field.VALUE, relation, b"x", b"absent"))
        assert not holds(compare(Field.VALUE, relation, b"", b"absent"))
        assert not holds(compare(Field.VALUE, relation, b"", b"q", b"r"))
    # A range: every key of it; an empty one is like an absent key.
    assert holds(compare(Field.VERSION, Relation.GREATER, 0, b"p", b"q"))
    assert not holds(compare(Field.VERSION, Relation.EQUAL, 1, b"p", None))
    assert holds(compare(Field.VALUE, Relation.GREATER, b"u", b"p", b"q"))
    assert not holds(compare(Field.VALUE, Relation.EQUAL, b"v", b"p", b"q"))
    assert holds(compare(Field.VERSION, Relation.EQUAL, 0, b"q", b"p"))
    # An operand of the wrong kind counts as zero, or as empty.
    assert holds(compare(Field.VERSION, Relation.GREATER, b"zzz", b"p1"))
    assert holds(compare(Field.VALUE, Relation.GREATER, 99, b"p1"))
    # All must hold.
    yes = compare(Field.VERSION, Relation.EQUAL, 1, b"p1")
    assert holds() and holds(yes, yes)
    assert not holds(yes, compare(Field.VERSION, Relation.EQUAL, 2, b"p1"), yes)


def test_inner_compares_look_at_the_state_before_the_outermost(driven: Driven) -> None:
    is_new = compare(Field.VALUE, Relation.EQUAL, b"new", b"a")
    inner = Transaction((is_new,), (TxnPut(b"b", b"saw it"),), (TxnPut(b"b", b"did not"),))
    done = driven.transact(then(TxnPut(b"a", b"new"), inner, then(Select(b"a", only(b"a")))))
    assert isinstance(done, TransactionDone)
    assert [type(r) for r in done.results] == [TxnPutDone, TransactionDone, TransactionDone]
    assert not done.results[1].succeeded  # type: ignore[union-attr]
    assert done.results[2].results[0].count == 1  # type: ignore[union-attr]
    found = driven.state.get(b"b")
    assert found is not None and found.value == b"did not"


def test_what_keeps_a_value_or_a_lease(driven: Driven) -> None:
    driven.apply(Grant(7, 60), Put(b"k", b"v", None, 7))
    driven.transact(then(TxnPut(b"k", None, 0)))
    assert driven.state.get(b"k") == KeyValue(b"k", b"v", 2, 3, 2, 0)
    driven.transact(then(TxnPut(b"k", b"w", 7)))
    driven.transact(then(TxnPut(b"k", b"x", None)))
    assert driven.state.get(b"k") == KeyValue(b"k", b"x", 2, 5, 4, 7)
    driven.transact(then(TxnPut(b"k", None, None)))
    assert driven.state.get(b"k") == KeyValue(b"k", b"x", 2, 6, 5, 7)


@pytest.mark.parametrize(
    ("bad", "result"),
    [
        (TxnPut(b"a", b"v", 8), NoLease(8)),
        (TxnPut(b"z", None), NoKey()),
        (TxnPut(b"z", b"v", None), NoKey()),
        (Select(b"a", None, revision=99), BadRevision(99, 3, 4)),
        (Select(b"a", None, revision=5), BadRevision(5, 3, 4)),
        (Select(b"a", None, revision=2), BadRevision(2, 3, 4)),
        (Select(b"a", None, revision=-1), BadRevision(-1, 3, 4)),
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_one_that_fails_changes_nothing(
    driven: Driven, bad: TxnOperation, result: Result, depth: int
) -> None:
    driven.apply(Grant(7, 60), Put(b"k", b"1"), Put(b"k", b"2", None, 7), Put(b"l", b"1"))
    driven.apply(Compact(3))
    operations: tuple[TxnOperation, ...] = (TxnPut(b"k", b"new", 0), TxnDelete(b"l", b"m"), bad)
    for _ in range(depth):
        operations = (Transaction((), operations),)
    assert driven.transact(then(TxnPut(b"other", b"v"), *operations)) == result
    # The branch that does not run may be as bad as it likes.
    assert isinstance(driven.transact(Transaction((), (), operations)), TransactionDone)
    assert driven.state.revision == 4
    assert driven.state.get(b"k") == KeyValue(b"k", b"2", 2, 3, 2, 7)
    assert driven.state.get(b"l") is not None and driven.state.get(b"other") is None
    assert driven.state.leases.keys(7) == [b"k"]
    assert driven.state.changes(5, 9) == []


def test_writes_are_looked_at_before_reads(driven: Driven) -> None:
    bad_read, bad_write = Select(b"a", None, revision=99), TxnPut(b"a", b"v", 8)
    assert driven.transact(then(bad_read, bad_write)) == NoLease(8)


def test_reads_of_a_revision_inside(driven: Driven) -> None:
    driven.apply(Put(b"a", b"1"), Put(b"a", b"2"))
    selects = [Select(b"a", only(b"a"), revision=r) for r in (-1, 0, 2, 3)]
    done = driven.transact(then(*selects, TxnPut(b"a", b"3"), *selects))
    assert isinstance(done, TransactionDone)
    values = [r.items[0].value for r in done.results if hasattr(r, "items")]
    assert values == [b"2", b"2", b"1", b"2", b"3", b"3", b"1", b"2"]


def test_put_then_deleted_by_a_later_inner_transaction(driven: Driven) -> None:
    driven.apply(Put(b"k", b"old"))
    done = driven.transact(then(then(TxnPut(b"k", b"brief")), then(TxnDelete(b"k", only(b"k")))))
    assert isinstance(done, TransactionDone) and done.revision == 3
    assert driven.state.get(b"k") is None and driven.state.get(b"k", 3) is None
    for _ in range(3):
        ((_, (put, deleted)),) = driven.state.changes(3, 9)
        assert (put.item.value, put.deleted) == (b"brief", False)
        assert (deleted.previous, deleted.deleted) == (put.item, True)
        # Neither a checkpoint nor compaction at that very revision takes it away.
        driven.apply(Compact(3))
        driven.checkpoint()
    driven.apply(Put(b"k", b"again"), Compact(4))
    driven.checkpoint()
    assert driven.state.get(b"k") == KeyValue(b"k", b"again", 4, 4, 1, 0)
    left = driven.store.tables["history"].scan(b"", None)
    assert [revision_at(place) for place, _ in left] == [4]
    assert not list(driven.store.tables["deleted"].scan(b"", None))


def test_once_answers_a_transaction_alike(driven: Driven) -> None:
    transaction = then(TxnPut(b"k", b"v", 0, True), Select(b"k", None))
    once = Once(b"id", transaction)
    first = driven.apply(once)
    driven.checkpoint()
    driven.reopen()
    driven.apply(Put(b"k", b"later"))
    assert driven.apply(once) == first
    assert driven.apply(Once(b"id", then(TxnPut(b"k", b"v")))) == [Mismatched()]
    assert driven.state.revision == 3
