"""The disk of the simulation: what is synced survives, and what a crash may do to the rest.

The granularity is that of the real storage. An LMDB commit is all or nothing, so a crash in the
middle of one keeps either (`survives_crash`). A file's bytes are safe after `sync`; before, a crash
keeps any prefix. A rename is synced before it returns.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from kvstore.errors import StorageError, StorageFailed
from kvstore.storage.disk import File
from kvstore.storage.log import LogStore
from paxos.records import Record
from proof.simulation.machine.hanging import Hang
from proof.simulation.machine.lmdb_model import Environment, EnvironmentFile, as_lmdb
from proof.simulation.machine.paths import MOMENT_S
from proof.simulation.machine.scheduler import Process, moment_from

MAP_BYTES_START = 16 << 10
"""Small, so that environments grow in most runs."""


class DiskFile:
    """A file; `synced` is what a crash leaves at least, None if not even its name."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.synced: bytes | None = None


class SimulatedDisk:
    """One machine's data directory; it outlives the programs that use it.

    The nemesis sets `fails` (the next sync fails, and all later ones until the program ends),
    `full` and `slow_s` (added to every blocking call).
    """

    def __init__(
        self,
        randomness: random.Random,
        latency_s: tuple[float, float],
        moment_s: float = MOMENT_S,
    ) -> None:
        self.files: dict[Path, DiskFile | EnvironmentFile] = {}
        self.fails = False
        self.full = False
        self.slow_s = 0.0
        self.failures = 0
        self.hang = Hang()
        self._moment_s = moment_s
        self._latency_s = latency_s
        self._randomness = randomness
        self._locked: set[Path] = set()

    # -- for the world ----------------------------------------------------------------------

    def ends_at_s(self, now_s: float) -> float:
        """When the next blocking call is over."""
        low, high = self._latency_s
        latency_s = low + (high - low) * self._randomness.random() + self.slow_s
        return moment_from(now_s + latency_s, self._moment_s)

    def survives_crash(self) -> bool:
        """Whether a blocking call under way at a crash has its effect."""
        return self._randomness.random() < 0.5

    def crash(self) -> None:
        """The machine lost its memory: drop what was not synced, or keep a part of it."""
        for path, file in list(self.files.items()):
            if isinstance(file, DiskFile) and file.synced != bytes(file.content):
                kept = self._randomness.randrange(len(file.content) + 1)
                if file.synced is None and kept == 0:
                    del self.files[path]
                else:
                    file.content = bytearray(file.content[:kept])

    def release_locks(self) -> None:
        """The program that held them has ended."""
        self._locked.clear()

    def lose(self) -> None:
        """The disk is replaced by an empty one."""
        self.files.clear()

    # -- kvstore.storage.disk.Disk ----------------------------------------------------------

    def make_directory(self, path: Path) -> None:
        """Directories need not be made here."""

    def lock(self, path: Path) -> Callable[[], None]:
        if path in self._locked:
            raise BlockingIOError(11, "locked")
        self._locked.add(path)
        return lambda: self._locked.discard(path)

    def size(self, path: Path) -> int | None:
        file = self.files.get(path)
        if file is None:
            return None
        return file.used_bytes + 1 if isinstance(file, EnvironmentFile) else len(file.content)

    def read(self, path: Path) -> bytes:
        file = self.files.get(path)
        if not isinstance(file, DiskFile):
            raise FileNotFoundError(2, "no such file", str(path))
        return bytes(file.content)

    def replace(self, path: Path, data: bytes) -> None:
        self.check_write()
        file = self.files[path] = DiskFile()
        file.content, file.synced = bytearray(data), data

    def rename(self, old: Path, new: Path) -> None:
        self.check_write()
        self.files[new] = self.files.pop(old)

    def remove(self, path: Path) -> None:
        self.files.pop(path, None)

    def create(self, path: Path) -> File:
        file = self.files[path] = DiskFile()
        return OpenFile(self, file)

    def open(self, path: Path) -> File:
        file = self.files.get(path)
        if not isinstance(file, DiskFile):
            raise FileNotFoundError(2, "no such file", str(path))
        return OpenFile(self, file)

    def environment(self, path: Path, databases: int, walk: bool = False) -> Any:
        file = self.files.get(path)
        if file is None:
            file = self.files[path] = EnvironmentFile()
        if isinstance(file, DiskFile):
            try:
                file = self.files[path] = EnvironmentFile.decode(bytes(file.content))
            except msgspec.DecodeError as error:
                raise StorageError(f"{path} cannot be opened ({error})") from error
        return as_lmdb(Environment(file, MAP_BYTES_START, lambda _: self.check_commit()))

    def copy(self, environment: Any, path: Path) -> None:
        self.check_write()
        file = self.files[path] = DiskFile()
        data = environment.file.encode()
        file.content, file.synced = bytearray(data), data

    def check_write(self) -> None:
        """Raises OSError if the disk fails or is full."""
        if self.fails or self.full:
            self.failures += 1
            raise OSError(28, "no space left on device") if self.full else OSError(5, "disk failed")

    def check_commit(self) -> None:
        """The same, in LMDB's words."""
        try:
            self.check_write()
        except OSError as error:
            raise lmdb.Error(str(error)) from error


class OpenFile:
    """kvstore.storage.disk.File."""

    def __init__(self, disk: SimulatedDisk, file: DiskFile) -> None:
        self._disk = disk
        self._file = file

    def read_at(self, offset: int, size: int) -> bytes:
        return bytes(self._file.content[offset : offset + size])

    def write_at(self, offset: int, data: bytes) -> None:
        self._disk.check_write()
        self._file.content[offset : offset + len(data)] = data

    def sync(self) -> None:
        self._disk.check_write()
        self._file.synced = bytes(self._file.content)

    def size(self) -> int:
        return len(self._file.content)

    def require_room(self, size: int) -> None:
        self._disk.check_write()

    def close(self) -> None:
        """Nothing to give back."""


class SimulatedLogWriter:
    """kvstore.storage.log.LogWriter: groups that come while a commit is under way share the next.

    The commit runs as a blocking call of the program, so a crash in the middle of it keeps all of
    it or nothing.
    """

    def __init__(
        self,
        process: Process,
        store: LogStore,
        failed: Callable[[StorageFailed], None],
        committed: Callable[[list[Record], int], None],
    ) -> None:
        self._process = process
        self._store = store
        self._failed = failed
        self._committed = committed
        self._waiting: list[tuple[list[Record], Callable[[], None]]] = []
        self._under_way: list[tuple[list[Record], Callable[[], None]]] = []
        self._broken = False

    def submit(self, records: list[Record], then: Callable[[], None]) -> None:
        self._waiting.append((records, then))
        self._go_on()

    def close(self) -> None:
        """Finish what was submitted; nothing is called back any more."""
        groups = [*self._under_way, *self._waiting]
        if not self._broken:
            self._broken = True
            try:
                self._store.commit([record for group, _ in groups for record in group])
            except StorageFailed as error:
                self._failed(error)

    def _go_on(self) -> None:
        if self._under_way or self._broken or not self._waiting:
            return
        self._under_way, self._waiting = self._waiting, []
        records = [record for group, _ in self._under_way for record in group]
        if not records:
            self._process.call_soon(self._done)
            return
        future = self._process.run_in_executor(None, self._commit, records)
        future.add_done_callback(lambda done: self._finished(done.exception()))

    def _commit(self, records: list[Record]) -> None:
        if not self._broken:  # else `close` has done it, and the disk is not this writer's any more
            self._store.commit(records)
            self._committed(records, len(self._under_way))

    def _finished(self, error: BaseException | None) -> None:
        if error is None:
            self._done()
        elif not self._broken:
            self._broken = True
            failure = error if isinstance(error, StorageFailed) else StorageFailed(str(error))
            self._failed(failure)

    def _done(self) -> None:
        groups, self._under_way = self._under_way, []
        for _, then in groups:
            if not self._broken:
                then()
        self._go_on()
