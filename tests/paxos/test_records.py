"""What the records of an acceptor add up to."""

from paxos.ballot import ZERO, Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Restored, Truncation, fold

OLD, NEW = Ballot(1, 2), Ballot(2, 1)


def test_no_records_are_an_empty_log() -> None:
    assert fold([]) == Restored(ZERO, (), 1, 0)


def test_a_later_record_replaces_an_earlier_one_of_its_kind_and_slot() -> None:
    records = [
        Promised(OLD),
        LogEntry(2, OLD, b"lost"),
        LogEntry(1, OLD, b"a"),
        ChosenThrough(1),
        Promised(NEW),
        LogEntry(2, NEW, b"b"),
        ChosenThrough(2),
    ]
    entries = (LogEntry(1, OLD, b"a"), LogEntry(2, NEW, b"b"))
    assert fold(records) == Restored(NEW, entries, 1, 2)


def test_what_is_truncated_is_gone_and_what_comes_after_stays() -> None:
    records = [*(LogEntry(slot, OLD, b"%d" % slot) for slot in range(1, 6)), Truncation(4)]
    assert fold(records) == Restored(ZERO, (LogEntry(4, OLD, b"4"), LogEntry(5, OLD, b"5")), 4, 0)


def test_a_start_goes_on_from_what_was_restored_before() -> None:
    before = [Promised(OLD), LogEntry(1, OLD, b"a"), LogEntry(2, OLD, b"b")]
    after = [Promised(NEW), LogEntry(2, NEW, b"c"), ChosenThrough(2), Truncation(2)]
    assert fold(after, fold(before)) == fold([*before, *after])


def test_a_promise_is_not_healed() -> None:
    """An acceptor that wrote a lower promise later begins with the lower one, as its disk says."""
    assert fold([Promised(NEW), Promised(OLD)]).promised == OLD
