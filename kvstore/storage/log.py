"""The log on disk: what the acceptor must never forget. One durable commit per group of records.

Layout: database `log`, slot (8 bytes, big endian) -> ballot round (8), ballot node (4), CRC-32 of
the value (4), value; database `meta`: `promised`, `first_slot`, `chosen_through`.
"""

import queue
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import lmdb

from kvstore.errors import StorageFailed
from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.environment import damaged, unusable
from paxos.ballot import Ballot, Slot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Record, Restored, Truncation, fold

_HEAD = struct.Struct(">QII")
_BALLOT = struct.Struct(">QI")
_SLOT = struct.Struct(">Q")


class LogStore:
    """The LMDB environment of the log. All calls belong to one thread at a time.

    Raises StorageError from the constructor and `restore` on a damaged file.
    """

    def __init__(self, path: Path, disk: Disk = SYSTEM_DISK) -> None:
        self._path = path
        self._env = disk.environment(path, databases=2, walk=True)
        try:
            self._log = self._env.open_db(b"log")
            self._meta = self._env.open_db(b"meta")
        except lmdb.Error as error:
            raise unusable(path, error) from error

    def restore(self) -> Restored:
        """Everything that earlier starts made durable."""
        try:
            return self._restore()
        except (lmdb.Error, struct.error) as error:
            raise damaged(self._path, str(error)) from error

    def _restore(self) -> Restored:
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

    def commit(self, records: Iterable[Record]) -> None:
        """Write all `records` in one transaction and wait until the disk has them.

        Raises StorageFailed if it does not; then nothing of the group may be acknowledged, and the
        process must stop: what a failed fsync left behind is unknown (D2).
        """
        records = list(records)
        try:
            while not self._try_commit(records):
                self._env.set_mapsize(2 * self._env.info()["map_size"])
        except (lmdb.Error, OSError) as error:
            raise StorageFailed(f"writing the log {self._path} failed: {error}") from error

    def _try_commit(self, records: list[Record]) -> bool:
        try:
            with self._env.begin(write=True) as txn:
                for record in records:
                    self._write(txn, record)
        except lmdb.MapFullError:
            return False
        return True

    def _write(self, txn: "lmdb.Transaction[bytes]", record: Record) -> None:
        match record:
            case LogEntry(slot, ballot, value):
                head = _HEAD.pack(ballot.round, ballot.node, zlib.crc32(value))
                txn.put(_SLOT.pack(slot), head + value, db=self._log)
            case Promised(ballot):
                txn.put(b"promised", _BALLOT.pack(*ballot), db=self._meta)
            case ChosenThrough(slot):
                txn.put(b"chosen_through", _SLOT.pack(slot), db=self._meta)
            case Truncation(first_slot):
                txn.put(b"first_slot", _SLOT.pack(first_slot), db=self._meta)
                cursor = txn.cursor(db=self._log)
                cursor.first()
                while (key := cursor.key()) and _SLOT.unpack(key)[0] < first_slot:
                    cursor.delete()

    def close(self) -> None:
        self._env.close()


class LogWriter(Protocol):
    """Where the replica sends groups of records. The simulation has its own."""

    def submit(self, records: list[Record], then: Callable[[], None]) -> None:
        """Commit `records`; later, and in order of submission, call `then` on the caller's loop."""

    def close(self) -> None:
        """Finish what was submitted and release the disk."""


class ThreadedLogWriter:
    """Group commit: a thread that writes all that came while the last commit was under way.

    `post` runs a callable on the replica's loop from any thread; `failed` is called there, once,
    with the reason when a commit fails, after which nothing is written or called any more.
    """

    def __init__(
        self,
        store: LogStore,
        post: Callable[[Callable[[], None]], object],
        failed: Callable[[StorageFailed], None],
    ) -> None:
        self._store = store
        self._post = post
        self._failed = failed
        self._queue: queue.SimpleQueue[tuple[list[Record], Callable[[], None]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def submit(self, records: list[Record], then: Callable[[], None]) -> None:
        self._queue.put((records, then))

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        open_ = True
        while open_:
            groups = [self._queue.get()]
            while not self._queue.empty():
                groups.append(self._queue.get())
            open_ = None not in groups
            work = [group for group in groups if group is not None]
            records = [record for group, _ in work for record in group]
            if records:
                try:
                    self._store.commit(records)
                except Exception as error:
                    # A defect is no better than a bad disk: nobody may wait for a commit for ever.
                    failure = (
                        error if isinstance(error, StorageFailed) else StorageFailed(str(error))
                    )
                    self._post(partial(self._failed, failure))
                    return
            for _, then in work:
                self._post(then)
