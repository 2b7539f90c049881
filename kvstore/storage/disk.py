"""The disk as the store uses it: LMDB environments, the log's files, a few small ones, and what is
durable when.

Everything that reaches a data directory goes through a `Disk`. `SystemDisk` is the real one; the
simulation has one of its own, which loses at a crash what was not synced.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
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

    def write_parts_at(self, offset: int, parts: Sequence[bytes]) -> None:
        """The same for `parts`, one after the other, in one call of the system if it can be."""

    def write_synced_at(self, offset: int, parts: Sequence[bytes]) -> None:
        """`write_parts_at` and `sync_data`."""

    def sync(self) -> None:
        """Wait until the disk has what was written."""

    def sync_data(self) -> None:
        """The same, if the file's size is what it was at the last `sync`."""

    def size(self) -> int:
        """In bytes."""

    def require_room(self, size: int) -> None:
        """Raises OSError unless so many bytes more fit the disk."""

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

    def list(self, path: Path) -> list[str]:
        """The names in a directory, in no order; none if there is no directory."""

    def rename(self, old: Path, new: Path) -> None:
        """Atomically, replacing `new`; durable after the next `sync_directory`."""

    def remove(self, path: Path) -> None:
        """It may be absent. Durable after the next `sync_directory`."""

    def sync_directory(self, path: Path) -> None:
        """Make durable what names the files inside `path` have."""

    def create(self, path: Path) -> File:
        """An empty file, open for writing and reading. Its name is durable after the next
        `sync_directory`."""

    def open(self, path: Path) -> File:
        """For reading."""

    def open_to_write(self, path: Path) -> File:
        """The file as it is, for writing and reading."""

    def free_bytes(self, path: Path) -> int | None:
        """What the file system of `path` has left for us; None if nobody knows."""

    def random_bytes(self, count: int) -> bytes:
        """That nobody can guess."""

    def environment(self, path: Path, databases: int, walk: bool = False) -> lmdb.Environment:
        """Open or create the LMDB file at `path`, after a `walk` through its pages if that is
        asked for. Raises StorageError with advice."""

    def copy(self, environment: lmdb.Environment, path: Path) -> None:
        """A consistent, compacted, synced copy of the last commit. Raises lmdb.Error too."""


ROOM_BYTES = 64 << 20
"""What a copy leaves free for the log and the checkpoints."""


def require_room(disk: os.statvfs_result, needed: int) -> None:
    """Raises OSError, with both numbers, if `needed` bytes are more than are free."""
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        text = f"{os.strerror(errno.ENOSPC)}: {needed} bytes are needed, and {free} are free"
        raise OSError(errno.ENOSPC, text)


_PARTS_MAX = 1024
"""IOV_MAX of Linux: the parts that one call of `pwritev` takes."""


class _SystemFile:
    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, flags, 0o600)
        self._syncs_writes = hasattr(os, "RWF_DSYNC")  # not every system and file system does

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def write_at(self, offset: int, data: bytes) -> None:
        self.write_parts_at(offset, [data])

    def write_parts_at(self, offset: int, parts: Sequence[bytes]) -> None:
        size = sum(map(len, parts))
        if len(parts) > _PARTS_MAX:
            parts = [b"".join(parts)]
        done = os.pwritev(self._descriptor, parts, offset)
        while done < size:  # a signal came, or the disk is nearly full
            rest = memoryview(b"".join(parts))[done:]
            done += os.pwrite(self._descriptor, rest, offset + done)

    def write_synced_at(self, offset: int, parts: Sequence[bytes]) -> None:
        # One call: for each one the interpreter lock is given away and waited for.
        if self._syncs_writes and len(parts) <= _PARTS_MAX:
            try:
                done = os.pwritev(self._descriptor, parts, offset, os.RWF_DSYNC)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
                self._syncs_writes = False
            else:
                if done == sum(map(len, parts)):
                    return
        self.write_parts_at(offset, parts)
        self.sync_data()

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def sync_data(self) -> None:
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def require_room(self, size: int) -> None:
        require_room(os.fstatvfs(self._descriptor), size)

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
        self.sync_directory(path.parent)

    def list(self, path: Path) -> list[str]:
        return os.listdir(path) if path.exists() else []

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_directory(self, path: Path) -> None:
        _sync_directory(path)

    def create(self, path: Path) -> File:
        return _SystemFile(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR)

    def open(self, path: Path) -> File:
        return _SystemFile(path, os.O_RDONLY)

    def open_to_write(self, path: Path) -> File:
        return _SystemFile(path, os.O_RDWR)

    def free_bytes(self, path: Path) -> int | None:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

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
