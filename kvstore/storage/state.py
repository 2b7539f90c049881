"""The applied state: LMDB tables, and in front of them what is applied and not yet checkpointed.

Reads and writes happen on the loop's thread and touch memory first: `active` changes, then
`frozen` ones (being checkpointed on another thread), then the LMDB snapshot of the last checkpoint.
After a crash the checkpoint is whole, and the log is replayed from the slot it names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import lmdb

from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.environment import unusable, used_bytes
from kvstore.storage.sorted_keys import SortedKeys

TABLES = (
    "meta",
    "keys",
    "versions",
    "history",
    "once",
    "once_expiry",
    "leases",
    "lease_keys",
    "auth",
)

_Changes = dict[bytes, bytes | None]
"""Key -> new value, or None if deleted."""

_NO_CHANGE: tuple[None, None] = (None, None)
"""There are no more."""


class StoredTable:
    """One sorted map of bytes to bytes; `active` and `frozen` are its overlay."""

    __slots__ = (
        "_database",
        "_order",
        "_store",
        "active",
        "frozen",
        "frozen_order",
        "name",
    )
    active: _Changes
    frozen: _Changes
    _order: SortedKeys
    frozen_order: SortedKeys

    def __init__(self, store: "StateStore", name: str) -> None:
        self.name = name
        self._store = store
        self._database: lmdb._Database | None = None
        self.forget()

    def attach(self, database: "lmdb._Database") -> None:
        self._database = database

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        if key in self.active:
            return self.active[key]
        if key in self.frozen:
            return self.frozen[key]
        return self._store.reader.get(key, db=self._database)

    @property
    def unfrozen_entries(self) -> int:
        """How many keys were put or deleted since the last `freeze`."""
        return len(self.active)

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.active:
            self._order.add(key)
        self.active[key] = value
        self._store.overlay_bytes += len(key) + len(value) + 100

    def delete(self, key: bytes) -> None:
        if key not in self.active:
            self._order.add(key)
        self.active[key] = None
        self._store.overlay_bytes += len(key) + 100

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """`put` each of them."""
        self._change(entries, sum(map(len, entries.values())))

    def delete_all(self, keys: Sequence[bytes]) -> None:
        """`delete` each of them."""
        self._change(dict.fromkeys(keys), 0)

    def _change(self, changes: Mapping[bytes, bytes | None], value_bytes: int) -> None:
        active = self.active
        self._order.add_all([key for key in changes if key not in active])
        active.update(changes)
        self._store.overlay_bytes += sum(map(len, changes)) + value_bytes + 100 * len(changes)

    def freeze(self) -> None:
        """The active changes are set aside for a checkpoint."""
        self._order.settle()  # what is frozen is read by two threads, and changed by neither
        self.frozen, self.frozen_order = self.active, self._order
        self.active, self._order = {}, SortedKeys()

    def thaw(self) -> None:
        """The frozen changes are in the database; the thread of the next checkpoint frees them."""
        self._store.written.append((self.frozen, self.frozen_order))
        self.frozen, self.frozen_order = {}, SortedKeys()

    def forget(self) -> None:
        """Drop all changes."""
        self.active, self._order = {}, SortedKeys()
        self.frozen, self.frozen_order = {}, SortedKeys()

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, in key order. To be consumed before the loop goes on.

        Nothing is read ahead: who stops early has paid for what was read.
        """
        changes = self._changed(start, end, reverse)
        change, new = next(changes, _NO_CHANGE)
        for key, value in self._stored(start, end, reverse):
            while change is not None and (change > key if reverse else change < key):
                if new is not None:
                    yield change, new
                change, new = next(changes, _NO_CHANGE)
            if change == key:
                continue
            yield key, value
        while change is not None:
            if new is not None:
                yield change, new
            change, new = next(changes, _NO_CHANGE)

    def _changed(
        self, start: bytes, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """What the overlay changes in a range, in order; the newest change of each key."""
        active = _between(self.active, self._order, start, end, reverse)
        frozen = _between(self.frozen, self.frozen_order, start, end, reverse)
        older, old = next(frozen, _NO_CHANGE)
        for key, value in active:
            while older is not None and (older > key if reverse else older < key):
                yield older, old
                older, old = next(frozen, _NO_CHANGE)
            if older == key:
                older, old = next(frozen, _NO_CHANGE)
            yield key, value
        if older is not None:
            yield older, old
            yield from frozen

    def _stored(
        self, start: bytes, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._store.reader.cursor(db=self._database)
        if not reverse:
            if cursor.set_range(start):
                for key, value in cursor:
                    if end is not None and key >= end:
                        return
                    yield key, value
            return
        at_end = cursor.set_range(end) if end is not None else False
        if cursor.prev() if at_end else cursor.last():
            for key, value in cursor.iterprev():
                if key < start:
                    return
                yield key, value


def _between(
    layer: _Changes, order: SortedKeys, start: bytes, end: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, bytes | None]]:
    """The changes of one layer to a range, in order."""
    for key in order.between(start, end, reverse) if layer else ():
        yield key, layer[key]


class WriteTransaction:
    """The transaction that writes a checkpoint, with the tables by name."""

    def __init__(
        self, transaction: "lmdb.Transaction[bytes]", databases: dict[str, "lmdb._Database"]
    ) -> None:
        self._transaction = transaction
        self._databases = databases

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._transaction.get(key, db=self._databases[table])

    def delete(self, table: str, key: bytes) -> bool:
        """Whether there was one."""
        return self._transaction.delete(key, db=self._databases[table])

    def cursor(self, table: str) -> "lmdb.Cursor[bytes]":
        return self._transaction.cursor(db=self._databases[table])


class StateStore:
    """All tables, and their checkpoints.

    A checkpoint is: `freeze` (loop thread), `write_frozen` (any one thread), then `finish`, or
    `fail` to try the same changes again later (loop thread). Only one is under way at a time.
    """

    def __init__(self, path: Path, disk: Disk = SYSTEM_DISK) -> None:
        self.path = path
        self._disk = disk
        self.overlay_bytes = 0
        self._frozen_bytes = 0
        self.tables = {name: StoredTable(self, name) for name in TABLES}
        self.written: list[tuple[_Changes, SortedKeys]] = []
        self.copying = 0
        self._open()

    def _open(self) -> None:
        self._env = self._disk.environment(self.path, databases=len(TABLES))
        try:
            self._databases = {name: self._env.open_db(name.encode()) for name in TABLES}
        except lmdb.Error as error:
            raise unusable(self.path, error) from error
        for name, table in self.tables.items():
            table.attach(self._databases[name])
        self.reader: lmdb.Transaction[bytes] = self._env.begin()

    def freeze(self) -> bool:
        """Set the active changes aside for a checkpoint; whether there is anything to write."""
        if self._frozen_bytes == 0:
            for table in self.tables.values():
                table.freeze()
            self._frozen_bytes, self.overlay_bytes = self.overlay_bytes, 0
        return self._frozen_bytes > 0

    @property
    def freezing(self) -> bool:
        """Whether a checkpoint is under way, or failed and waits to be tried again."""
        return self._frozen_bytes > 0

    @property
    def unwritten_bytes(self) -> int:
        """Applied and not yet checkpointed."""
        return self.overlay_bytes + self._frozen_bytes

    def write_frozen(self, housekeeping: Callable[[WriteTransaction], None]) -> None:
        """Write the frozen changes, and then what `housekeeping` does, in one durable transaction.

        Raises lmdb.Error or OSError; then nothing was written, and nothing is lost.
        """
        self._free_written()
        with self._env.begin(write=True) as txn:
            for name, table in self.tables.items():
                if table.frozen:
                    self._write_table(txn, self._databases[name], table)
            housekeeping(WriteTransaction(txn, self._databases))

    def _free_written(self) -> None:
        """Memory of the last checkpoint, entry by entry: to free hundreds of thousands at once
        holds the interpreter, whichever thread does it."""
        while self.written:
            changes, order = self.written.pop()
            while changes:
                changes.popitem()
            order.clear()

    @staticmethod
    def _write_table(
        txn: "lmdb.Transaction[bytes]", database: "lmdb._Database", table: StoredTable
    ) -> None:
        # In order, as the file wants it; nothing is sorted or copied here, which would hold the
        # interpreter, and with it the loop, for as long as it takes.
        frozen = table.frozen
        puts = ((key, value) for key in table.frozen_order if (value := frozen[key]) is not None)
        txn.cursor(db=database).putmulti(puts)
        for key in table.frozen_order:
            value = frozen[key]
            if value is None:
                txn.delete(key, db=database)

    def finish(self) -> None:
        """The checkpoint is durable: readers see it, and its changes leave memory."""
        self._renew_reader()
        for table in self.tables.values():
            table.thaw()
        self._frozen_bytes = 0

    def fail(self, grow: bool) -> None:
        """The checkpoint failed: keep its changes, and make room if the map was full."""
        self._renew_reader(grow)

    def _renew_reader(self, grow: bool = False) -> None:
        """Read the newest checkpoint from now on; enlarge the map well before it is full."""
        self.reader.abort()
        map_size = self._env.info()["map_size"]
        crowded = used_bytes(self._env) * 2 > map_size
        # Moving the map under the transaction of a copy on another thread would crash it.
        if self.copying == 0 and (crowded or grow):
            self._env.set_mapsize(2 * map_size)
        self.reader = self._env.begin()

    def copy_to(self, path: Path) -> None:
        """A consistent, compacted copy of the last checkpoint. Runs on any thread.

        The caller raises `copying` before and lowers it after, on the loop's thread.
        """
        self._disk.copy(self._env, path)

    def install(self, path: Path) -> None:
        """Replace the whole state by the file at `path`, atomically, and forget the overlay.

        No checkpoint and no copy may be under way. A crash leaves the old or the new state whole.
        Raises StorageError if the new file is not a usable state.
        """
        self._disk.environment(path, databases=len(TABLES)).close()
        self._disk.remove(_lock_of(path))
        self.close()
        self._disk.remove(_lock_of(self.path))
        self._disk.rename(path, self.path)
        for table in self.tables.values():
            table.forget()
        self.overlay_bytes = self._frozen_bytes = 0
        self._open()

    def close(self) -> None:
        self.reader.abort()
        self._env.close()


def _lock_of(path: Path) -> Path:
    """LMDB's reader table; it belongs to one generation of the file."""
    return path.with_name(path.name + "-lock")
