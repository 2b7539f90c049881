"""The files of the log: segments of a fixed size, zeroed when made and used again when emptied.

A segment begins with a sector that says what it is:

    magic (8 bytes), version (4), number of the segment (8), its size (8), number of the last group
    before it (8), generation (8), CRC-32 of all that (4), zeros

and goes on with groups (`kvstore.storage.groups`). The *generation* is drawn anew whenever a file
becomes a segment, and every head repeats it: what an earlier use of the file left there is never
taken for a group, and nobody who chooses a value can make it look like one.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kvstore.storage.disk import Disk, File
from kvstore.storage.environment import damaged
from kvstore.storage.groups import (
    GENERATION_AT,
    SECTOR_BYTES,
    Head,
    NotWhole,
    decode_head,
    decode_records,
)
from paxos.records import Record

_HEADER = struct.Struct(">8sIQQQ8s")
_CRC = struct.Struct(">I")
_MAGIC = b"kvstlog\n"
_VERSION = 1
_SUFFIX = ".segment"
_ZEROS = bytes(1 << 20)

SPARE = "spare"
"""What a file is called that was a segment, and is to be one again."""
AHEAD = "ahead"
"""And one that never was, made before it is needed (`kvstore.storage.ahead`)."""
NEW = "new"
"""The same, made when it is needed. After a crash both are worth nothing: the sync of their zeros
may have failed, and then a file's size is what the system remembers, and not what the disk has."""


class Segment:
    """A segment of which the header is durable. The last one's file is open for writing.

    `end` is where the next group goes, and `last_slot` the highest slot of an entry in it.
    """

    def __init__(self, path: Path, file: File, number: int, size: int, generation: bytes) -> None:
        self.path = path
        self.file = file
        self.number = number
        self.size = size
        self.generation = generation
        self.end = SECTOR_BYTES
        self.last_slot = 0

    @property
    def empty(self) -> bool:
        """Whether it holds no group."""
        return self.end == SECTOR_BYTES

    def fits(self, size: int) -> bool:
        """Whether a group of `size` bytes fits, and the seal behind it."""
        return self.end + size + SECTOR_BYTES <= self.size


def segment_path(directory: Path, number: int) -> Path:
    """Where the segment `number` lies."""
    return directory / f"{number:08}{_SUFFIX}"


def segment_numbers(disk: Disk, directory: Path) -> list[int]:
    """Of all segments in `directory`, ascending. Raises OSError."""
    names = [name for name in disk.list(directory) if name.endswith(_SUFFIX)]
    return sorted(int(stem) for name in names if (stem := name.removesuffix(_SUFFIX)).isdecimal())


# -- making ---------------------------------------------------------------------------------


def zeroed_file(
    disk: Disk, path: Path, size: int, each: Callable[[File], None] = lambda _: None
) -> File:
    """A new file of so many zeros. Raises OSError, and then leaves nothing.

    Zeroed and not only allocated: a sync then writes the group and no metadata. Not synced, unless
    `each`, called after each piece, does it: the header's sync does that.
    """
    file = disk.create(path)
    try:
        for at in range(0, size, len(_ZEROS)):
            file.write_at(at, _ZEROS[: size - at])
            each(file)
    except BaseException:
        file.close()
        disk.remove(path)
        raise
    return file


def make_segment(
    disk: Disk, old: Path, file: File, number: int, size: int, after: int, generation: bytes
) -> Segment:
    """Turn the `file` called `old` into the segment `number`, whose first group follows the group
    `after`. Raises OSError.

    The header is synced before the file gets its name, and the name before the first group is
    written: a segment whose header is not whole is damaged, and never a beginning that was torn.
    """
    header = _HEADER.pack(_MAGIC, _VERSION, number, size, after, generation)
    header += _CRC.pack(zlib.crc32(header))
    file.write_at(0, header.ljust(SECTOR_BYTES, b"\0"))
    file.sync()
    path = segment_path(old.parent, number)
    disk.rename(old, path)
    disk.sync_directory(path.parent)
    return Segment(path, file, number, size, generation)


# -- reading --------------------------------------------------------------------------------


class Torn(NamedTuple):
    """The end of the log that was cut off: a group that was never acknowledged."""

    path: Path
    offset: int
    reason: str


class SegmentReader:
    """Reads one segment from its beginning to where the groups end.

    `after` is the number of the last group before it. `segment.end` follows the reading. After
    `records` is exhausted, `last_number` is that of the last group (`after` if there is none),
    `last_offset` where that begins, `sealed` whether its seal is there, and `torn` what stands
    behind it, None if that is nothing.
    """

    def __init__(self, disk: Disk, directory: Path, number: int) -> None:
        """Raises StorageError if the file or its header is damaged, OSError if it is not read."""
        path = segment_path(directory, number)
        file = disk.open_to_write(path)
        try:
            self._data = file.read_at(0, file.size())
            size, self.after, generation = parse_header(
                path, number, self._data[:SECTOR_BYTES], len(self._data)
            )
        except BaseException:
            file.close()
            raise
        self.segment = Segment(path, file, number, size, generation)
        self.last_number = self.after
        self.last_offset = 0
        self.sealed = False
        self.torn: Torn | None = None

    def records(self) -> Iterator[Record]:
        """Raises StorageError if what follows the end shows that there was more."""
        segment, reason = self.segment, ""
        while not self.sealed and not reason:
            try:
                head = decode_head(self._data, segment.end, segment.generation)
                records = decode_records(self._data, head)
            except NotWhole as error:
                reason = str(error)
            else:
                self._take(head)
                yield from records
        self._check_end(reason or "a seal")

    def _take(self, head: Head) -> None:
        if head.is_seal:
            if head.number != self.last_number:
                raise self._damaged(f"the seal of group {head.number} follows {self.last_number}")
            self.sealed = True
            return
        if head.number != self.last_number + 1:
            raise self._damaged(f"group {head.number} follows group {self.last_number}")
        self.last_number = head.number
        self.last_offset, self.segment.end = self.segment.end, head.end

    def _check_end(self, reason: str) -> None:
        """A group is written after the one before was synced, and its seal after its own sync. So
        the last group may lack any of its sectors, and one with anything whole behind it none."""
        end = self.segment.end
        if (later := self._whole_after(end)) is not None:
            raise self._damaged(f"there is {reason}, and at byte {later} the log goes on")
        at = end + GENERATION_AT
        if not self.sealed and self._data[at : at + 8] == self.segment.generation:
            self.torn = Torn(self.segment.path, end, reason)

    def _whole_after(self, end: int) -> int | None:
        """Where behind `end` a head is whole."""
        generation, at = self.segment.generation, end + GENERATION_AT
        while (at := self._data.find(generation, at + 1)) >= 0:
            offset = at - GENERATION_AT
            if offset % SECTOR_BYTES == 0:
                try:
                    decode_head(self._data, offset, generation)
                except NotWhole:
                    continue
                return offset
        return None

    def _damaged(self, what: str) -> Exception:
        return damaged(self.segment.path, f"at byte {self.segment.end} {what}")

    def group(self) -> bytes:
        """The bytes of the last group."""
        return self._data[self.last_offset : self.segment.end]


def parse_header(path: Path, number: int, data: bytes, held_bytes: int) -> tuple[int, int, bytes]:
    """Size, number of the last group before it, and generation, by the first sector of the file of
    `held_bytes` that should be the segment `number`. Raises StorageError."""
    header = data[: _HEADER.size]
    crc = data[_HEADER.size : _HEADER.size + _CRC.size]
    if len(crc) < _CRC.size or zlib.crc32(header) != _CRC.unpack(crc)[0]:
        raise damaged(path, "its header fails its checksum")
    magic, version, held, size, after, generation = _HEADER.unpack(header)
    if magic != _MAGIC or version != _VERSION:
        raise damaged(
            path, f"its header names version {version}, and this program reads version {_VERSION}"
        )
    if held != number:
        raise damaged(path, f"it is segment {held} under another name")
    if size != held_bytes:
        raise damaged(path, f"{held_bytes} bytes where {size} were written")
    return size, after, generation
