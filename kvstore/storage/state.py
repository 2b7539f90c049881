"""The applied state: LMDB tables, and in front of them what is applied and not yet checkpointed.

Reads and writes happen on the loop's thread and touch memory first: `active` changes, then
`frozen` ones (being checkpointed on another thread), then the LMDB snapshot of the last checkpoint.
After a crash the checkpoint is whole, and the log is replayed from the slot it names.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.environment import unusable, used_bytes
from kvstore.storage.packed import PackedTable
from kvstore.storage.sealed import DamagedRecord
from kvstore.storage.tables import Backing, RecentTable, StoredTable

TABLES = ("meta", "keys", "deleted", "once", "once_expiry", "leases", "lease_keys", "auth")
PACKED_TABLES = {"history": 12}
"""Bytes of a key of each."""
RECENT_TABLES = frozenset({"keys"})
"""Those of `RecentTable`."""


class WriteTransaction:
    """The transaction that writes a checkpoint, with the tables by name."""

    def __init__(
        self,
        transaction: "lmdb.Transaction[bytes]",
        tables: dict[str, StoredTable],
        packed: dict[str, PackedTable],
    ) -> None:
        self._transaction = transaction
        self._tables = tables
        self._packed = packed

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._tables[table].written_value(self._transaction, key)

    def delete(self, table: str, key: bytes) -> bool:
        """Whether there was one."""
        return self._transaction.delete(key, db=self._tables[table].database)

    def cursor(self, table: str) -> "lmdb.Cursor[bytes]":
        return self._transaction.cursor(db=self._tables[table].database)

    def drop_before(
        self, table: str, key: bytes, entries_max: int, shown: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """See `PackedTable.drop_before`."""
        return self._packed[table].drop_before(self._transaction, key, entries_max, shown)


class StateStore:
    """All tables, and their checkpoints.

    A checkpoint is: `freeze` (loop thread), `write_frozen` (any one thread), then `finish`, or
    `fail` to try the same changes again later (loop thread). Only one is under way at a time.
    """

    def __init__(self, path: Path, disk: Disk = SYSTEM_DISK) -> None:
        self.path = path
        self._disk = disk
        self._backing = Backing(path)
        self._frozen_bytes = 0
        self._packed = {
            name: PackedTable(self._backing, name, size) for name, size in PACKED_TABLES.items()
        }
        self.tables = {
            name: (RecentTable if name in RECENT_TABLES else StoredTable)(self._backing, name)
            for name in TABLES
        } | self._packed
        self.copying = 0
        self._open()

    def _open(self) -> None:
        self._env = self._disk.environment(self.path, databases=len(self.tables))
        try:
            if self._env.stat().get("entries") == 0:
                # In a new file all are made by one commit, for each waits for the disk.
                with self._env.begin(write=True) as txn:
                    for name in self.tables:
                        self._env.open_db(name.encode(), txn=txn)
            for name, table in self.tables.items():
                table.attach(self._env.open_db(name.encode()))
        except lmdb.Error as error:
            raise unusable(self.path, error) from error
        self._backing.reader = self._env.begin()

    def watch_damage(self, on_damage: Callable[[DamagedRecord], None]) -> None:
        """`on_damage` hears of each record that is not what was written, before who reads it. What
        another thread than this one reads is told by its error alone."""
        self._backing.listen(on_damage)

    def freeze(self) -> bool:
        """Set the active changes aside for a checkpoint; whether there is anything to write."""
        if self._frozen_bytes == 0:
            for table in self.tables.values():
                table.freeze()
            backing = self._backing
            self._frozen_bytes, backing.overlay_bytes = backing.overlay_bytes, 0
        return self._frozen_bytes > 0

    @property
    def freezing(self) -> bool:
        """Whether a checkpoint is under way, or failed and waits to be tried again."""
        return self._frozen_bytes > 0

    @property
    def unwritten_bytes(self) -> int:
        """Applied and not yet checkpointed."""
        return self._backing.overlay_bytes + self._frozen_bytes

    @property
    def live_bytes(self) -> int:
        """Of the pages of the last checkpoint that hold anything, free ones of the file not."""
        stats = [self._backing.reader.stat(table.database) for table in self.tables.values()]
        pages = sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats)
        return int(pages * stats[0]["psize"])

    @property
    def reusable_bytes(self) -> int:
        """Of the file's pages that later checkpoints use before it grows."""
        return max(0, used_bytes(self._env) - self.live_bytes)

    def records(self, table: str) -> int:
        """How many the last checkpoint holds; of a packed table its blocks."""
        database = self.tables[table].database
        return int(self._backing.reader.stat(database)["entries"])

    def write_frozen(self, housekeeping: Callable[[WriteTransaction], None]) -> None:
        """Write the frozen changes, and then what `housekeeping` does, in one durable transaction.

        Raises lmdb.Error or OSError; then nothing was written, and nothing is lost. Raises
        DamagedRecord if what it reads is not what was written.
        """
        self._free_written()
        with self._env.begin(write=True) as txn:
            for table in self.tables.values():
                if table.frozen:
                    table.write(txn)
            housekeeping(WriteTransaction(txn, self.tables, self._packed))

    def _free_written(self) -> None:
        """Memory of the last checkpoint, entry by entry: to free hundreds of thousands at once
        holds the interpreter, whichever thread does it."""
        written = self._backing.written
        while written:
            changes, order = written.pop()
            while changes:
                changes.popitem()
            order.clear()

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
        self._backing.reader.abort()
        map_size = self._env.info()["map_size"]
        crowded = used_bytes(self._env) * 2 > map_size
        # Moving the map under the transaction of a copy on another thread would crash it.
        if self.copying == 0 and (crowded or grow):
            self._env.set_mapsize(2 * map_size)
        self._backing.reader = self._env.begin()

    def copy_to(self, path: Path) -> None:
        """A consistent, compacted copy of the last checkpoint. Runs on any thread.

        The caller raises `copying` before and lowers it after, on the loop's thread.
        """
        self._disk.copy(self._env, path)

    def check_piece(
        self, place: tuple[str, bytes], pairs_max: int, bytes_max: int
    ) -> tuple[int, tuple[str, bytes] | None]:
        """Look at the checksums of some records of the last checkpoint, from `place` on (a table,
        and the key behind which to go on): how many, and the next place, None at the end.

        A transaction of its own, so that no page is kept for longer than a piece takes. Runs on
        any thread, like `copy_to`. Raises StorageError if what is found is not what was written.
        """
        name, after = place
        names = list(self.tables)
        try:
            transaction = self._env.begin()
            try:
                table = self.tables[name]
                records, last = table.check(transaction, after, pairs_max, bytes_max)
            finally:
                transaction.abort()
        except lmdb.Error as error:
            raise unusable(self.path, error) from error
        if last is not None:
            return records, (name, last)
        following = names.index(name) + 1
        return records, (names[following], b"") if following < len(names) else None

    def install(self, path: Path) -> None:
        """Replace the whole state by the file at `path`, atomically, and forget the overlay.

        No checkpoint and no copy may be under way. A crash leaves the old or the new state whole.
        Raises StorageError if the new file is not a usable state.
        """
        self._disk.environment(path, databases=len(self.tables)).close()
        self._disk.remove(lock_of(path))
        self.close()
        self._disk.remove(lock_of(self.path))
        self._disk.rename(path, self.path)
        self._disk.sync_directory(self.path.parent)
        for table in self.tables.values():
            table.forget()
        self._backing.overlay_bytes = self._frozen_bytes = 0
        self._open()

    def close(self) -> None:
        self._backing.reader.abort()
        self._env.close()


def lock_of(path: Path) -> Path:
    """LMDB's reader table; it belongs to one generation of the file."""
    return path.with_name(path.name + "-lock")
