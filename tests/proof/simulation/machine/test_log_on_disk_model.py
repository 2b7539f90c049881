"""The real log on the simulated disk: whatever a crash, a kill or a failing sync does to what was
not acknowledged, what was acknowledged is there."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from kvstore.errors import StorageError, StorageFailed
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.segments import NEW, segment_path
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Record, Restored, Truncation, fold
from proof.simulation.machine.disk import KilledHere, SimulatedDisk
from proof.simulation.machine.files import DiskFile
from proof.simulation.mutations.edit import Mutation
from proof.simulation.mutations.log_files import FILES

LOG = Path("/d/log")
SEGMENT_BYTES = 4096


class Walk:
    """One log and its disk; `acknowledged` is what it must hold, and `under_way` what it may."""

    def __init__(self, seed: int) -> None:
        self.randomness = random.Random(seed)
        self.disk = SimulatedDisk(random.Random(seed + 1), (0, 0), tears=random.Random(seed + 2))
        self.log = SegmentLog(LOG, self.disk, SEGMENT_BYTES)
        self.acknowledged = self.log.restore()
        self.under_way: list[Record] = []
        self.torn = self.recovered = 0
        self.last_slot = 0

    def records(self) -> list[Record]:
        """What an acceptor might write next."""
        rng, held, records = self.randomness, self.acknowledged, list[Record]()
        if rng.random() < 0.2:
            records.append(Promised(held.promised.next_for(rng.randint(1, 3))))
        for _ in range(rng.choice((0, 1, 1, 3, 6))):
            self.last_slot += 1
            value = rng.randbytes(rng.choice((0, 30, 300, 900)))
            records.append(LogEntry(self.last_slot, held.promised, value))
        if held.entries and rng.random() < 0.5:
            records.append(ChosenThrough(max(held.chosen_through, held.entries[-1].slot)))
        if rng.random() < 0.3 and held.chosen_through > held.first_slot:
            records.append(Truncation(rng.randint(held.first_slot, held.chosen_through)))
        return records or [Promised(held.promised)]

    def commit(self) -> None:
        records = self.records()
        self.log.commit(records)
        self.acknowledged = fold(records, self.acknowledged)

    def fail(self) -> None:
        """The node stops; whoever starts again finds the disk well."""
        self.disk.fails = True
        self.under_way = self.records()
        with pytest.raises(StorageFailed):
            self.log.commit(self.under_way)
        self.disk.fails = False

    def kill(self) -> None:
        self.under_way = self.records()
        self.disk.cut_short(lambda: self.log.commit(self.under_way))

    def begin_again(self) -> None:
        self.log = SegmentLog(LOG, self.disk, SEGMENT_BYTES)
        found = self.log.restore()
        self.torn += self.log.torn is not None
        if found != self.acknowledged:
            assert found in list(self._prefixes()), "neither what was acknowledged nor more"
            self.recovered += 1
        self.acknowledged, self.under_way = found, []
        self.last_slot = max((entry.slot for entry in found.entries), default=found.chosen_through)

    def _prefixes(self) -> "list[Restored]":
        """A commit of many records may be several groups."""
        count = len(self.under_way)
        return [fold(self.under_way[:n], self.acknowledged) for n in range(1, count + 1)]

    def step(self) -> None:
        if self.randomness.random() < 0.8:
            return self.commit()
        if self.randomness.random() < 0.6:
            self.randomness.choice((self.fail, self.kill))()
        if self.randomness.random() < 0.6:
            self.disk.crash()
        return self.begin_again()


def walked(seed: int) -> Walk:
    walk = Walk(seed)
    for _ in range(60):
        walk.step()
    return walk


def test_what_was_acknowledged_survives_everything() -> None:
    torn = recovered = segments = 0
    for seed in range(50):
        walk = walked(seed)
        torn += walk.torn
        recovered += walk.recovered
        segments += walk.log._segments[-1].number
    assert torn > 4 and recovered > 80 and segments > 500, (torn, recovered, segments)


def test_what_a_killed_program_wrote_and_did_not_sync_is_synced_by_the_next() -> None:
    """Failing schedule otherwise: a group is written and the program killed; the next one reads it
    from the system's memory and answers for it; the power fails."""
    disk = SimulatedDisk(random.Random(1), (0, 0), tears=random.Random(4))
    log = SegmentLog(LOG, disk, SEGMENT_BYTES)
    log.commit([Promised(Ballot(1, 1))])
    disk.fails = True
    entry = LogEntry(1, Ballot(1, 1), b"value")
    for seed in range(20):  # until the write is taken, and only the sync fails
        disk._tears = random.Random(seed)
        with pytest.raises(StorageFailed):
            log.commit([entry])
        log = SegmentLog(LOG, disk, SEGMENT_BYTES)
        disk.fails = False
        found = log.restore()
        if found.entries:
            break
        disk.fails = True
    assert found.entries == (entry,)
    for seed in range(10):
        disk._tears = random.Random(seed)
        disk.crash()
        assert SegmentLog(LOG, disk, SEGMENT_BYTES).restore() == found


def test_a_flipped_bit_and_a_power_failure_cost_at_most_the_last_group() -> None:
    """The limit that decision 0019 states: the seal of the last group is not synced."""
    disk = SimulatedDisk(random.Random(1), (0, 0), tears=random.Random(4))
    log = SegmentLog(LOG, disk, SEGMENT_BYTES)
    log.commit([Promised(Ballot(1, 1))])
    log.commit([LogEntry(1, Ballot(1, 1), b"first")])
    log.commit([LogEntry(2, Ballot(1, 1), b"second")])
    file = disk.files[segment_path(LOG, 1)]
    assert isinstance(file, DiskFile)
    file._dirty.clear()  # the seal never reaches the disk
    disk.crash()
    at = file.content.find(b"second")
    file.content[at] ^= 1
    log = SegmentLog(LOG, disk, SEGMENT_BYTES)
    assert [entry.value for entry in log.restore().entries] == [b"first"]
    assert log.torn is not None


def begin_segments_on_a_disk_that_fails() -> None:
    """Failing schedule, if the file that was being zeroed is used again: its sync fails, a crash
    comes much later, and the segment is shorter than its header says."""
    for seed in range(40):
        disk = SimulatedDisk(random.Random(1), (0, 0), tears=random.Random(seed))
        log, slot = SegmentLog(LOG, disk, SEGMENT_BYTES), 0
        found = log.restore()
        while not any(path.name == NEW for path in disk.files):
            slot += 1
            disk.fails = not log._segments[-1].fits(1024)
            with suppress(StorageFailed):
                log.commit([LogEntry(slot, Ballot(1, 1), bytes(800))])
                found = log.restore()
            if disk.fails:
                break
        disk.fails = False
        log = SegmentLog(LOG, disk, SEGMENT_BYTES)
        assert log.restore() == found
        log.commit([LogEntry(slot, Ballot(1, 1), bytes(800))])
        disk.crash()
        assert SegmentLog(LOG, disk, SEGMENT_BYTES).restore().entries[-1].slot == slot


def lose_power_where_a_segment_begins() -> None:
    """After each operation of the disk that it takes; what it has of them differs by seed."""
    for seed in range(80):
        disk = SimulatedDisk(random.Random(1), (0, 0), tears=random.Random(seed))
        log, slot = SegmentLog(LOG, disk, SEGMENT_BYTES), 0
        while slot == 0 or log._segments[-1].fits(1024):
            slot += 1
            log.commit([LogEntry(slot, Ballot(1, 1), bytes(800))])
        disk._operations_left = seed % 10
        with suppress(KilledHere):
            log.commit([LogEntry(slot + 1, Ballot(1, 1), bytes(800))])
        disk._operations_left = None
        disk.crash()
        log = SegmentLog(LOG, disk, SEGMENT_BYTES)
        assert log.restore().entries[-1].slot in (slot, slot + 1)
        log.commit([LogEntry(slot + 2, Ballot(1, 1), bytes(800))])
        assert log.restore().entries[-1].slot == slot + 2


def walk_a_little() -> None:
    for seed in range(25):
        walked(seed)


FINDS = {
    "use a new file again after a crash": begin_segments_on_a_disk_that_fails,
    "name a segment before its header is synced": lose_power_where_a_segment_begins,
}
"""Beside walks."""


@pytest.mark.parametrize("fault", FILES, ids=lambda fault: fault.name)
def test_each_fault_of_the_files_is_found(fault: Mutation) -> None:
    find = FINDS.get(fault.name, walk_a_little)
    with fault.apply(), pytest.raises((AssertionError, StorageError)):
        find()


def test_a_segment_may_be_begun_in_vain() -> None:
    lose_power_where_a_segment_begins()


def test_files_whose_zeros_were_not_synced_are_not_used() -> None:
    begin_segments_on_a_disk_that_fails()
