"""Damage is found before anybody meets it: in the older segments of the log, and in the state."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.errors import StorageError
from kvstore.storage.groups import SECTOR_BYTES
from kvstore.storage.log_check import check_segments
from kvstore.storage.sealed import DamagedRecord
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.segments import SPARE, segment_path
from kvstore.storage.state import PACKED_TABLES, StateStore, WriteTransaction
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Truncation

B = Ballot(3, 2)
SMALL = 16 << 10


def entries(first: int, last: int, size: int) -> list[LogEntry]:
    return [LogEntry(slot, B, b"%d" % slot * size) for slot in range(first, last + 1)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    """Some groups in three segments, one larger than what is read at once."""
    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    log.commit(entries(1, 3, 2000))
    for slot in range(4, 60, 3):
        log.commit([*entries(slot, slot + 2, 250), ChosenThrough(slot)])
    assert segment_path(log._path, 3).exists()
    yield log
    log.close()


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def said(directory: Path) -> str:
    """What is wrong with the older segments."""
    try:
        list(check_segments(directory, 1024))
    except StorageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("bytes_max", [512, 4096, 1 << 20])
def test_all_records_of_older_segments_are_looked_at(log: SegmentLog, bytes_max: int) -> None:
    pieces = list(check_segments(log._path, bytes_max))
    older = log._segments[:-1]
    held = sum(1 for each in log.restore().entries if each.slot <= older[-1].last_slot)
    assert sum(pieces) >= held > 20
    assert len(pieces) >= len(older)


def test_whatever_flips_in_what_was_written_is_found_and_named(log: SegmentLog) -> None:
    log.close()
    for number in (1, 2):
        path = segment_path(log._path, number)
        for offset in random.Random(number).sample(range(SECTOR_BYTES, SMALL - SECTOR_BYTES), 40):
            flip(path, offset)
            found = said(log._path)
            flip(path, offset)
            if found:
                assert f"{path} is damaged: at byte " in found
            else:  # zeros between groups, or behind the last one, hold nothing
                assert path.read_bytes()[offset] == 0
    assert sum(check_segments(log._path, 1024))


def test_a_damaged_header_and_a_cut_file_are_found(log: SegmentLog) -> None:
    flip(segment_path(log._path, 1), 20)
    with pytest.raises(StorageError, match="header fails its checksum"):
        list(check_segments(log._path, 1024))
    flip(segment_path(log._path, 1), 20)
    with segment_path(log._path, 2).open("r+b") as file:
        file.truncate(SMALL // 2)
    with pytest.raises(StorageError, match="bytes where"):
        list(check_segments(log._path, 1024))


def test_a_segment_that_is_given_up_meanwhile_is_no_damage(log: SegmentLog) -> None:
    pieces = check_segments(log._path, 512)
    next(pieces)
    chosen = log.restore().chosen_through
    log.commit([Truncation(chosen)])
    assert (log._path / SPARE).exists()  # the file that was being read
    with (log._path / SPARE).open("r+b") as file:  # and is used again
        file.write(bytes(SMALL))
    assert list(pieces) is not None


def nothing(transaction: WriteTransaction) -> None:
    """No housekeeping."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    """With some records in each table, on the disk."""
    store = StateStore(tmp_path / "state.mdb")
    for name, table in store.tables.items():
        for number in range(1, 301):
            table.put(number.to_bytes(12, "big"), b"%s %d" % (name.encode(), number) * 3)
    store.freeze()
    store.write_frozen(nothing)
    store.finish()
    yield store
    store.close()


def checked(store: StateStore, pairs_max: int, bytes_max: int = 1 << 20) -> tuple[int, int]:
    """Records, and in how many pieces."""
    place: tuple[str, bytes] | None = (next(iter(store.tables)), b"")
    records = pieces = 0
    while place is not None:
        found, place = store.check_piece(place, pairs_max, bytes_max)
        records, pieces = records + found, pieces + 1
    return records, pieces


def test_all_records_of_the_state_are_looked_at(store: StateStore) -> None:
    tables = len(store.tables)
    assert checked(store, 1 << 20) == (300 * tables, tables)
    records, pieces = checked(store, 7)
    assert records == 300 * tables and pieces > 40 * (tables - len(PACKED_TABLES))
    assert checked(store, 1 << 20, 1000)[1] > 10 * tables


@pytest.mark.parametrize("name", ["keys", "history", "auth"])
def test_a_record_that_is_not_what_was_written_is_found(store: StateStore, name: str) -> None:
    heard: list[DamagedRecord] = []
    store.watch_damage(heard.append)
    store.close()
    data = store.path.read_bytes()
    at = data.rindex(b"%s 150%s 150" % (name.encode(), name.encode()))
    flip(store.path, at + 2)
    store._open()
    with pytest.raises(DamagedRecord, match=f"table {name} does not fit.*x96"):
        checked(store, 7)
    assert not heard, "the thread that looks tells nobody else"
