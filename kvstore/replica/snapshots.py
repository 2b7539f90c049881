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
from kvstore.storage.disk import ROOM_BYTES, SYSTEM_DISK, Disk, File
from paxos.ballot import NodeId, Slot
from paxos.errors import PeerError

IDLE_TICKS = 400
"""A snapshot that nobody asked for during this many ticks is removed."""
ASK_AGAIN_TICKS = 20
GIVE_UP_TICKS = 400
"""Without a new piece for so long, the laggard lets go and may start over."""
FOLLOW_TICKS = 1200
"""The log behind a snapshot is kept for its receiver until it makes no progress for so long."""
PAUSE_TICKS = (100, 1600)
"""First and longest pause of a laggard that could not keep or install a snapshot."""

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
    overtaken: bool = False


@dataclass(slots=True)
class _Followed:
    """Who has got a snapshot: how far it is, and for how long it has been there."""

    after: Slot
    ticks: int = 0


class SnapshotSource:
    """Serves one snapshot at a time, shared by all laggards.

    `copy(path)` writes a consistent copy of the state and returns the slot it covers;
    `progress(peer)` is how far the peer's log is chosen, None if this node does not know.
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
        progress: Callable[[NodeId], Slot | None],
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._path = path
        self._disk = disk
        self._log = log
        self._progress = progress
        self._piece_bytes = piece_bytes
        self._prefix = name
        self._copy = copy
        self._send = send
        self._count = 0
        self._built: _Built | None = None
        self._building: asyncio.Task[None] | None = None
        self._held_while_building: Slot | None = None
        self._askers: set[NodeId] = set()
        self._followed: dict[NodeId, _Followed] = {}
        disk.remove(path)

    @property
    def holds_after(self) -> Slot | None:
        """The log after this slot is still needed by who receives a snapshot, or has received one
        and catches up by the log. Failing schedule otherwise: under load the log is truncated past
        the snapshot while it is being installed, and its receiver needs another one, for ever."""
        out = self._held_while_building if self._built is None else self._built.through
        needed = [followed.after for followed in self._followed.values()]
        if out is not None:
            needed.append(out)
        return min(needed, default=None)

    def on_ask(self, peer: NodeId, ask: SnapshotAsk, first_slot: Slot) -> None:
        """Answer with a piece, or begin to build; `first_slot` is where the log begins."""
        built = self._built
        self._askers.add(peer)
        fresh = built is not None and built.through + 1 >= first_slot
        if built is not None and (ask.snapshot == built.name or fresh):
            built.idle_ticks = 0
            if not fresh and not built.overtaken:
                built.overtaken = True
                self._log.event(
                    "snapshot overtaken",
                    through=built.through,
                    log_first_slot=first_slot,
                    advice="the log moves on faster than snapshots travel: raise log-tail-bytes",
                )
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
        self._followed[peer] = _Followed(built.through)
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
        for peer, followed in list(self._followed.items()):
            reached = self._progress(peer) or 0
            if reached > followed.after:
                followed.after, followed.ticks = reached, 0
                continue
            followed.ticks += 1
            if followed.ticks > FOLLOW_TICKS:
                del self._followed[peer]

    def _discard(self) -> None:
        if self._built is not None:
            self._built.file.close()
            self._built = None
        self._disk.remove(self._path)

    async def close(self) -> None:
        if self._building is not None:
            self._building.cancel()
            await asyncio.gather(self._building, return_exceptions=True)
        self._followed.clear()
        self._discard()


class SnapshotSink:
    """Receives one snapshot at a time; `install(path, through)` gets it whole and checked,
    after `prepare(path)` on a thread of its own: a peer of an older release writes another layout.

    It leaves `reserve_bytes` of the disk free. After one that could not be kept, on a full disk
    say, it asks rarely; `trouble` says why, until one is installed or none is needed any more.
    """

    def __init__(
        self,
        path: Path,
        install: Callable[[Path, Slot], Awaitable[None]],
        send: Send,
        log: EventLog,
        *,
        prepare: Callable[[Path], object],
        reserve_bytes: int = ROOM_BYTES,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        self._path = path
        self._disk = disk
        self._log = log
        self._prepare = prepare
        self._reserve_bytes = reserve_bytes
        self._install = install
        self._send = send
        self._source: NodeId | None = None
        self._name = ""
        self._offset = 0
        self._ticks = 0
        self._file: File | None = None
        self._installing: asyncio.Task[None] | None = None
        self.trouble = ""
        self._pause_ticks = 0
        self._pause_next = PAUSE_TICKS[0]
        self._unneeded_ticks = 0
        disk.remove(path)

    @property
    def active(self) -> bool:
        return self._source is not None

    @property
    def why_behind(self) -> str:
        """Why this node cannot serve what is new; "" if it needs no snapshot."""
        if self._source is not None:
            return f"far behind: a snapshot comes from node {self._source}"
        return f"far behind: {self.trouble}" if self.trouble else ""

    def start(self, source: NodeId) -> bool:
        """Begin to pull from `source`, unless a pull is under way, or the last one failed just now;
        whether it began."""
        self._unneeded_ticks = 0
        if self._source is not None or self._pause_ticks > 0:
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
            self._failed("snapshot not received", error)
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
            self._begin(piece.snapshot, piece.size)
        if piece.offset != self._offset or self._file is None:
            return False
        self._file.write_at(piece.offset, piece.data)
        return True

    def _begin(self, name: str, size: int) -> None:
        self._close_file()
        self._name = name
        self._offset = 0
        self._file = self._disk.create(self._path)
        # Else it fills the disk, and the log that shares it fails first.
        self._file.require_room(size + self._reserve_bytes)

    def _failed(self, what: str, reason: object) -> None:
        """A line when it begins and for each new reason; the next pull waits, longer each time."""
        trouble = f"{what}: {reason}"
        pause = self._pause_ticks = self._pause_next
        self._pause_next = min(2 * pause, PAUSE_TICKS[1])
        if trouble != self.trouble:
            self.trouble = trouble
            self._log.event(what, reason=reason, pause_ticks=pause)

    def _recovered(self, how: str) -> None:
        self._pause_ticks, self._pause_next = 0, PAUSE_TICKS[0]
        if self.trouble:
            self.trouble = ""
            self._log.event("snapshot trouble over", how=how)

    def _ask(self) -> None:
        assert self._source is not None
        self._send(self._source, SnapshotAsk(self._name, self._offset))

    async def _finish(self, piece: SnapshotPiece) -> None:
        assert self._file is not None
        try:
            await asyncio.to_thread(self._file.sync)
            if await asyncio.to_thread(_checksum, self._file) == piece.checksum:
                await asyncio.to_thread(self._prepare, self._path)
                await self._install(self._path, piece.through)
                self._recovered("one was installed")
            else:
                self._failed("snapshot not received", "its checksum does not match")
        except (OSError, StorageError) as error:
            self._failed("snapshot not installed", error)
        finally:
            self._installing = None
            self._stop()

    def tick(self) -> None:
        if self._source is None:
            self._wait()
            return
        if self._installing is not None:
            return
        self._ticks += 1
        if self._ticks >= GIVE_UP_TICKS:
            self._stop()
        elif self._ticks % ASK_AGAIN_TICKS == 0:
            self._ask()

    def _wait(self) -> None:
        """Between two pulls."""
        if self._pause_ticks > 0:
            self._pause_ticks -= 1
        elif self.trouble:
            self._unneeded_ticks += 1
            if self._unneeded_ticks >= GIVE_UP_TICKS:
                self._recovered("none is needed any more")

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
