"""The disk of the simulation: what is synced survives, and what a crash may do to the rest.

The granularity is that of the real storage. An LMDB commit is all or nothing. Files lose what was
not synced, by sectors, and names what was not synced of their directory (`files`). A program that
is killed in a blocking call has made it wholly, in part, or not at all (`cut_short`).
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from kvstore.errors import StorageError, StorageFailed
from kvstore.storage.disk import File
from kvstore.storage.segment_log import SegmentLog
from paxos.records import Record
from proof.simulation.machine.files import DiskFile, Names, StoredFile
from proof.simulation.machine.hanging import Hang
from proof.simulation.machine.lmdb_model import Environment, EnvironmentFile, as_lmdb
from proof.simulation.machine.paths import MOMENT_S
from proof.simulation.machine.scheduler import Process, moment_from

MAP_BYTES_START = 16 << 10
"""Small, so that environments grow in most runs."""


class KilledHere(Exception):
    """The program was killed here; nothing that it does afterwards reaches the disk."""


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
        tears: random.Random | None = None,
    ) -> None:
        """`tears` decides what a crash or a failing sync keeps of what was not synced."""
        self.names = Names()
        self.fails = False
        self.full = False
        self.slow_s = 0.0
        self.failures = 0
        self.hang = Hang()
        self._moment_s = moment_s
        self._latency_s = latency_s
        self._randomness = randomness
        self._tears = tears or random.Random(0)
        self._locked: set[Path] = set()
        self._operations_left: int | None = None

    # -- for the world ----------------------------------------------------------------------

    @property
    def files(self) -> dict[Path, StoredFile]:
        """By the names that they have now."""
        return self.names.now

    def ends_at_s(self, now_s: float) -> float:
        """When the next blocking call is over."""
        low, high = self._latency_s
        latency_s = low + (high - low) * self._randomness.random() + self.slow_s
        return moment_from(now_s + latency_s, self._moment_s)

    def cut_short(self, call: Callable[[], object]) -> bool:
        """A blocking call is under way at a crash: it is made wholly, in part, or not at all.
        Whether wholly."""
        if self._randomness.random() < 0.5:
            with suppress(Exception):  # the disk failed too: nothing was written
                call()
            return True
        if self._tears.random() < 0.7:
            self._operations_left = self._tears.choice((0, 0, 1, 1, 2, 3, 5))
            with suppress(Exception):
                call()
            self._operations_left = None
        return False

    def crash(self) -> None:
        """The machine lost its memory: what was not synced is dropped, or kept in part."""
        for _, file in sorted({**self.names.durable, **self.names.now}.items()):
            if isinstance(file, DiskFile):
                file.crash(self._tears)
        self.names.crash(self._tears)

    def release_locks(self) -> None:
        """The program that held them has ended."""
        self._locked.clear()

    def lose(self) -> Names:
        """The disk is replaced by an empty one; the one that it was."""
        return self.exchange(Names())

    def exchange(self, names: Names) -> Names:
        """Another disk is in the machine from now on; the one that it was."""
        lost, self.names = self.names, names
        return lost

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
        file = DiskFile()
        file.write(0, data)
        file.sync()
        self.names.put(path, file)
        self.names.sync(path.parent)

    def list(self, path: Path) -> list[str]:
        return sorted(each.name for each in self.files if each.parent == path)

    def rename(self, old: Path, new: Path) -> None:
        self.check_write()
        self.names.put(new, self.files[old], old)

    def remove(self, path: Path) -> None:
        self.check_alive()
        self.names.remove(path)

    def sync_directory(self, path: Path) -> None:
        self.check_write()
        self.names.sync(path)

    def create(self, path: Path) -> File:
        self.check_alive()
        file = DiskFile()
        self.names.put(path, file)
        return OpenFile(self, file)

    def open(self, path: Path) -> File:
        file = self.files.get(path)
        if not isinstance(file, DiskFile):
            raise FileNotFoundError(2, "no such file", str(path))
        return OpenFile(self, file)

    open_to_write = open

    def free_bytes(self, path: Path) -> int | None:
        return None  # there is no end to it

    def random_bytes(self, count: int) -> bytes:
        return self._tears.randbytes(count)

    def environment(self, path: Path, databases: int, walk: bool = False) -> Any:
        file = self.files.get(path)
        if file is None:
            file = EnvironmentFile()
            self.names.put_durably(path, file)
        if isinstance(file, DiskFile):
            try:
                file = EnvironmentFile.decode(bytes(file.content))
                self.names.put_durably(path, file)
            except msgspec.DecodeError as error:
                raise StorageError(f"{path} cannot be opened ({error})") from error
        return as_lmdb(Environment(file, MAP_BYTES_START, lambda _: self.check_commit()))

    def copy(self, environment: Any, path: Path) -> None:
        self.check_write()
        file = DiskFile()
        file.write(0, environment.file.encode())
        file.sync()
        self.names.put(path, file)

    def check_alive(self) -> None:
        """Raises KilledHere once the program that runs here is dead."""
        if self._operations_left is not None:
            self._operations_left -= 1
            if self._operations_left < 0:
                raise KilledHere

    def check_write(self, grows: bool = True) -> None:
        """Raises OSError if the disk fails, or is full and more of it is needed."""
        self.check_alive()
        if self.fails or (self.full and grows):
            self.failures += 1
            raise OSError(28, "no space left on device") if self.full else OSError(5, "disk failed")

    def write(self, file: DiskFile, offset: int, data: bytes) -> None:
        """Into memory. A disk that fails may take it, and fail at the sync."""
        if self._operations_left == 0:
            file.write(offset, data[: self._tears.randrange(len(data) + 1)])
        takes = self.fails and not self.full and self._tears.random() < 0.5
        if takes:
            self.check_alive()
        else:
            self.check_write(grows=offset + len(data) > len(file.content))
        file.write(offset, data)

    def sync(self, file: DiskFile) -> None:
        """To the disk, unless it fails."""
        try:
            self.check_write(grows=False)
        except OSError:
            file.fail_sync(self._tears)
            raise
        file.sync()

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
        self._disk.write(self._file, offset, data)

    def write_parts_at(self, offset: int, parts: Sequence[bytes]) -> None:
        self._disk.write(self._file, offset, b"".join(parts))

    def write_synced_at(self, offset: int, parts: Sequence[bytes]) -> None:
        self.write_parts_at(offset, parts)
        self.sync()

    def sync(self) -> None:
        self._disk.sync(self._file)

    sync_data = sync

    def size(self) -> int:
        return len(self._file.content)

    def require_room(self, size: int) -> None:
        self._disk.check_write()

    def close(self) -> None:
        """Nothing to give back."""


class SimulatedLogWriter:
    """kvstore.storage.log_writer.LogWriter: what comes during a commit shares the next one.

    The commit runs as a blocking call of the program: a crash in the middle of it keeps all of it,
    a part, or nothing.
    """

    def __init__(
        self,
        process: Process,
        store: SegmentLog,
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

    waits_for_room = ""

    def stop_waiting(self) -> None:
        """It never waits for room."""

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
