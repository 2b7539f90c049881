"""What one command may cost at apply: bounds one by one, decided before anything is written."""

import pytest

from kvstore.commands.binary import encode
from kvstore.commands.commands import Grant, Once, Put, StoreCommand
from kvstore.commands.operations import (
    Comparison,
    Field,
    Relation,
    Select,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnDeleteDone,
    TxnOperation,
    TxnPut,
    only,
)
from kvstore.commands.results import AnswerDropped, Limit, Mismatched, OverLimit, Result, Written
from kvstore.state import budget
from kvstore.state.budget import ANSWER_KEPT_BYTES_MAX, BYTES_MAX, KEYS_MAX, LEASE_KEYS_MAX
from tests.support.driven_state import Driven, then

MEGABYTE = 1 << 20
TOO_MANY_KEYS = OverLimit(Limit.KEYS, KEYS_MAX)
TOO_MANY_BYTES = OverLimit(Limit.BYTES, BYTES_MAX)


def fill(driven: Driven, prefix: bytes, count: int, size: int = 1) -> None:
    driven.apply(*(Put(b"%s%06d" % (prefix, at), b"v" * size) for at in range(count)))


def apply(driven: Driven, command: StoreCommand | Once) -> Result:
    (result,) = driven.apply(command)
    return result


def refused(driven: Driven, *operations: TxnOperation, by: OverLimit) -> bool:
    """Whether it is refused so, and nothing changes."""
    revision, before = driven.state.revision, driven.state.select(Select(b"", None))
    result = apply(driven, then(*operations))
    assert (driven.state.revision, driven.state.select(Select(b"", None))) == (revision, before)
    return result == by


def test_many_gets_of_a_large_range_are_refused(driven: Driven) -> None:
    for at in range(6):
        driven.apply(Put(b"m%d" % at, b"v" * MEGABYTE))
    gets = [Select(b"m", b"n") for _ in range(128)]
    assert refused(driven, *gets, TxnPut(b"k", b"v"), by=TOO_MANY_BYTES)
    # One value alone fits, and four with their keys do not.
    assert isinstance(apply(driven, then(Select(b"m0", b"m3"))), TransactionDone)
    assert refused(driven, Select(b"m0", b"m4"), by=TOO_MANY_BYTES)
    assert refused(driven, *(Select(b"m0", only(b"m0")) for _ in range(4)), by=TOO_MANY_BYTES)


def test_keys_are_counted_over_all_parts_and_levels(driven: Driven) -> None:
    fill(driven, b"k", 1_500)
    whole = (b"k", b"l")
    three = [Select(*whole, limit=1), Select(*whole, keys_only=True), TxnDelete(b"x", b"y")]
    assert isinstance(apply(driven, then(*three, Select(*whole, count_only=True))), TransactionDone)
    compare = Comparison(Field.VERSION, Relation.GREATER, *whole, 0)
    counts = (Select(*whole, count_only=True),) * 2
    inner = Transaction((compare,), counts)
    assert isinstance(apply(driven, inner), TransactionDone)
    assert refused(driven, inner, Select(*whole), by=TOO_MANY_KEYS)
    assert refused(driven, then(then(inner)), Select(*whole), by=TOO_MANY_KEYS)
    compares = Transaction((compare,) * 4, (TxnPut(b"a", b""),))
    assert apply(driven, compares) == TOO_MANY_KEYS
    # Of the branches only the one that runs costs something.
    never = Comparison(Field.VERSION, Relation.EQUAL, b"k000000", only(b"k000000"), 9)
    costly = (*counts, *counts)
    assert isinstance(apply(driven, Transaction((never,), costly)), TransactionDone)
    # An operation that finds nothing is not free: nesting makes many of a few bytes each.
    nothing = then(*(Select(b"q", only(b"q")) for _ in range(100)))
    assert refused(driven, *[nothing] * 101, by=TOO_MANY_KEYS)


def test_what_the_transaction_itself_has_put_counts(driven: Driven) -> None:
    puts = [TxnPut(b"p%d" % at, b"v" * (MEGABYTE // 2)) for at in range(3)]
    assert isinstance(apply(driven, then(*puts, Select(b"p", b"q"))), TransactionDone)
    puts = [TxnPut(b"r%d" % at, b"v" * (MEGABYTE // 2)) for at in range(3)]
    assert refused(driven, *puts, *[Select(b"r", b"s")] * 2, by=TOO_MANY_BYTES)
    # A value that is kept is read and written.
    driven.apply(Put(b"t", b"v" * MEGABYTE))
    keeps = TxnPut(b"t", None, 0)
    assert isinstance(apply(driven, then(keeps)), TransactionDone)
    assert refused(driven, keeps, *[Select(b"t", b"u")] * 2, by=TOO_MANY_BYTES)


def test_a_deletion_of_a_large_range_is_refused(driven: Driven) -> None:
    most = KEYS_MAX // 2  # one that is deleted counts twice
    fill(driven, b"k", most)
    fill(driven, b"l", 1)
    assert refused(driven, TxnDelete(b"k", None), by=TOO_MANY_KEYS)
    done = apply(driven, then(TxnDelete(b"k", b"l")))
    assert isinstance(done, TransactionDone)
    assert done.results == (TxnDeleteDone(done.revision, most),)
    fill(driven, b"m", 5, MEGABYTE)
    assert refused(driven, TxnDelete(b"m", b"n"), by=TOO_MANY_BYTES)


def test_old_revisions_cost_what_is_looked_at(driven: Driven) -> None:
    driven.apply(Put(b"a", b""))
    early = driven.state.revision
    fill(driven, b"k", 2_600)
    for _ in range(4):
        fill(driven, b"k", 2_600)
    # All of them came later, but they have to be looked at: their last versions, and older ones.
    assert refused(driven, Select(b"", None, early), by=TOO_MANY_KEYS)
    driven.apply(*(Put(b"often", b"%d" % at) for at in range(20_000)))
    wanted = Select(b"o", b"p", driven.state.revision - 15_000)
    done = apply(driven, then(wanted))
    assert isinstance(done, TransactionDone)
    ((item,),) = [result.items for result in done.results]  # type: ignore[union-attr]
    assert item.value == b"%d" % (19_999 - 15_000)


def test_a_log_with_such_commands_starts_again(driven: Driven) -> None:
    fill(driven, b"m", 6, MEGABYTE)
    driven.checkpoint()
    driven.apply(then(*[Select(b"m", b"n")] * 128, TxnPut(b"k", b"v")), Put(b"l", b""))
    digest = driven.state.digest
    driven.reopen()
    assert driven.state.digest == digest and driven.state.get(b"k") is None


def test_a_large_answer_is_not_kept(driven: Driven) -> None:
    driven.apply(Put(b"k", b"v" * ANSWER_KEPT_BYTES_MAX))
    command = then(TxnPut(b"n", b"1"), Select(b"k", only(b"k")))
    once = Once(b"once", command)
    done = apply(driven, once)
    assert isinstance(done, TransactionDone) and done.revision == 3
    assert apply(driven, once) == AnswerDropped(3)
    assert apply(driven, Once(b"once", then())) == Mismatched()
    assert driven.state.revision == 3
    driven.reopen()
    assert apply(driven, once) == AnswerDropped(3)
    # Refusals are answers too, and smaller ones are kept as they are.
    small = Once(b"small", then(TxnPut(b"n", b"2")))
    assert apply(driven, small) == apply(driven, small)
    assert len(encode(AnswerDropped(3))) < 64


def test_a_lease_holds_so_many_keys(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OverLimit(Limit.LEASE_KEYS, LEASE_KEYS_MAX)
    driven.apply(Grant(7, 60), Grant(8, 60))
    driven.apply(*(Put(b"%06d" % at, b"", None, 7) for at in range(LEASE_KEYS_MAX)))
    assert driven.state.leases.count(7) == LEASE_KEYS_MAX
    driven.checkpoint()
    driven.reopen()
    revision = driven.state.revision
    assert apply(driven, Put(b"new", b"", None, 7)) == full
    assert apply(driven, then(TxnPut(b"new", b"", 7))) == full
    assert driven.state.revision == revision
    # A key that it holds already may be written, and one that leaves makes room.
    assert isinstance(apply(driven, Put(b"000000", b"v", None, 7)), Written)
    assert isinstance(apply(driven, then(TxnPut(b"000001", b"v", 7))), TransactionDone)
    assert isinstance(apply(driven, Put(b"000002", b"v", None, 8)), Written)
    assert apply(driven, then(TxnPut(b"new", b"", 7), TxnPut(b"newer", b"", 7))) == full
    assert isinstance(apply(driven, then(TxnPut(b"new", b"", 7))), TransactionDone)
    assert apply(driven, Put(b"newer", b"", None, 7)) == full


def test_counts_of_leases_follow_the_state(driven: Driven) -> None:
    leases = driven.state.leases
    driven.apply(Grant(7, 60), Put(b"a", b"", None, 7), Put(b"b", b"", None, 7))
    assert leases.count(7) == 2
    driven.apply(Put(b"a", b"", None, 0), Put(b"c", b"", None, 7), Put(b"c", b"x", None, 7))
    assert leases.count(7) == len(leases.keys(7)) == 2
    driven.apply(then(TxnDelete(b"b", None)))
    assert leases.count(7) == 0 and budget.LEASE_KEYS_MAX == LEASE_KEYS_MAX
