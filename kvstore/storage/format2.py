"""The log of format 2, an LMDB file: read once, to be moved into segments.

Layout: database `log`, slot (8 bytes, big endian) -> ballot round (8), ballot node (4), CRC-32 of
the value (4), value; database `meta`: `promised`, `first_slot`, `chosen_through`.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import lmdb

from kvstore.errors import StorageError
from kvstore.storage.disk import Disk
from kvstore.storage.environment import damaged
from kvstore.storage.segment_log import SegmentLog
from paxos.ballot import Ballot, Slot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Record, Restored, Truncation, fold

_HEAD = struct.Struct(">QII")
_BALLOT = struct.Struct(">QI")
_SLOT = struct.Struct(">Q")


def move_log(old: Path, new: Path, disk: Disk) -> None:
    """Write what the log of format 2 at `old` holds into the empty directory `new`, durably; `old`
    is only read. What an earlier attempt left in `new` is removed.

    Raises StorageError if `old` is damaged, and then nothing was changed; else StorageFailed or
    OSError if `new` cannot be written.
    """
    restored = _read(old, disk)
    _empty(new, disk)
    try:
        _write(restored, new, disk)
    except (OSError, StorageError):
        with suppress(OSError):  # what was written takes the room that is wanted
            _empty(new, disk)
        raise


def _empty(directory: Path, disk: Disk) -> None:
    for name in disk.list(directory):
        disk.remove(directory / name)


def _write(restored: Restored, new: Path, disk: Disk) -> None:
    log = SegmentLog(new, disk)
    try:
        log.restore()
        log.commit(
            [
                Promised(restored.promised),
                Truncation(restored.first_slot),
                *restored.entries,
                ChosenThrough(restored.chosen_through),
            ]
        )
    finally:
        log.close()


def _read(path: Path, disk: Disk) -> Restored:
    environment = disk.environment(path, databases=2, walk=True)
    try:
        return _Format2Log(path, environment).restored()
    except (lmdb.Error, struct.error) as error:
        raise damaged(path, str(error)) from error
    finally:
        environment.close()


class _Format2Log:
    def __init__(self, path: Path, environment: lmdb.Environment) -> None:
        self._path = path
        self._env = environment
        self._log = environment.open_db(b"log")
        self._meta = environment.open_db(b"meta")

    def restored(self) -> Restored:
        with self._env.begin() as txn:
            restored = fold(self._records(txn))
        slots = {entry.slot for entry in restored.entries}
        for slot in range(restored.first_slot, restored.chosen_through + 1):
            if slot not in slots:
                raise damaged(self._path, f"the entry of chosen slot {slot} is missing")
        return restored

    def _records(self, txn: "lmdb.Transaction[bytes]") -> Iterator[Record]:
        """What is left of the records: the last one of each kind, and of each slot."""
        if (data := txn.get(b"promised", db=self._meta)) is not None:
            yield Promised(Ballot(*_BALLOT.unpack(data)))
        if (data := txn.get(b"first_slot", db=self._meta)) is not None:
            yield Truncation(_SLOT.unpack(data)[0])
        for key, data in txn.cursor(db=self._log):
            yield self._entry(key, data)
        if (data := txn.get(b"chosen_through", db=self._meta)) is not None:
            yield ChosenThrough(_SLOT.unpack(data)[0])

    def _entry(self, key: bytes, data: bytes) -> LogEntry:
        slot: Slot = _SLOT.unpack(key)[0]
        if len(data) < _HEAD.size:
            raise damaged(self._path, f"the entry of slot {slot} is cut short")
        ballot_round, node, checksum = _HEAD.unpack_from(data)
        value = data[_HEAD.size :]
        if zlib.crc32(value) != checksum:
            raise damaged(self._path, f"the entry of slot {slot} fails its checksum")
        return LogEntry(slot, Ballot(ballot_round, node), value)
