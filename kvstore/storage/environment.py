"""Opening LMDB environments: one file each, refused with advice when damaged, growing by itself.

Engine: LMDB 1.0 of the two that the `lmdb` package bundles. Measured side by side a durable commit
of a 20 kB record took the same time in both (0.38 against 0.41 ms) and so did random rewrites; 1.0
takes keys of up to 1,978 bytes where 0.9 stops at 511, too short for paths that users of etcd keep.
"""

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

import lmdb

from kvstore.errors import DataDamaged, StorageError
from kvstore.storage.pages import PageError, bytes_in_use
from kvstore.storage.room import NO_ROOM

LIB_VERSION = 1
MAP_BYTES_START = 1 << 40
"""Address space reserved at first; the file itself grows only as it is used. Large, because a map
cannot grow while a copy of the file is made."""
MAP_BYTES_MIN = 1 << 26
_MAP_SHARE = 8
"""Where the address space of the process is limited, a map takes this part of it at most."""

LOCK_BYTES = 16 << 10
"""Of the reader table that LMDB keeps beside each file, and maps; it needs half of it."""

_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)

_RECOVER = (
    "Keep a copy of it for inspection. If the other members are healthy, this node's data can be "
    "given up: its peers refuse an emptied directory under the same id, so replace the member."
)


def open_environment(path: Path, databases: int, walk: bool = False) -> lmdb.Environment:
    """Open or create the LMDB file at `path`.

    `walk`: look at all its pages first. LMDB ends the process by an assertion of its own where a
    page is not what it should be; it takes about a microsecond a key.
    Raises StorageError, saying what to do, if the file is damaged or cannot be opened.
    """
    size: int | None = None
    try:
        size = path.stat().st_size if path.exists() else 0
        if walk and size:
            _walk(path)
        _make_lock(path)
        environment = _open(path, databases, size)
        if size and size < (needed := used_bytes(environment)):
            environment.close()
            _complete(path, size, needed)
            environment = _open(path, databases, needed)
    except (lmdb.Error, OSError) as error:
        if size == 0:
            # Half made: the next start would take it for a file that is damaged.
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise unusable(path, error) from error
    return environment


def _walk(path: Path) -> None:
    try:
        bytes_in_use(path)
    except PageError as error:
        raise damaged(path, str(error)) from None


def _make_lock(path: Path) -> None:
    """The reader table, with room on the disk. LMDB makes it as a hole and maps it: on a full disk
    the first touch would kill the process by SIGBUS, without a word. Raises OSError."""
    descriptor = os.open(f"{path}-lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size < LOCK_BYTES:
            os.pwrite(descriptor, bytes(LOCK_BYTES - size), size)
    finally:
        os.close(descriptor)


def _open(path: Path, databases: int, size: int) -> lmdb.Environment:
    """With as large a map as the system gives."""
    map_bytes, least = MAP_BYTES_START, max(2 * size, min(MAP_BYTES_MIN, MAP_BYTES_START))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        map_bytes = min(map_bytes, limit // _MAP_SHARE)
    while map_bytes > least:
        try:
            return _map(path, databases, map_bytes)
        except (lmdb.MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOMEM:
                raise
            map_bytes //= 2
    return _map(path, databases, least)


def _map(path: Path, databases: int, map_bytes: int) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        subdir=False,
        mode=0o600,
        # Whole pages of any size.
        map_size=-(-map_bytes // (1 << 16)) << 16,
        max_dbs=databases,
        metasync=True,
        sync=True,
        readahead=False,
        lib_version=LIB_VERSION,
    )


def _complete(path: Path, size: int, needed: int) -> None:
    """Bring a file up to the size that its header speaks of, if nothing of what it lacks is used.

    LMDB does not write pages that a transaction took at the end of the file and gave back before
    its commit, so a sound file may be short. A cut one is short too, and reading past the end of a
    mapped file kills the process with SIGBUS. The pages themselves tell the two apart.

    Raises StorageError, and leaves the file as it is, if something is missing.
    """
    try:
        in_use = bytes_in_use(path)
    except PageError as error:
        raise damaged(path, f"{size} bytes where {needed} were written, and {error}") from None
    if in_use > size:
        raise damaged(path, f"{size} bytes where at least {in_use} were written")
    os.truncate(path, needed)


def used_bytes(environment: lmdb.Environment) -> int:
    """How many bytes of the file hold pages that were ever written."""
    return (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]


def unusable(path: Path, error: Exception) -> StorageError:
    """The error for a file of which opening, reading or writing failed by `error`. Only of one that
    is damaged is it said that its data may be given up: a full disk says nothing about the data."""
    if isinstance(error, _DAMAGE):
        return StorageError(f"{path} cannot be opened ({error}). {_RECOVER}")
    no_room = isinstance(error, OSError) and error.errno in NO_ROOM
    if no_room or isinstance(error, lmdb.DiskError) or "MDB_SHORT_WRITE" in str(error):
        return StorageError(f"{path} cannot be written: the disk has no room for it ({error})")
    return StorageError(f"{path} cannot be opened: {error}")


def damaged(path: Path, what: str) -> DataDamaged:
    """The error for a file that opens, and holds what cannot be."""
    return DataDamaged(f"{path} is damaged: {what}. {_RECOVER}")
