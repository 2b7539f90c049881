"""At start: how far the log and the state must agree, and which of them wins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.errors import StorageError
from kvstore.replica.restoring import reconcile
from kvstore.storage.segment_log import SegmentLog
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Restored, Truncation

OLD, NEW, PROMISE = Ballot(3, 2), Ballot(4, 1), Ballot(5, 3)


def entries(first: int, last: int, ballot: Ballot = OLD) -> tuple[LogEntry, ...]:
    return tuple(LogEntry(slot, ballot, b"%d" % slot) for slot in range(first, last + 1))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    """Slots 5 to 12, chosen through 9."""
    store = SegmentLog(tmp_path / "log")
    store.commit([Promised(PROMISE), *entries(1, 12), ChosenThrough(9), Truncation(5)])
    yield store
    store.close()


@pytest.mark.parametrize("applied_through", [0, 3])
def test_a_hole_before_the_log_is_refused(log: SegmentLog, applied_through: int) -> None:
    before = log.restore()
    with pytest.raises(StorageError, match=f"slot {applied_through} only.* begins at slot 5"):
        reconcile(log, applied_through)
    assert log.restore() == before, "nothing was changed"


@pytest.mark.parametrize("applied_through", [4, 5, 8, 9])
def test_a_state_within_the_log_changes_nothing(log: SegmentLog, applied_through: int) -> None:
    wanted = Restored(PROMISE, entries(5, 12), 5, 9)
    assert reconcile(log, applied_through) == wanted == log.restore()


@pytest.mark.parametrize("applied_through", [10, 11, 12, 13, 1000])
def test_a_snapshot_installed_before_a_crash(
    log: SegmentLog, tmp_path: Path, applied_through: int
) -> None:
    first = applied_through + 1
    wanted = Restored(PROMISE, entries(first, 12), first, applied_through)
    assert reconcile(log, applied_through) == wanted
    log.close()
    log = SegmentLog(tmp_path / "log")
    assert log.restore() == wanted, "and it is durable"
    assert reconcile(log, applied_through) == wanted
    log.close()


def test_entries_of_slots_that_the_snapshot_covers_count_as_promises(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log")
    log.commit([Promised(OLD), *entries(1, 3, OLD), *entries(4, 4, NEW), *entries(6, 7, OLD)])
    assert reconcile(log, 5) == Restored(NEW, entries(6, 7, OLD), 6, 5)
    log.close()


def test_a_snapshot_over_an_empty_log(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log")
    assert reconcile(log, 0) == Restored(Ballot(0, 0), (), 1, 0)
    assert reconcile(log, 7) == Restored(Ballot(0, 0), (), 8, 7) == log.restore()
    with pytest.raises(StorageError, match=r"state\.mdb is lost or old"):
        reconcile(log, 6)
    log.close()
