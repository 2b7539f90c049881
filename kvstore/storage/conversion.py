"""A state file of an older layout becomes one of today's: written beside it, then put in its place.

A crash leaves the old file or the new one, whole. A file beside it that was begun is begun anew.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

from kvstore.errors import StorageError
from kvstore.storage.disk import Disk
from kvstore.storage.environment import damaged
from kvstore.storage.state import StateStore, WriteTransaction, lock_of

_UNWRITTEN_BYTES = 16 << 20
"""So much is held in memory before it is written."""


class OldFile:
    """The tables of an older file, for reading."""

    def __init__(self, environment: lmdb.Environment, tables: tuple[str, ...]) -> None:
        self._databases = {name: environment.open_db(name.encode()) for name in tables}
        self._reader = environment.begin()

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._reader.get(key, db=self._databases[table])

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """All pairs, in order."""
        yield from self._reader.cursor(db=self._databases[table])

    def close(self) -> None:
        self._reader.abort()


class NewFile:
    """A file of today's layout that is being filled."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Raises OSError or lmdb.Error."""
        self._store.tables[table].put(key, value)
        if self._store.unwritten_bytes > _UNWRITTEN_BYTES:
            self.write()

    def write(self) -> None:
        """Make durable what was put. Raises OSError or lmdb.Error."""
        if self._store.freeze():
            self._store.write_frozen(_nothing_else)
            self._store.finish()


def _nothing_else(_: WriteTransaction) -> None:
    """Nothing has expired, and nothing is compacted, meanwhile."""


def bring_up_to_date(
    path: Path,
    disk: Disk,
    mark: str,
    tables: tuple[str, ...],
    convert: Callable[[OldFile, NewFile], None],
) -> bool:
    """Convert the state at `path`, if there is one and it has the table `mark`, by which the older
    layout is known; whether it was so. `tables` are those of that layout.

    Raises StorageError, and leaves the file as it was, if that cannot be done.
    """
    if not disk.size(path):
        return False
    environment = disk.environment(path, databases=len(tables))
    try:
        if not _has(environment, mark):
            return False
        old = OldFile(environment, tables)
        try:
            new = _convert(path, disk, old, convert)
        finally:
            old.close()
    finally:
        environment.close()
    disk.remove(lock_of(path))
    disk.rename(new, path)
    disk.sync_directory(path.parent)
    return True


def _has(environment: lmdb.Environment, table: str) -> bool:
    try:
        environment.open_db(table.encode(), create=False)
    except lmdb.NotFoundError:
        return False
    return True


def _convert(
    path: Path, disk: Disk, old: OldFile, convert: Callable[[OldFile, NewFile], None]
) -> Path:
    new = path.with_name(path.name + ".new")
    disk.remove(new)
    disk.remove(lock_of(new))
    store = StateStore(new, disk)
    try:
        filling = NewFile(store)
        convert(old, filling)
        filling.write()
    except ValueError as error:
        raise damaged(path, str(error)) from error
    except (lmdb.Error, OSError) as error:
        raise StorageError(f"{path} cannot be brought to today's layout: {error}") from error
    finally:
        store.close()
        disk.remove(lock_of(new))
    return new
