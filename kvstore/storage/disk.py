"""The disk as the store uses it: LMDB environments, a few small files, and what is durable when.

Everything that reaches a data directory goes through a `Disk`. `SystemDisk` is the real one; the
simulation has one of its own, which loses at a crash what was not synced.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import lmdb

from kvstore.storage.environment import open_environment


class File(Protocol):
    """An open file. All methods raise OSError."""

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Durable after the next `sync`."""

    def sync(self) -> None:
        """Wait until the disk has what was written."""

    def size(self) -> int:
        """In bytes."""

    def require_room(self, size: int) -> None:
        """Raises OSError unless a file of `size` bytes, and the log beside it, fit the disk."""

    def close(self) -> None:
        """Give the descriptor back."""


class Disk(Protocol):
    """All methods raise OSError unless they say otherwise."""

    def make_directory(self, path: Path) -> None:
        """With its parents, durably; it may exist."""

    def lock(self, path: Path) -> Callable[[], None]:
        """Lock the file at `path` for this process; what gives it back. BlockingIOError if held."""

    def size(self, path: Path) -> int | None:
        """In bytes; None if there is no such file."""

    def read(self, path: Path) -> bytes:
        """The whole file."""

    def replace(self, path: Path, data: bytes) -> None:
        """Atomically and durably make `data` the content of `path`."""

    def rename(self, old: Path, new: Path) -> None:
        """Atomically and durably, replacing `new`."""

    def remove(self, path: Path) -> None:
        """It may be absent."""

    def create(self, path: Path) -> File:
        """An empty file, open for writing and reading."""

    def open(self, path: Path) -> File:
        """For reading."""

    def environment(self, path: Path, databases: int, walk: bool = False) -> lmdb.Environment:
        """Open or create the LMDB file at `path`, after a `walk` through its pages if that is
        asked for. Raises StorageError with advice."""

    def copy(self, environment: lmdb.Environment, path: Path) -> None:
        """A consistent, compacted, synced copy of the last commit. Raises lmdb.Error too."""


ROOM_BYTES = 64 << 20
"""What a snapshot leaves free for the log and the checkpoints."""


def require_room(disk: os.statvfs_result, needed: int) -> None:
    """Raises OSError, with both numbers, if `needed` bytes are more than are free."""
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        text = f"{os.strerror(errno.ENOSPC)}: {needed} bytes are needed, and {free} are free"
        raise OSError(errno.ENOSPC, text)


class _SystemFile:
    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, flags, 0o600)

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def write_at(self, offset: int, data: bytes) -> None:
        os.pwrite(self._descriptor, data, offset)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def require_room(self, size: int) -> None:
        require_room(os.fstatvfs(self._descriptor), size + ROOM_BYTES)

    def close(self) -> None:
        os.close(self._descriptor)


class SystemDisk:
    """The machine's own file systems."""

    def make_directory(self, path: Path) -> None:
        made = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for each in made:
            _sync_directory(each.parent)

    def lock(self, path: Path) -> Callable[[], None]:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return lambda: os.close(descriptor)

    def size(self, path: Path) -> int | None:
        return path.stat().st_size if path.exists() else None

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def replace(self, path: Path, data: bytes) -> None:
        new = path.with_name(path.name + ".new")
        with new.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        self.rename(new, path)

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)
        _sync_directory(new.parent)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def create(self, path: Path) -> File:
        return _SystemFile(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR)

    def open(self, path: Path) -> File:
        return _SystemFile(path, os.O_RDONLY)

    def environment(self, path: Path, databases: int, walk: bool = False) -> lmdb.Environment:
        return open_environment(path, databases, walk)

    def copy(self, environment: lmdb.Environment, path: Path) -> None:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            environment.copyfd(descriptor, compact=True)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_directory(path: Path) -> None:
    """Make renames and creations inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


SYSTEM_DISK = SystemDisk()
