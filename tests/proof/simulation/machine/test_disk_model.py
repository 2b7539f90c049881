"""The simulated disk: what a crash leaves, and how it fails."""

import random
from pathlib import Path

import lmdb
import pytest

from kvstore.errors import StorageFailed
from kvstore.storage.log import LogStore
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Record
from proof.simulation.machine.disk import SimulatedDisk, SimulatedLogWriter
from proof.simulation.machine.scheduler import Process, Scheduler

LOG, FILE = Path("/d/log.mdb"), Path("/d/file")
ENTRY = LogEntry(1, Ballot(1, 1), b"value")


def new_disk(seed: int = 1) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed), (0.001, 0.002))


def test_what_is_synced_survives_and_of_the_rest_any_prefix() -> None:
    lengths = set()
    for seed in range(50):
        disk = new_disk(seed)
        file = disk.create(FILE)
        file.write_at(0, b"0123456789")
        disk.crash()
        lengths.add(disk.size(FILE) or 0)
        if disk.size(FILE) is not None:
            assert b"0123456789".startswith(disk.read(FILE))
        synced = disk.create(FILE)
        synced.write_at(0, b"0123456789")
        synced.sync()
        disk.crash()
        assert disk.read(FILE) == b"0123456789"
    assert {0, 10} < lengths


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
        self.store = LogStore(LOG, disk)
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
    restored = LogStore(LOG, disk).restore()
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
    assert LogStore(LOG, disk).restore().entries == ()


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
