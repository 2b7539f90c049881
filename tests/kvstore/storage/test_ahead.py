"""Segments made ahead by a thread: commits find them, and closing leaves nothing behind."""

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.storage import segment_log
from kvstore.storage.ahead import AheadFile
from kvstore.storage.disk import SystemDisk
from kvstore.storage.log_writer import ThreadedLogWriter
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.segments import AHEAD, NEW, zeroed_file
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import Record

B = Ballot(3, 2)
SMALL = 64 << 10


def entry(slot: int) -> LogEntry:
    return LogEntry(slot, B, b"%d" % slot * 1000)


def opened(directory: Path) -> SegmentLog:
    log = SegmentLog(directory, segment_bytes=SMALL)
    log.restore()
    return log


def test_no_commit_makes_zeros_while_there_is_a_segment_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by: list[str] = []

    def noted(*args: object) -> object:
        made_by.append(threading.current_thread().name)
        return zeroed_file(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("kvstore.storage.ahead.zeroed_file", noted)
    log = opened(tmp_path / "log")
    monkeypatch.setattr(segment_log, "zeroed_file", noted)
    answered: queue.Queue[int] = queue.Queue()
    writer = ThreadedLogWriter(log, lambda call: call(), lambda error: answered.put(-1))
    for slot in range(1, 301):
        writer.submit([entry(slot)], lambda slot=slot: answered.put(slot))
        assert answered.get(timeout=10) == slot
        while any(each.name == "ahead" for each in threading.enumerate()):
            time.sleep(0.001)
    assert len(log._segments) > 5
    assert set(made_by) == {"ahead"} and len(made_by) >= len(log._segments) - 1
    writer.close()
    assert not (tmp_path / "log" / AHEAD).exists()
    log = opened(tmp_path / "log")
    assert [each.slot for each in log.restore().entries] == list(range(1, 301))
    log.close()


def fill_half(log: SegmentLog) -> Callable[[], None]:
    """What is to make the next segment, as soon as it is asked for."""
    for slot in range(1, 1000):
        log.commit([entry(slot)])
        if (make := log.make_ahead()) is not None:
            assert log._segments[-1].end >= SMALL / 2
            assert log.make_ahead() is None, "there is one to be"
            return make
    raise AssertionError


def roll(log: SegmentLog) -> None:
    """Until another segment is begun."""
    number, slot = log._segments[-1].number, log._number + 10_000
    while log._segments[-1].number == number:
        slot += 1
        log.commit([entry(slot)])


def test_one_that_is_not_ready_is_not_waited_for(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    make = fill_half(log)
    roll(log)
    assert log._segments[-1].number == 2
    make()
    assert (tmp_path / "log" / AHEAD).exists()
    roll(log)
    assert not (tmp_path / "log" / AHEAD).exists(), "it is the third segment"
    log.close()
    found = opened(tmp_path / "log")
    assert len(found._segments) == 3
    found.close()


def test_one_that_cannot_be_made_stops_nobody_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path / "log")
    make = fill_half(log)
    with monkeypatch.context() as patch:
        patch.setattr(SystemDisk, "create", _no_room)
        make()
    assert not (tmp_path / "log" / AHEAD).exists()
    assert log.make_ahead() is None, "for this segment it was tried"
    roll(log)
    assert not (tmp_path / "log" / NEW).exists()
    fill_half(log)()
    assert (tmp_path / "log" / AHEAD).exists()
    log.close()
    assert not (tmp_path / "log" / AHEAD).exists()


def _no_room(disk: SystemDisk, path: Path) -> None:
    raise OSError(28, "No space left on device")


def test_what_an_earlier_start_left_is_removed(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    fill_half(log)()
    log._close_files()  # as by a kill
    assert (tmp_path / "log" / AHEAD).exists()
    log = opened(tmp_path / "log")
    assert not (tmp_path / "log" / AHEAD).exists()
    log.close()


def test_closing_does_not_wait_for_all_its_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvstore.storage.ahead.PAUSE_S", 5)
    log = SegmentLog(tmp_path / "log")
    writer = ThreadedLogWriter(log, lambda call: call(), lambda error: None)
    done = threading.Event()
    large: list[Record] = [LogEntry(1, B, bytes(700_000))]
    writer.submit(large, done.set)
    assert done.wait(10)
    began = time.monotonic()
    writer.close()
    assert time.monotonic() - began < 4
    assert not (tmp_path / "log" / AHEAD).exists()
    assert not any(each.name == "ahead" for each in threading.enumerate())


def test_it_gives_a_file_that_is_large_enough_once(tmp_path: Path) -> None:
    made = AheadFile(SystemDisk(), tmp_path / AHEAD)
    make = made.begin(4096)
    assert made.begun and made.take(1) is None
    make()
    assert made.take(4097) is None and made.begun
    taken = made.take(4096)
    assert taken is not None and taken[1] == 4096 == taken[0].size()
    taken[0].close()
    assert not made.begun and made.take(1) is None
