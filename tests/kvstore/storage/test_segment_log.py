"""The segment log: what was committed is restored, torn ends are cut off, damage is refused, and
nothing of an earlier use of a file comes back."""

import errno
import os
import random
import shutil
import time
from itertools import product
from pathlib import Path

import pytest

from kvstore.errors import StorageError, StorageFailed
from kvstore.storage.disk import File, SystemDisk
from kvstore.storage.groups import SECTOR_BYTES, encode_group
from kvstore.storage.segment_log import SEGMENT_BYTES, SegmentLog
from kvstore.storage.segments import NEW, segment_path
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Restored, Truncation

B = Ballot(3, 2)
SMALL = 16 << 10


def entries(first: int, last: int, size: int = 10) -> list[LogEntry]:
    return [LogEntry(slot, B, b"%d" % slot * size) for slot in range(first, last + 1)]


def restored(directory: Path, segment_bytes: int = SMALL) -> Restored:
    log = SegmentLog(directory, segment_bytes=segment_bytes)
    try:
        return log.restore()
    finally:
        log.close()


def flipped(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_what_was_committed_is_restored(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log")
    log.commit([Promised(B), *entries(1, 9), ChosenThrough(8)])
    log.commit([Truncation(4)])
    log.commit([LogEntry(9, Ballot(4, 1), b"")])
    log.close()
    log = SegmentLog(tmp_path / "log")
    found = log.restore()
    assert found.promised == B
    assert (found.first_slot, found.chosen_through) == (4, 8)
    assert list(found.entries) == [*entries(4, 8), LogEntry(9, Ballot(4, 1), b"")]
    assert log.torn is None
    log.commit(entries(10, 10))
    assert log.restore().entries[-1] == entries(10, 10)[0]
    log.close()


def test_a_missing_chosen_entry_is_damage(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log")
    log.commit([*entries(1, 2), ChosenThrough(3)])
    with pytest.raises(StorageError, match="slot 3 is missing"):
        log.restore()
    log.close()


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Restored]:
    """A log of a few groups in three segments, closed as by a kill."""
    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    log.commit([Promised(B), *entries(1, 3)])
    for slot in range(4, 60, 3):
        log.commit([*entries(slot, slot + 2, 250), ChosenThrough(slot)])
    log._close_files()
    assert segment_path(tmp_path / "log", 3).exists()
    return tmp_path / "log", restored(tmp_path / "log")


def refused_or_whole(directory: Path, whole: Restored) -> bool:
    """Whether it was refused; then by name and place."""
    said = ""
    try:
        found = restored(directory)
    except StorageError as error:
        said = str(error)
    else:
        assert found == whole
    assert not said or ".segment is damaged" in said
    return bool(said)


def test_a_flipped_bit_never_takes_what_was_acknowledged(
    written: tuple[Path, Restored], tmp_path: Path
) -> None:
    directory, whole = written
    randomness, refused = random.Random(5), 0
    for number in (1, 2, 3):
        path = segment_path(directory, number)
        for offset in randomness.sample(range(SMALL), 60):
            kept = path.read_bytes()
            flipped(path, offset)
            refused += refused_or_whole(directory, whole)
            path.write_bytes(kept)
    assert refused > 60


def test_a_lost_sector_never_takes_what_was_acknowledged(written: tuple[Path, Restored]) -> None:
    directory, whole = written
    refused = 0
    for number in (1, 2, 3):
        path = segment_path(directory, number)
        kept = path.read_bytes()
        for offset in range(0, SMALL, SECTOR_BYTES):
            path.write_bytes(kept[:offset] + bytes(SECTOR_BYTES) + kept[offset + SECTOR_BYTES :])
            refused += refused_or_whole(directory, whole)
        path.write_bytes(kept)
    assert refused > 60


@pytest.mark.parametrize("size", [0, 100, 512, SMALL // 2, SMALL - 512])
def test_a_file_that_was_cut_is_refused(written: tuple[Path, Restored], size: int) -> None:
    directory, whole = written
    for number in (1, 3):
        path = segment_path(directory, number)
        kept = path.read_bytes()
        path.write_bytes(kept[:size])
        assert refused_or_whole(directory, whole)
        path.write_bytes(kept)


def test_a_segment_that_is_missing_is_named(written: tuple[Path, Restored]) -> None:
    directory, _ = written
    segment_path(directory, 2).unlink()
    with pytest.raises(StorageError, match=r"00000003\.segment follows 00000001\.segment"):
        restored(directory)


def test_a_segment_under_another_name_is_refused(written: tuple[Path, Restored]) -> None:
    directory, _ = written
    shutil.copy(segment_path(directory, 2), segment_path(directory, 4))
    with pytest.raises(StorageError, match="segment 2 under another name"):
        restored(directory)


def test_any_torn_end_is_cut_off_and_told(tmp_path: Path) -> None:
    """Whatever the disk has of the sectors of a group that was never acknowledged."""
    before = [Promised(B), *entries(1, 2), ChosenThrough(2)]
    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    log.commit(before)
    segment = log._segments[-1]
    parts = encode_group(segment.generation, log._number + 1, segment.end, entries(3, 5, 400))
    group, end, path = b"".join(parts), segment.end, segment.path
    log.close()
    sectors = [group[at : at + SECTOR_BYTES] for at in range(0, len(group), SECTOR_BYTES)]
    assert len(sectors) == 3
    kept = path.read_bytes()
    for keeps in product((False, True), repeat=3):
        data = bytearray(kept)
        for number, (sector, keep) in enumerate(zip(sectors, keeps, strict=True)):
            at = end + number * SECTOR_BYTES
            data[at : at + SECTOR_BYTES] = sector if keep else data[at : at + SECTOR_BYTES]
        path.write_bytes(data)
        log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
        found = log.restore()
        assert list(found.entries) == entries(1, 2) + (entries(3, 5, 400) if all(keeps) else [])
        torn = keeps[0] and not all(keeps)
        assert (log.torn is not None) == torn
        if log.torn is not None:
            assert (log.torn.path, log.torn.offset) == (path, end)
        log.commit(entries(3, 3))
        log.commit(entries(4, 4))
        log._close_files()
        again = restored(tmp_path / "log")
        assert list(again.entries)[:4] == entries(1, 4)


def used_again(tmp_path: Path) -> SegmentLog:
    """A log of which the files went round several times."""
    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    log.commit([Promised(B)])
    for slot in range(1, 300):
        log.commit([*entries(slot, slot, 300), ChosenThrough(slot)])
        if slot % 10 == 0:
            log.commit([Truncation(slot - 5)])
    return log


def test_files_are_used_again_and_what_they_held_does_not_come_back(tmp_path: Path) -> None:
    log = used_again(tmp_path)
    names = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert len(names) <= 3 and log._segments[-1].number > 10
    log._close_files()
    found = restored(tmp_path / "log")
    assert found.promised == B, "restated at the beginning of each segment"
    assert (found.first_slot, found.chosen_through) == (285, 299)
    assert list(found.entries) == entries(285, 299, 300)


def test_one_file_is_open_however_many_there_are(tmp_path: Path) -> None:
    def open_files() -> int:
        return sum(
            str(tmp_path) in os.readlink(f"/proc/self/fd/{number}")
            for number in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{number}")
        )

    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    for slot in range(1, 150):
        log.commit(entries(slot, slot, 300))
    assert len(list((tmp_path / "log").iterdir())) > 5 and open_files() == 1
    log.restore()
    assert open_files() == 1
    log.commit([Truncation(140)])
    log.close()
    assert open_files() == 0


def test_a_value_that_looks_like_a_group_is_a_value(tmp_path: Path) -> None:
    """Whoever chooses values does not know the generation; with another one it is nothing."""
    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    forged = b"".join(encode_group(b"somebody", 2, 1024, [Promised(Ballot(99, 9))]))
    aligned = bytes(SECTOR_BYTES - 32 - 4 * 32) + forged
    log.commit([LogEntry(1, B, aligned)])
    offset = segment_path(tmp_path / "log", 1).read_bytes().find(b"somebody") - 4
    assert offset == 1024
    log._close_files()
    assert restored(tmp_path / "log").promised == Ballot(0, 0)


@pytest.mark.parametrize("size", [SMALL // 2, SMALL, 5 * SMALL])
def test_what_does_not_fit_a_segment_gets_a_larger_one(tmp_path: Path, size: int) -> None:
    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    log.commit(entries(1, 2))
    large = LogEntry(3, B, b"x" * size)
    log.commit([large, *entries(4, 40, 500)])
    log._close_files()
    found = restored(tmp_path / "log")
    assert list(found.entries) == [*entries(1, 2), large, *entries(4, 40, 500)]
    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    log.commit([Truncation(41)])
    log.close()
    sizes = {path.stat().st_size for path in (tmp_path / "log").iterdir()}
    assert sizes == {SMALL}, "the larger one is not kept"


def test_the_first_group_of_a_segment_fits_with_its_marks(tmp_path: Path) -> None:
    """Also in a segment that was begun before a crash, and is empty after it."""
    directory = tmp_path / "log"
    log = SegmentLog(directory, segment_bytes=SMALL)
    slot = 0
    while not segment_path(directory, 2).exists():
        slot += 1
        log.commit(entries(slot, slot, 300))
    log.close()
    path = segment_path(directory, 2)
    path.write_bytes(path.read_bytes()[:SECTOR_BYTES].ljust(SMALL, b"\0"))
    log = SegmentLog(directory, segment_bytes=SMALL)
    log.restore()
    log.commit([LogEntry(slot, B, bytes(SMALL - 2 * SECTOR_BYTES - 96))])
    log.close()
    assert restored(directory).entries[-1].slot == slot


def test_an_empty_segment_proves_the_groups_before_it(written: tuple[Path, Restored]) -> None:
    """The power failed before its first group, and a bit of the last one before it flips."""
    directory, _ = written
    path = segment_path(directory, 3)
    path.write_bytes(path.read_bytes()[:SECTOR_BYTES].ljust(SMALL, b"\0"))
    old = segment_path(directory, 2)
    data = old.read_bytes()
    last = max(at for at in range(0, SMALL, SECTOR_BYTES) if any(data[at : at + SECTOR_BYTES]))
    data = data[:last].ljust(SMALL, b"\0")  # its seal is lost
    old.write_bytes(data)
    through = restored(directory).entries[-1].slot
    assert through > 3
    at = data.rfind(b"%d" % through)
    old.write_bytes(data[:at] + b"x" + data[at + 1 :])
    with pytest.raises(StorageError, match=r"00000002.segment is damaged: .*00000003.segment was"):
        restored(directory)


def test_nothing_is_written_to_a_log_that_was_refused(written: tuple[Path, Restored]) -> None:
    directory, _ = written
    flipped(segment_path(directory, 2), SECTOR_BYTES + 40)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    log = SegmentLog(directory, segment_bytes=SMALL)
    for call in (log.restore, lambda: log.commit(entries(99, 99))):
        with pytest.raises(StorageError, match="damaged"):
            call()
    log.close()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_segments_grow_to_their_size(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log")
    for slot in range(1, 11):
        log.commit([LogEntry(slot, B, bytes(600_000))])
    log.close()
    sizes = [segment_path(tmp_path / "log", n).stat().st_size for n in (1, 2, 3)]
    assert sizes == [1 << 20, 2 << 20, 4 << 20]


class _FullFile:
    def __init__(self, disk: "FullDisk", file: File) -> None:
        self._disk, self._file = disk, file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write_at(self, offset: int, data: bytes) -> None:
        if self._disk.full and offset + len(data) > self._file.size():
            raise OSError(errno.ENOSPC, "No space left on device")
        self._file.write_at(offset, data)


class FullDisk(SystemDisk):
    """Once `full`, no file gets longer."""

    full = False

    def create(self, path: Path) -> File:
        return _FullFile(self, super().create(path))  # type: ignore[return-value]


def test_on_a_full_disk_the_log_goes_on_in_the_room_it_has(tmp_path: Path) -> None:
    disk = FullDisk()
    log = SegmentLog(tmp_path / "log", disk, SMALL)
    log.commit([Promised(B)])
    disk.full = True
    done = 0

    def go_on() -> None:
        nonlocal done
        for slot in range(1, 100):
            log.commit(entries(slot, slot, 300))
            done = slot

    with pytest.raises(StorageFailed, match=r"writing the log .*/log failed: .*No space left"):
        go_on()
    with pytest.raises(StorageFailed):
        log.commit(entries(done + 1, done + 1))
    log.close()
    assert done > 5
    assert list(restored(tmp_path / "log").entries) == entries(1, done, 300)
    assert not (tmp_path / "log" / NEW).exists()


def test_a_log_that_cannot_be_read_or_begun_is_named(tmp_path: Path) -> None:
    """And nothing is said of giving its data up."""

    class BadDisk(SystemDisk):
        def open_to_write(self, path: Path) -> File:
            raise OSError(errno.EIO, "Input/output error")

        def create(self, path: Path) -> File:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    directory = tmp_path / "log"
    with pytest.raises(StorageError, match=r"/log cannot be written: the disk has no room .*quota"):
        SegmentLog(directory, BadDisk()).restore()
    SegmentLog(directory).restore()
    with pytest.raises(StorageError, match=r"/log cannot be opened: .*Input/output error") as error:
        SegmentLog(directory, BadDisk()).restore()
    assert "given up" not in str(error.value)


def test_where_a_write_cannot_sync_a_sync_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    write, sync = os.pwritev, os.fdatasync

    def pwritev(descriptor: int, parts: list[bytes], offset: int, flags: int = 0) -> int:
        calls.append("synced write" if flags else "write")
        if flags:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return write(descriptor, parts, offset)

    def fdatasync(descriptor: int) -> None:
        calls.append("sync")
        sync(descriptor)

    log = SegmentLog(tmp_path / "log", segment_bytes=SMALL)
    log.restore()
    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    for slot in (1, 2):
        log.commit(entries(slot, slot))
    seal = "write"
    assert calls == ["synced write", "write", "sync", seal, "write", "sync", seal]
    log.close()


class UnsyncedDisk(SystemDisk):
    """Does not wait."""

    def create(self, path: Path) -> File:
        file = super().create(path)
        file.sync = lambda: None  # type: ignore[method-assign]
        file.write_synced_at = file.write_parts_at  # type: ignore[method-assign]
        return file


def test_many_truncations_do_not_make_a_start_slow(tmp_path: Path) -> None:
    """As a checkpoint leaves them ten times a second: no start may look at all entries each time.
    It took 0.9 s of this machine's CPU, and takes 0.15."""
    log = SegmentLog(tmp_path / "log", UnsyncedDisk())
    log.commit(entries(1, 10_000))
    for slot in range(1, 4_000):
        log.commit([Truncation(1 + slot // 3_000), *entries(10_000 + slot, 10_000 + slot)])
    log.close()
    began = time.process_time()
    found = restored(tmp_path / "log", SEGMENT_BYTES)
    assert time.process_time() - began < 0.6
    assert len(found.entries) == 13_998
