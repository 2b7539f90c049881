"""The log on disk: what the acceptor must never forget. One write and one sync for each group.

Segment files in a directory (`kvstore.storage.segments`), of which the last one is written to.
The first group of a segment begins with the promise, the first slot and the chosen prefix as they
were before it, so all segments before one are needed for their entries only, and leave when these
are truncated. `docs/decisions/0019-segment-log.md` has the reasons.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from kvstore.errors import StorageFailed
from kvstore.storage.ahead import AheadFile
from kvstore.storage.disk import SYSTEM_DISK, Disk, File
from kvstore.storage.environment import damaged, unusable
from kvstore.storage.groups import SECTOR_BYTES, encode_group, encode_seal, group_bytes, sectors
from kvstore.storage.room import RoomWait
from kvstore.storage.segments import (
    AHEAD,
    NEW,
    SPARE,
    Segment,
    SegmentReader,
    Torn,
    make_segment,
    segment_numbers,
    zeroed_file,
)
from paxos.ballot import ZERO, Slot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Record, RecordFold, Restored, Truncation

SEGMENT_BYTES = 16 << 20
FIRST_SEGMENT_BYTES = 1 << 20
"""The first segment of a log is so small, and each that is made is twice the one before, up to
`segment_bytes`: a log that is hardly used takes little room."""
GENERATION_BYTES = 8
AHEAD_FROM = 0.5
"""The next segment is made once so much of the present one is written."""


class SegmentLog:
    """All calls belong to one thread at a time.

    `torn` is the end that the last `restore` cut off. Raises StorageError from `restore` on a
    damaged file, and if a file cannot be read or written.
    """

    def __init__(
        self, path: Path, disk: Disk = SYSTEM_DISK, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.torn: Torn | None = None
        self._path = path
        self._disk = disk
        self._segment_bytes = sectors(segment_bytes)
        self._segments: list[Segment] = []
        self._spare = False  # whether there is one
        self._ahead = AheadFile(disk, path / AHEAD)
        self._number = 0  # of the last group
        self._marks = _Marks()
        self._failed = False
        self.room: RoomWait | None = None
        """Waits for room for a new segment; without it a full disk is an error like any other."""

    def free_bytes(self) -> int | None:
        """What the disk has left; None if nobody knows. Raises OSError."""
        return self._disk.free_bytes(self._path)

    # -- reading ----------------------------------------------------------------------------

    def restore(self) -> Restored:
        """Everything that earlier starts made durable; from here on it is durable in fact.

        What is read may be in the system's memory only: the process before this one was killed
        between a write and its sync, or the sync failed.
        """
        try:
            return self._restore()
        except BaseException as error:
            self._close_files()  # so that nothing is written to a log that was not read
            if isinstance(error, OSError):
                raise unusable(self._path, error) from error
            raise

    def _restore(self) -> Restored:
        self._close_files()
        self._disk.make_directory(self._path)
        for directory in (self._path.parent, self._path):
            self._disk.sync_directory(directory)
        fold = RecordFold()
        reader = self._read_segments(fold)
        if reader is None:
            self._roll(0)
        elif not reader.segment.empty and not reader.sealed:
            self._write_again(reader)
        self._find_spare()
        restored = fold.restored()
        self._check(restored)
        return restored

    def _read_segments(self, fold: RecordFold) -> SegmentReader | None:
        """The reader of the last segment, exhausted."""
        reader: SegmentReader | None = None
        self.torn = None
        self._marks, self._number = _Marks(), 0
        for number in segment_numbers(self._disk, self._path):
            before, reader = reader, SegmentReader(self._disk, self._path, number)
            self._segments.append(reader.segment)
            if before is not None:
                before.segment.file.close()
                self._check_follows(before, reader)
            for record in reader.records():
                fold.add(record)
                self._take(record, reader.segment)
            self.torn = reader.torn
            self._number = reader.last_number
        return reader

    def _check_follows(self, before: SegmentReader, reader: SegmentReader) -> None:
        """A segment is begun once all groups before it are synced. Raises StorageError."""
        old, new = before.segment, reader.segment
        if new.number != old.number + 1:
            raise damaged(self._path, f"{new.path.name} follows {old.path.name}")
        if reader.after != before.last_number:
            raise damaged(
                old.path,
                f"at byte {old.end} there is no whole group {before.last_number + 1}, and "
                f"{new.path.name} was begun after group {reader.after}",
            )

    def _write_again(self, reader: SegmentReader) -> None:
        """The last group: its sync may never have been asked for, or have failed."""
        segment = reader.segment
        segment.file.write_at(reader.last_offset, reader.group())
        segment.file.sync_data()
        self._seal(segment)

    def _check(self, restored: Restored) -> None:
        slots = {entry.slot for entry in restored.entries}
        for slot in range(restored.first_slot, restored.chosen_through + 1):
            if slot not in slots:
                raise damaged(self._path, f"the entry of chosen slot {slot} is missing")

    # -- writing ----------------------------------------------------------------------------

    def commit(self, records: Iterable[Record]) -> None:
        """Write all `records` and wait until the disk has them.

        Raises StorageFailed if it does not; then nothing of the group may be acknowledged, and the
        process must stop: what a failed fsync left behind is unknown (D2).
        """
        if self._failed:
            raise StorageFailed(f"writing the log {self._path} failed before")
        try:
            if not self._segments:
                self.restore()
            for group in self._groups(list(records)):
                self._write(group)
            self._drop()
        except OSError as error:
            self._failed = True
            raise StorageFailed(f"writing the log {self._path} failed: {error}") from error

    def _groups(self, records: list[Record]) -> Iterator[list[Record]]:
        """Pieces of `records` that fit into one segment each, or are one record."""
        most = self._segment_bytes // 2
        if group_bytes(records) <= most:
            if records:
                yield records
            return
        piece: list[Record] = []
        size = 0
        for record in records:
            more = group_bytes([record])
            if piece and size + more > most:
                yield piece
                piece, size = [], 0
            piece.append(record)
            size += more
        yield piece

    def _write(self, records: Sequence[Record]) -> None:
        segment = self._segments[-1]
        if segment.empty or not segment.fits(group_bytes(records)):
            records = [*self._marks.records(), *records]
            if not segment.fits(group_bytes(records)):
                self._roll(group_bytes(records))
                segment = self._segments[-1]
        number = self._number + 1
        parts = encode_group(segment.generation, number, segment.end, records)
        segment.file.write_synced_at(segment.end, parts)
        self._number = number
        segment.end += sum(map(len, parts))
        for record in records:
            self._take(record, segment)
        self._seal(segment)

    def _take(self, record: Record, segment: Segment) -> None:
        """`record` is in `segment` from now on."""
        if not isinstance(record, LogEntry):
            self._marks.take(record)
        elif record.slot > segment.last_slot:
            segment.last_slot = record.slot

    def _seal(self, segment: Segment) -> None:
        """The last group is synced. The seal is not: it is of use where there is no power failure,
        and goes to the disk with the next group, or when the system writes it back."""
        seal = encode_seal(segment.generation, self._number, segment.end)
        segment.file.write_at(segment.end, seal)

    def _roll(self, size: int) -> None:
        """Begin a new segment, into which a group of `size` bytes fits. Raises OSError."""
        needed = size + 2 * SECTOR_BYTES
        last = self._segments[-1] if self._segments else None
        number, grown = (last.number + 1, 2 * last.size) if last else (1, FIRST_SEGMENT_BYTES)
        if self._spare and needed <= self._segment_bytes:
            self._spare, size, old = False, self._segment_bytes, self._path / SPARE
            file = self._disk.open_to_write(old)
        elif (made := self._ahead.take(needed)) is not None:
            (file, size), old = made, self._ahead.path
        else:
            size, old = max(min(self._segment_bytes, grown), needed), self._path / NEW
            file = self._made(old, size)
        generation = self._disk.random_bytes(GENERATION_BYTES)
        begun = make_segment(self._disk, old, file, number, size, self._number, generation)
        if last is not None:
            last.file.close()
        self._segments.append(begun)

    def _made(self, path: Path, size: int) -> File:
        """A file of so many zeros, once there is room for it. Raises OSError."""
        while True:
            try:
                file = zeroed_file(self._disk, path, size)
            except OSError as error:
                if self.room is None or not self.room.wait(error, size):
                    raise
            else:
                if self.room is not None:
                    self.room.over()
                return file

    # -- segments to be -----------------------------------------------------------------------

    def make_ahead(self) -> Callable[[], None] | None:
        """What another thread is to run now, so that the next segment is there when it is needed;
        None if there is nothing to do. `give_up_ahead` ends it early; it must end before `close`.
        """
        if self._failed or self._spare or self._ahead.begun or not self._segments:
            return None
        last = self._segments[-1]
        if last.end < AHEAD_FROM * last.size:
            return None
        return self._ahead.begin(min(self._segment_bytes, 2 * last.size))

    def give_up_ahead(self) -> None:
        """What `make_ahead` gave need not be finished. For any thread."""
        self._ahead.give_up()

    # -- segments that are done with ---------------------------------------------------------

    def _drop(self) -> None:
        """Give up the segments of which all entries are truncated: one becomes the spare. Raises
        OSError.

        The oldest first, and each durably: of two of which only the second is gone after a crash,
        the first would be followed by a hole.
        """
        while len(self._segments) > 1 and self._segments[0].last_slot < self._marks.first_slot:
            segment = self._segments.pop(0)
            if not self._spare and segment.size == self._segment_bytes:
                self._disk.rename(segment.path, self._path / SPARE)
                self._spare = True
            else:
                self._disk.remove(segment.path)
            self._disk.sync_directory(self._path)

    def _find_spare(self) -> None:
        """What an earlier start left to be used again, if it has the right size."""
        path = self._path / SPARE
        self._disk.remove(self._path / NEW)
        self._ahead.clear()
        self._spare = self._disk.size(path) == self._segment_bytes
        if not self._spare:
            self._disk.remove(path)

    def close(self) -> None:
        """Release the files."""
        if self._segments and not self._failed:
            with suppress(OSError):  # nothing depends on the seal
                self._segments[-1].file.sync_data()
        self._close_files()
        with suppress(OSError):  # the next start removes it
            self._ahead.clear()

    def _close_files(self) -> None:
        """Only the last segment's is open."""
        if self._segments:
            self._segments[-1].file.close()
        self._segments.clear()


class _Marks:
    """What the records say besides entries, as of the last one."""

    def __init__(self) -> None:
        self._promised = ZERO
        self.first_slot: Slot = 1
        self._chosen_through: Slot = 0

    def take(self, record: Promised | Truncation | ChosenThrough) -> None:
        """`record` is in the log from now on."""
        match record:
            case Promised(ballot):
                self._promised = ballot
            case Truncation(slot):
                self.first_slot = slot
            case ChosenThrough(slot):
                self._chosen_through = slot

    def records(self) -> list[Record]:
        """For the beginning of a segment."""
        return [
            Promised(self._promised),
            Truncation(self.first_slot),
            ChosenThrough(self._chosen_through),
        ]
