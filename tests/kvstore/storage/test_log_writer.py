"""Group commit on a thread: in order of submission, what waits shares a commit, and a failure is
told once."""

import errno
import queue
import random
import threading
from collections.abc import Iterable
from pathlib import Path

from kvstore.errors import StorageFailed
from kvstore.storage.disk import File, SystemDisk
from kvstore.storage.log_writer import ThreadedLogWriter
from kvstore.storage.segment_log import SegmentLog
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import Record
from proof.processes.waiting import eventually

B = Ballot(3, 2)


def entry(slot: int) -> LogEntry:
    return LogEntry(slot, B, b"%d" % slot)


def test_groups_are_answered_in_order_and_nothing_after_a_failure(tmp_path: Path) -> None:
    posted: queue.Queue[str] = queue.Queue()
    log = SegmentLog(tmp_path / "log")
    writer = ThreadedLogWriter(
        log, lambda call: call(), lambda error: posted.put(type(error).__name__)
    )
    for slot in range(1, 50):
        writer.submit([entry(slot)], lambda slot=slot: posted.put(str(slot)))
    assert [posted.get(timeout=5) for _ in range(49)] == [str(slot) for slot in range(1, 50)]
    file = log._segments[-1].file

    def fails(offset: int, parts: object) -> None:
        raise OSError(5, "Input/output error")

    file.write_synced_at = fails  # type: ignore[method-assign]
    writer.submit([entry(50)], lambda: posted.put("50"))
    assert posted.get(timeout=5) == "StorageFailed"
    writer.submit([entry(51)], lambda: posted.put("51"))
    writer.close()
    assert posted.empty()


class SteppedLog(SegmentLog):
    """Each commit waits for a permit; `commits` are the sizes of those made."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.permits = threading.Semaphore(0)
        self.commits: list[list[int]] = []

    def commit(self, records: Iterable[Record]) -> None:
        assert self.permits.acquire(timeout=10)
        records = list(records)
        super().commit(records)
        self.commits.append([record.slot for record in records if isinstance(record, LogEntry)])


def test_what_comes_during_a_commit_shares_the_next(tmp_path: Path) -> None:
    log, done = SteppedLog(tmp_path / "log"), queue.SimpleQueue[int]()
    writer = ThreadedLogWriter(log, lambda call: call(), lambda error: None)
    writer.submit([entry(1)], lambda: done.put(1))
    log.permits.release()
    assert done.get(timeout=10) == 1
    writer.submit([entry(2)], lambda: done.put(2))
    for slot in (3, 4, 5):
        writer.submit([entry(slot)], lambda slot=slot: done.put(slot))
    assert done.empty(), "nothing is answered before its commit"
    for _ in range(4):
        log.permits.release()
    assert [done.get(timeout=10) for _ in range(4)] == [2, 3, 4, 5]
    writer.close()
    assert [slot for commit in log.commits for slot in commit] == [1, 2, 3, 4, 5]
    assert len(log.commits) < 5


def check_three_threads(path: Path, randomness: random.Random) -> None:
    log, answered = SegmentLog(path, segment_bytes=8 << 10), list[int]()
    failed: list[StorageFailed] = []
    writer = ThreadedLogWriter(log, lambda call: call(), failed.append)
    start = threading.Barrier(3)

    def submit(first: int, spins: list[int]) -> None:
        start.wait(10)
        for slot, spin in enumerate(spins, first):
            for _ in range(spin):
                pass
            writer.submit([entry(slot)], lambda slot=slot: answered.append(slot))

    spins = {
        first: [randomness.choice((0, 0, 3000)) for _ in range(15)] for first in (100, 200, 300)
    }
    threads = [threading.Thread(target=submit, args=each) for each in spins.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    writer.close()
    assert failed == [] and len(answered) == 45
    for first in spins:
        own = [slot for slot in answered if first <= slot < first + 15]
        assert own == list(range(first, first + 15))
    found = SegmentLog(path, segment_bytes=8 << 10).restore()
    assert [one.slot for one in found.entries] == sorted(answered)


def test_many_threads_and_pauses_lose_and_reorder_nothing(tmp_path: Path) -> None:
    """Whatever the interleaving: what was answered is in the log, and each thread's in order."""
    randomness = random.Random(3)
    for number in range(20):
        check_three_threads(tmp_path / f"log-{number}", randomness)


class FullDisk(SystemDisk):
    """Makes no file once `full`; what is there can be written."""

    full = False

    def create(self, path: Path) -> File:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path)

    def free_bytes(self, path: Path) -> int | None:
        return 0 if self.full else super().free_bytes(path)


def full_log(path: Path) -> tuple[FullDisk, ThreadedLogWriter, "queue.Queue[object]", int]:
    """A writer that waits for room with a commit, what it told, and what it was given."""
    posted: queue.Queue[object] = queue.Queue()
    disk = FullDisk()
    log = SegmentLog(path, disk, 16 << 10)
    log.commit([entry(1)])
    writer = ThreadedLogWriter(log, lambda call: call(), posted.put)
    disk.full = True
    slot = 1
    while not writer.waits_for_room:
        slot += 1
        writer.submit([LogEntry(slot, B, bytes(4000))], lambda slot=slot: posted.put(slot))
        wanted = slot - 1
        eventually(
            lambda wanted=wanted: bool(writer.waits_for_room) or posted.qsize() == wanted,
            "it goes on",
        )
    return disk, writer, posted, slot


def test_a_log_that_needs_a_file_waits_for_room(tmp_path: Path) -> None:
    """And loses nothing: what waits is committed once there is room."""
    disk, writer, posted, last = full_log(tmp_path / "log")
    assert "No space left" in writer.waits_for_room
    assert posted.qsize() == last - 2  # the last one waits
    disk.full = False
    eventually(lambda: not writer.waits_for_room, "it waits no longer")
    eventually(lambda: posted.qsize() == last - 1, "all is committed")
    writer.close()
    restored = SegmentLog(tmp_path / "log", segment_bytes=16 << 10).restore()
    assert [entry.slot for entry in restored.entries] == list(range(1, last + 1))


def test_who_stops_does_not_wait_for_room(tmp_path: Path) -> None:
    _, writer, posted, last = full_log(tmp_path / "log")
    writer.stop_waiting()
    writer.close()
    told = [posted.get(timeout=5) for _ in range(last - 1)]
    assert told[:-1] == list(range(2, last)) and isinstance(told[-1], StorageFailed)
