"""What a log on a simulated disk holds, read without the code that wrote it."""

import struct
from collections.abc import Mapping
from pathlib import Path

from paxos.ballot import ZERO, Ballot, Slot
from proof.simulation.machine.lmdb_model import EnvironmentFile

_BALLOT = struct.Struct(">QI")
_SLOT = struct.Struct(">Q")
_HEAD_BYTES = 16
"""Before an entry's value: its ballot, and a checksum."""


class DurableLog:
    """The committed content of `log.mdb`, as it is now."""

    def __init__(self, files: Mapping[Path, object], path: Path) -> None:
        file = files[path]
        assert isinstance(file, EnvironmentFile)
        self._file = file

    @property
    def promised(self) -> Ballot:
        """The highest promise."""
        data = self._meta(b"promised")
        return ZERO if data is None else Ballot(*_BALLOT.unpack(data))

    @property
    def first_slot(self) -> Slot:
        """Where it begins."""
        return self._slot(b"first_slot", 1)

    @property
    def chosen_through(self) -> Slot:
        """Up to where its entries are said to be chosen."""
        return self._slot(b"chosen_through", 0)

    def ballot(self, slot: Slot) -> Ballot | None:
        """In which `slot` was accepted, if it was."""
        data = self._entry(slot)
        return None if data is None else Ballot(*_BALLOT.unpack_from(data))

    def value(self, slot: Slot) -> bytes | None:
        """What was accepted in `slot`, if anything was."""
        data = self._entry(slot)
        return None if data is None else data[_HEAD_BYTES:]

    def _entry(self, slot: Slot) -> bytes | None:
        return self._file.trees[b"log"].pairs.get(_SLOT.pack(slot))

    def _meta(self, name: bytes) -> bytes | None:
        return self._file.trees[b"meta"].pairs.get(name)

    def _slot(self, name: bytes, default: Slot) -> Slot:
        data = self._meta(name)
        return default if data is None else int(_SLOT.unpack(data)[0])
