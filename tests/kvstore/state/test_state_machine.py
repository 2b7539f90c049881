"""Apply: conditions, once, duplicates, and the same digest wherever the same is applied."""

from pathlib import Path

from kvstore.commands.commands import ABSENT, EXISTS, Condition, Delete, Once, Put
from kvstore.commands.results import Deleted, Mismatched, NotHeld, Written
from tests.support.driven_state import Driven


def test_conditions(driven: Driven) -> None:
    assert driven.apply(
        Put(b"k", b"1", EXISTS),
        Put(b"k", b"1", ABSENT),
        Put(b"k", b"2", ABSENT),
        Put(b"k", b"3", Condition(2)),
        Delete(b"k", Condition(2)),
        Delete(b"k", Condition(3)),
        Delete(b"k"),
    ) == [
        NotHeld(0),
        Written(2, 1, 2),
        NotHeld(2),
        Written(3, 2, 2),
        NotHeld(3),
        Deleted(4, 1),
        Deleted(4, 0),
    ]


def test_once_until_it_expires_by_the_logs_clock(driven: Driven) -> None:
    once = Once(b"id", Put(b"k", b"v"), 10_000)
    assert driven.apply(once, clock_ms=1000) == [Written(2, 1, 2)]
    assert driven.apply(once, clock_ms=10_999) == [Written(2, 1, 2)]
    assert driven.apply(Once(b"id", Put(b"k", b"w")), clock_ms=0) == [Mismatched()]
    driven.checkpoint()
    assert driven.apply(once, clock_ms=11_000) == [Written(3, 2, 2)]
    driven.checkpoint()
    assert driven.apply(once, clock_ms=11_001) == [Written(3, 2, 2)]


def test_a_bundle_is_applied_once(driven: Driven) -> None:
    assert driven.apply(Put(b"k", b"v"), number=7)
    assert driven.apply(Put(b"k", b"v"), number=7) == []
    driven.state.apply(3, b"")
    assert (driven.state.applied_through, driven.state.revision) == (3, 2)


def test_digests_agree_exactly_if_the_state_does(driven: Driven, tmp_path: Path) -> None:
    other, third = Driven(tmp_path / "other.mdb"), Driven(tmp_path / "third.mdb")
    for number in range(9):
        for each in (driven, other):
            each.apply(Put(b"k%d" % number, b"v"))
        third.apply(Put(b"k%d" % number, b"w"))
        if number == 4:
            other.checkpoint()
            other.reopen()
            assert other.state.checkpointed_through == 5
    assert driven.state.digest == other.state.digest != third.state.digest
    other.store.close()
    third.store.close()


def test_a_checkpoint_deletes_the_answers_that_have_expired(driven: Driven) -> None:
    def kept(table: str) -> list[bytes]:
        return [key for key, _ in driven.store.tables[table].scan(b"", None)]

    driven.apply(Once(b"short", Put(b"k", b"v"), 10), Once(b"long", Put(b"k", b"v"), 1000))
    driven.apply(Once(b"again", Put(b"k", b"v"), 10))
    driven.checkpoint()
    assert kept("once") == [b"again", b"long", b"short"]
    driven.apply(Once(b"again", Put(b"k", b"w"), 1000), clock_ms=10)
    driven.checkpoint()
    assert kept("once") == [b"again", b"long"]
    assert [entry[8:] for entry in kept("once_expiry")] == [b"long", b"again"]
