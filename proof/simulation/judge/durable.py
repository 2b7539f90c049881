"""What a log on a simulated disk holds, read without the code that wrote it.

Only what a crash would leave counts: synced sectors of files whose names are synced.
"""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from paxos.ballot import ZERO, Ballot, Slot
from proof.simulation.machine.files import SECTOR_BYTES, DiskFile, StoredFile

_HEAD = struct.Struct(">I8sQB3xII")
_ROW = struct.Struct(">B3xIQQII")
_GROUPS_BEFORE = slice(28, 36)
_GENERATION = slice(36, 44)
"""Of the header of a segment: the number of the last group before it, and which use this is."""


class DurableLog:
    """The segments in `directory`, as they are now. What they say is added up as it is read, and a
    group is read once."""

    def __init__(self, files: Mapping[Path, StoredFile], directory: Path) -> None:
        self._files = files
        self._directory = directory
        self._names: dict[Path, str | None] = {}
        self._number: int | None = None
        self._seen: tuple[tuple[str, int], ...] = ()
        self._at: dict[tuple[str, bytes], int] = {}
        self._promised = ZERO
        self._first_slot: Slot = 1
        self._chosen_through: Slot = 0
        self._entries: dict[Slot, tuple[Ballot, bytes]] = {}

    @property
    def promised(self) -> Ballot:
        """The last promise."""
        self._read()
        return self._promised

    @property
    def first_slot(self) -> Slot:
        """Where it begins."""
        self._read()
        return self._first_slot

    @property
    def chosen_through(self) -> Slot:
        """Up to where its entries are said to be chosen."""
        self._read()
        return self._chosen_through

    def ballot(self, slot: Slot) -> Ballot | None:
        """In which `slot` was accepted, if it was."""
        self._read()
        return self._entries[slot][0] if slot in self._entries else None

    def value(self, slot: Slot) -> bytes | None:
        """What was accepted in `slot`, if anything was."""
        self._read()
        return self._entries[slot][1] if slot in self._entries else None

    def _read(self) -> None:
        segments = {
            name: file
            for path, file in self._files.items()
            if (name := self._segment(path)) is not None and isinstance(file, DiskFile)
        }
        seen = tuple((name, file.version) for name, file in sorted(segments.items()))
        if seen != self._seen:
            self._seen = seen
            for index, (name, _) in enumerate(seen):
                self._read_segment(name, segments[name].synced, oldest=index == 0)

    def _segment(self, path: Path) -> str | None:
        """The name of the segment at `path`, if it is one of this log. Found once for each: this is
        asked for every file at every commit, and taking paths apart took a tenth of a run."""
        try:
            return self._names[path]
        except KeyError:
            ours = path.parent == self._directory and path.suffix == ".segment"
            return self._names.setdefault(path, path.name if ours else None)

    def _read_segment(self, name: str, data: bytearray, oldest: bool) -> None:
        generation = bytes(data[_GENERATION])
        before = int.from_bytes(data[_GROUPS_BEFORE], "big")
        if oldest and self._number is not None and before > self._number:
            # Segments were filled and given up since the last look: all their entries are
            # truncated, and what else they said stands at the beginning of this one.
            self._number = before
        at = self._at.get((name, generation), SECTOR_BYTES)
        while at + _HEAD.size <= len(data):
            crc, held, number, kind, rows, size = _HEAD.unpack_from(data, at)
            values = at + _HEAD.size + rows * _ROW.size
            body = data[at + 4 : values]
            if held != generation or zlib.crc32(body, at // SECTOR_BYTES) != crc or kind != 1:
                break
            if self._number is not None and number != self._number + 1:
                break
            if not self._add(data, at + _HEAD.size, values):
                break
            self._number = number
            at += -(-(values + size - at) // SECTOR_BYTES) * SECTOR_BYTES
        self._at[name, generation] = at

    def _add(self, data: bytearray, table: int, values: int) -> bool:
        """Whether all values of the group are whole; then they count."""
        rows, at = [], values
        for kind, size, slot, ballot_round, node, crc in _ROW.iter_unpack(data[table:values]):
            value = bytes(data[at : at + size])
            if len(value) < size or (kind == 1 and zlib.crc32(value) != crc):
                return False
            at += size
            rows.append((kind, slot, Ballot(ballot_round, node), value))
        for kind, slot, ballot, value in rows:
            match kind:
                case 1:
                    self._entries[slot] = ballot, value
                case 2:
                    self._promised = ballot
                case 3:
                    self._chosen_through = slot
                case 4:
                    self._first_slot = slot
        for slot in [slot for slot in self._entries if slot < self._first_slot]:
            del self._entries[slot]
        return True
