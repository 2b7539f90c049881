"""Snapshots for laggards: build a copy of the state, ship it in pieces, check it, hand it over.

The laggard pulls: it asks for one piece at a time, so nothing queues up, a lost piece is asked for
again, and a slow one costs the sender one open file.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import lmdb

from kvstore.errors import StorageError
from kvstore.event_log import EventLog
from kvstore.peers.frames import PeerMessage, SnapshotAsk, SnapshotPiece
from kvstore.storage.disk import SYSTEM_DISK, Disk, File
from paxos.ballot import NodeId, Slot
from paxos.errors import PeerError

IDLE_TICKS = 400
"""A snapshot that nobody asked for during this many ticks is removed."""
ASK_AGAIN_TICKS = 20
GIVE_UP_TICKS = 400
"""Without a new piece for so long, the laggard lets go and may start over."""

Send = Callable[[NodeId, PeerMessage], None]


def _checksum(file: File) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    offset = 0
    while block := file.read_at(offset, 1 << 20):
        digest.update(block)
        offset += len(block)
    return digest.digest()


@dataclass(slots=True)
class _Built:
    name: str
    through: Slot
    file: File
    size: int
    checksum: bytes
    idle_ticks: int = 0


class SnapshotSource:
    """Serves one snapshot at a time, shared by all laggards.

    `copy(path)` writes a consistent copy of the state and returns the slot it covers.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        copy: Callable[[Path], Awaitable[Slot]],
        send: Send,
        log: EventLog,
        *,
        piece_bytes: int,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._path = path
        self._disk = disk
        self._log = log
        self._piece_bytes = piece_bytes
        self._prefix = name
        self._copy = copy
        self._send = send
        self._count = 0
        self._built: _Built | None = None
        self._building: asyncio.Task[None] | None = None
        self._held_while_building: Slot | None = None
        self._askers: set[NodeId] = set()
        disk.remove(path)

    @property
    def holds_after(self) -> Slot | None:
        """While a snapshot is out, the log after this slot is still needed by its receiver."""
        return self._held_while_building if self._built is None else self._built.through

    def on_ask(self, peer: NodeId, ask: SnapshotAsk, first_slot: Slot) -> None:
        """Answer with a piece, or begin to build; `first_slot` is where the log begins."""
        built = self._built
        self._askers.add(peer)
        fresh = built is not None and built.through + 1 >= first_slot
        if built is not None and (ask.snapshot == built.name or fresh):
            built.idle_ticks = 0
            # Asked for one that is gone (of an earlier start, say): begin anew with this one.
            self._send_piece(peer, built, ask.offset if ask.snapshot == built.name else 0)
        elif self._building is None:
            # Else a busy log is truncated past the copy before it is done, time after time.
            self._held_while_building = first_slot - 1
            self._building = asyncio.get_running_loop().create_task(self._build())

    def _send_piece(self, peer: NodeId, built: _Built, offset: int) -> None:
        self._askers.discard(peer)
        if not 0 <= offset < built.size:
            raise PeerError(f"node {peer} asks for byte {offset} of a snapshot of {built.size}")
        data = built.file.read_at(offset, self._piece_bytes)
        self._send(
            peer,
            SnapshotPiece(built.name, built.through, offset, built.size, built.checksum, data),
        )

    async def _build(self) -> None:
        try:
            self._discard()
            self._count += 1
            through = await self._copy(self._path)
            file = self._disk.open(self._path)
            try:
                checksum = await asyncio.to_thread(_checksum, file)
            except BaseException:
                file.close()
                raise
            name = f"{self._prefix}-{self._count}"
            self._built = _Built(name, through, file, file.size(), checksum)
            for peer in sorted(self._askers):
                self._send_piece(peer, self._built, 0)
        except (OSError, lmdb.Error) as error:
            self._log.event("snapshot not built", reason=error)
            self._disk.remove(self._path)
        finally:
            self._building = None
            self._held_while_building = None

    def tick(self) -> None:
        if self._built is not None:
            self._built.idle_ticks += 1
            if self._built.idle_ticks > IDLE_TICKS:
                self._discard()

    def _discard(self) -> None:
        if self._built is not None:
            self._built.file.close()
            self._built = None
        self._disk.remove(self._path)

    async def close(self) -> None:
        if self._building is not None:
            self._building.cancel()
            await asyncio.gather(self._building, return_exceptions=True)
        self._discard()


class SnapshotSink:
    """Receives one snapshot at a time; `install(path, through)` gets it whole and checked."""

    def __init__(
        self,
        path: Path,
        install: Callable[[Path, Slot], Awaitable[None]],
        send: Send,
        log: EventLog,
        *,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._path = path
        self._disk = disk
        self._log = log
        self._install = install
        self._send = send
        self._source: NodeId | None = None
        self._name = ""
        self._offset = 0
        self._ticks = 0
        self._file: File | None = None
        self._installing: asyncio.Task[None] | None = None
        disk.remove(path)

    @property
    def active(self) -> bool:
        return self._source is not None

    def start(self, source: NodeId) -> bool:
        """Begin to pull from `source`, unless a pull is under way; whether it began."""
        if self._source is not None:
            return False
        self._source = source
        self._ticks = 0
        self._ask()
        return True

    def on_piece(self, sender: NodeId, piece: SnapshotPiece) -> None:
        if sender != self._source or self._installing is not None:
            return
        try:
            if not self._write(piece):
                return
        except OSError as error:
            self._log.event("snapshot not received", reason=error)
            self._stop()
            return
        self._offset += len(piece.data)
        self._ticks = 0
        if self._offset < piece.size:
            self._ask()
        else:
            loop = asyncio.get_running_loop()
            self._installing = loop.create_task(self._finish(piece))

    def _write(self, piece: SnapshotPiece) -> bool:
        """Whether it was the next piece."""
        if piece.snapshot != self._name:
            if piece.offset != 0:
                return False
            self._begin(piece.snapshot)
        if piece.offset != self._offset or self._file is None:
            return False
        self._file.write_at(piece.offset, piece.data)
        return True

    def _begin(self, name: str) -> None:
        self._close_file()
        self._name = name
        self._offset = 0
        self._file = self._disk.create(self._path)

    def _ask(self) -> None:
        assert self._source is not None
        self._send(self._source, SnapshotAsk(self._name, self._offset))

    async def _finish(self, piece: SnapshotPiece) -> None:
        assert self._file is not None
        try:
            await asyncio.to_thread(self._file.sync)
            if await asyncio.to_thread(_checksum, self._file) == piece.checksum:
                await self._install(self._path, piece.through)
            else:
                self._log.event("snapshot not received", reason="its checksum does not match")
        except (OSError, StorageError) as error:
            self._log.event("snapshot not installed", reason=error)
        finally:
            self._installing = None
            self._stop()

    def tick(self) -> None:
        if self._source is None or self._installing is not None:
            return
        self._ticks += 1
        if self._ticks >= GIVE_UP_TICKS:
            self._stop()
        elif self._ticks % ASK_AGAIN_TICKS == 0:
            self._ask()

    def _stop(self) -> None:
        self._source = None
        self._name = ""
        self._offset = 0
        self._close_file()
        self._disk.remove(self._path)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def close(self) -> None:
        if self._installing is not None:
            self._installing.cancel()
            await asyncio.gather(self._installing, return_exceptions=True)
        self._stop()
