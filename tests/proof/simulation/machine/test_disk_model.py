"""The simulated disk: what a crash leaves, and how it fails."""

import random
from pathlib import Path

import lmdb
import pytest

from kvstore.errors import StorageFailed
from kvstore.storage.disk import File
from kvstore.storage.segment_log import SegmentLog
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Record
from proof.simulation.machine.disk import SimulatedDisk, SimulatedLogWriter
from proof.simulation.machine.scheduler import Process, Scheduler

LOG, FILE = Path("/d/log"), Path("/d/file")
ENTRY = LogEntry(1, Ballot(1, 1), b"value")


def new_disk(seed: int = 1) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed), (0.001, 0.002))


def test_what_is_synced_survives_and_of_the_rest_any_sectors() -> None:
    before, after = bytes(2048), b"".join(bytes([n]) * 512 for n in (1, 2, 3, 4))
    seen = set()
    for seed in range(80):
        disk = SimulatedDisk(random.Random(1), (0, 0), tears=random.Random(seed))
        file = disk.create(FILE)
        file.write_at(0, before)
        file.sync()
        disk.sync_directory(FILE.parent)
        file.write_at(0, after)
        assert disk.read(FILE) == after
        disk.crash()
        kept = disk.read(FILE)
        sectors = [kept[at : at + 512] for at in range(0, 2048, 512)]
        assert all(
            sector[0] in (0, n) and len(set(sector)) == 1 for n, sector in enumerate(sectors, 1)
        )
        seen.add(tuple(bool(sector[0]) for sector in sectors))
    assert {(True,) * 4, (False,) * 4, (True, False, False, False)} <= seen
    assert any(kept[2:] > kept[:2] for kept in seen), "a later one without the one before"


def test_a_name_is_durable_after_a_sync_of_its_directory() -> None:
    other, found = Path("/d/other"), set()
    for seed in range(40):
        disk = SimulatedDisk(random.Random(1), (0, 0), tears=random.Random(seed))
        disk.replace(FILE, b"old")
        file = disk.create(other)
        file.write_at(0, b"new")
        file.sync()
        disk.rename(other, FILE)
        assert disk.read(FILE) == b"new" and disk.size(other) is None
        disk.sync_directory(Path("/e"))
        disk.crash()
        found.add((disk.read(FILE), disk.size(other)))
        disk.replace(FILE, b"newer")
        disk.remove(FILE)
        disk.sync_directory(FILE.parent)
        disk.crash()
        assert disk.size(FILE) is None
    assert found == {(b"old", None), (b"old", 3), (b"new", None)}


def test_what_a_failed_sync_left_is_readable_and_may_go_at_the_next_crash() -> None:
    """As Linux does: the pages count as clean, and the next sync says nothing."""
    kept = set()
    for seed in range(20):
        disk = SimulatedDisk(random.Random(1), (0, 0), tears=random.Random(seed))
        file = disk.create(FILE)
        disk.sync_directory(FILE.parent)
        file.write_at(0, b"x")
        disk.fails = True
        with pytest.raises(OSError, match="disk failed"):
            file.sync()
        disk.fails = False
        assert file.read_at(0, 1) == b"x"
        file.sync()
        disk.crash()
        kept.add(disk.read(FILE))
    assert kept == {b"", b"x"}


def test_a_full_disk_takes_what_needs_no_room() -> None:
    disk = new_disk()
    file = disk.create(FILE)
    file.write_at(0, bytes(1000))
    disk.full = True
    file.write_at(500, b"x" * 500)
    file.sync()
    with pytest.raises(OSError, match="no space"):
        file.write_at(600, b"x" * 500)


def test_a_call_that_a_kill_cuts_short_is_made_in_part() -> None:
    seen = set()
    for seed in range(60):
        disk = SimulatedDisk(random.Random(seed), (0, 0), tears=random.Random(seed))
        file = disk.create(FILE)

        def call(file: File = file) -> None:
            for n in range(4):
                file.write_at(n * 600, b"x" * 600)
                file.sync()

        whole = disk.cut_short(call)
        assert not whole or file.size() == 2400
        seen.add(file.size())
    assert {0, 600, 1200, 2400} < seen and any(size % 600 for size in seen)


def test_a_replaced_file_is_the_old_or_the_new_one() -> None:
    disk = new_disk()
    disk.replace(FILE, b"old")
    disk.fails = True
    with pytest.raises(OSError, match="disk failed"):
        disk.replace(FILE, b"new")
    disk.crash()
    assert disk.read(FILE) == b"old"


class Writer:
    """A log writer on a program of its own; what it called back is in `said`."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.scheduler = Scheduler()
        self.process = Process(self.scheduler, "node-1/1", blocking=disk)
        self.said: list[str] = []
        self.groups: list[int] = []
        self.store = SegmentLog(LOG, disk)
        self.writer = SimulatedLogWriter(self.process, self.store, self._failed, self._committed)

    def _failed(self, error: StorageFailed) -> None:
        self.said.append("failed")

    def _committed(self, records: list[Record], groups: int) -> None:
        self.groups.append(groups)

    def submit(self, name: str, *records: Record) -> None:
        self.writer.submit(list(records), lambda: self.said.append(name))

    def run(self, for_s: float) -> None:
        self.scheduler.run(self.scheduler.now_s + for_s, lambda: False)


def test_groups_that_come_during_a_commit_share_the_next() -> None:
    writer = Writer(new_disk())
    writer.submit("a", ENTRY)
    writer.submit("b", ChosenThrough(1))
    writer.submit("c")
    assert writer.said == []
    writer.run(1)
    assert writer.said == ["a", "b", "c"] and writer.groups == [1, 2]
    assert writer.store.restore().entries == (ENTRY,)


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_during_a_commit_keeps_all_of_it_or_nothing(seed: int) -> None:
    disk = new_disk(seed)
    writer = Writer(disk)
    writer.submit("a", ENTRY, ChosenThrough(1))
    writer.run(0.0005)
    kept, dropped = writer.process.kill()
    assert kept + dropped == 1 and writer.said == []
    restored = SegmentLog(LOG, disk).restore()
    assert (restored.entries, restored.chosen_through) == (((ENTRY,), 1) if kept else ((), 0))


def test_a_failed_commit_is_told_once_and_nothing_follows() -> None:
    disk = new_disk()
    writer = Writer(disk)
    disk.fails = True
    writer.submit("a", ENTRY)
    writer.run(1)
    disk.fails = False
    writer.submit("b", ENTRY)
    writer.run(1)
    assert writer.said == ["failed"]
    assert SegmentLog(LOG, disk).restore().entries == ()


def test_a_full_disk_fails_in_the_words_of_lmdb_and_of_the_system() -> None:
    disk = new_disk()
    environment = disk.environment(LOG, databases=1)
    database = environment.open_db(b"one")
    disk.full = True
    with pytest.raises(lmdb.Error), environment.begin(write=True) as transaction:
        transaction.put(b"a", b"1", db=database)
    with pytest.raises(OSError, match="no space"):
        disk.create(FILE).write_at(0, b"x")
    assert disk.failures == 2
    with environment.begin() as reader:
        assert reader.get(b"a", db=database) is None


def test_a_lost_disk_is_empty() -> None:
    disk = new_disk()
    disk.replace(FILE, b"x")
    disk.lose()
    assert disk.size(FILE) is None
