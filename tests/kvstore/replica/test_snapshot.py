"""Snapshots over a link that loses and repeats pieces: installed whole and checked, or not at all.

The source is node 1, the laggards are nodes 2 and up. Everything runs on one loop, and time is the
ticks that a test gives.
"""

import asyncio
import hashlib
import io
import random
from collections import deque
from pathlib import Path

import msgspec
import pytest

from kvstore.event_log import EventLog
from kvstore.peers.frames import PeerMessage, SnapshotAsk, SnapshotPiece
from kvstore.replica.snapshots import (
    FOLLOW_TICKS,
    GIVE_UP_TICKS,
    IDLE_TICKS,
    PAUSE_TICKS,
    SnapshotSink,
    SnapshotSource,
)
from kvstore.storage.disk import SYSTEM_DISK
from paxos.ballot import NodeId, Slot
from tests.support.replicas import run

PIECE_BYTES = 1000
THROUGH = 40


async def background() -> None:
    """Let the building and the installing that were begun come to their end."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


class Source:
    """A source whose messages are kept in `sent`, and what it copies."""

    def __init__(self, directory: Path, data: bytes, name: str = "1-1") -> None:
        self.path = directory / "outgoing"
        self.data = data
        self.through: Slot = THROUGH
        self.copies = 0
        self.fails: Exception | None = None
        self.sent: deque[tuple[NodeId, SnapshotPiece]] = deque()
        self.progress: dict[NodeId, Slot] = {}
        self.events = io.StringIO()
        self.source = SnapshotSource(
            self.path,
            name,
            self.copy,
            self.send,
            EventLog(1, out=self.events),
            piece_bytes=PIECE_BYTES,
            progress=self.progress.get,
        )

    async def copy(self, path: Path) -> Slot:
        self.copies += 1
        await asyncio.sleep(0)
        path.write_bytes(self.data)
        if self.fails is not None:
            raise self.fails
        return self.through

    def send(self, to: NodeId, message: PeerMessage) -> None:
        assert isinstance(message, SnapshotPiece)
        self.sent.append((to, message))

    def ask(self, name: str = "", offset: int = 0, peer: NodeId = 2, first_slot: Slot = 1) -> None:
        self.source.on_ask(peer, SnapshotAsk(name, offset), first_slot)

    async def answers(self) -> list[tuple[NodeId, str, int]]:
        """To whom which pieces were sent since the last call."""
        await background()
        answers = [(to, piece.snapshot, piece.offset) for to, piece in self.sent]
        self.sent.clear()
        return answers


class Sink:
    """A laggard whose asks are kept in `sent`, and what it installed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "incoming"
        self.installed: list[tuple[bytes, Slot]] = []
        self.sent: deque[SnapshotAsk] = deque()
        self.events = io.StringIO()
        self.sink = SnapshotSink(
            self.path, self.install, self.send, EventLog(2, out=self.events), prepare=str
        )

    async def install(self, path: Path, through: Slot) -> None:
        await asyncio.sleep(0)
        self.installed.append((path.read_bytes(), through))

    def send(self, to: NodeId, message: PeerMessage) -> None:
        assert to == 1 and isinstance(message, SnapshotAsk)
        self.sent.append(message)


class Link:
    """Carries messages both ways; `loss` and `repeat` are probabilities."""

    def __init__(self, source: Source, sink: Sink, seed: int = 0, loss: float = 0) -> None:
        self.source, self.sink = source, sink
        self.random = random.Random(seed)
        self.loss = self.repeat = loss
        self.pieces = 0

    def times(self) -> int:
        if self.random.random() < self.loss:
            return 0
        return 2 if self.random.random() < self.repeat else 1

    def carry(self) -> bool:
        """One message of each side; whether there was any."""
        moved = False
        if self.sink.sent:
            ask, moved = self.sink.sent.popleft(), True
            for _ in range(self.times()):
                self.source.source.on_ask(2, ask, 1)
        if self.source.sent:
            (_, piece), moved = self.source.sent.popleft(), True
            for _ in range(self.times()):
                self.pieces += 1
                self.sink.sink.on_piece(1, self.changed(piece))
        return moved

    def changed(self, piece: SnapshotPiece) -> SnapshotPiece:
        return piece

    async def pull(self, pieces: int = 1 << 30) -> None:
        """Until the sink lets go, or that many pieces more have come."""
        pieces += self.pieces
        while self.sink.sink.active and self.pieces < pieces:
            if not self.carry():
                await background()
                self.source.source.tick()
                self.sink.sink.tick()


class Corrupting(Link):
    """Changes one bit of the third piece's data, or the checksum, or nothing."""

    what = "data"

    def changed(self, piece: SnapshotPiece) -> SnapshotPiece:
        if self.what == "checksum":
            return msgspec.structs.replace(piece, checksum=bytes(16))
        if self.what == "data" and piece.offset == 2 * PIECE_BYTES:
            return msgspec.structs.replace(piece, data=bytes([piece.data[0] ^ 1]) + piece.data[1:])
        return piece


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [1, PIECE_BYTES, 9 * PIECE_BYTES + 1])
def test_exactly_the_bytes_arrive_over_a_bad_link(tmp_path: Path, seed: int, size: int) -> None:
    async def test() -> None:
        source, sink = Source(tmp_path, content(size, seed)), Sink(tmp_path)
        assert sink.sink.start(1)
        assert not sink.sink.start(1), "one at a time"
        await Link(source, sink, seed, loss=0.3).pull()
        assert sink.installed == [(source.data, THROUGH)]
        assert not sink.path.exists() and not sink.events.getvalue()
        await source.source.close()
        await sink.sink.close()
        assert not source.path.exists()

    run(test())


@pytest.mark.parametrize("what", ["data", "checksum"])
def test_a_wrong_checksum_is_not_installed(tmp_path: Path, what: str) -> None:
    async def test() -> None:
        source, sink = Source(tmp_path, content(5 * PIECE_BYTES)), Sink(tmp_path)
        link = Corrupting(source, sink)
        link.what = what
        sink.sink.start(1)
        await link.pull()
        assert not sink.installed and not sink.path.exists()
        assert "checksum does not match" in sink.events.getvalue()
        link.what = "nothing"
        while not sink.sink.start(1):  # after a pause
            sink.sink.tick()
        await link.pull()
        assert sink.installed == [(source.data, THROUGH)]
        await source.source.close()

    run(test())


def test_a_restarted_source_starts_anew(tmp_path: Path) -> None:
    async def test() -> None:
        source, sink = Source(tmp_path, content(9 * PIECE_BYTES, 1)), Sink(tmp_path)
        sink.sink.start(1)
        await Link(source, sink).pull(pieces=4)
        await source.source.close()
        later = Source(tmp_path, content(3 * PIECE_BYTES, 2), "1-2")
        later.through = THROUGH + 9
        await Link(later, sink).pull()
        assert sink.installed == [(later.data, THROUGH + 9)]
        await later.source.close()

    run(test())


def test_an_unknown_name_gets_the_first_piece_of_the_present_one(tmp_path: Path) -> None:
    async def test() -> None:
        source = Source(tmp_path, content(3 * PIECE_BYTES))
        source.ask("1-0-7", 2 * PIECE_BYTES)
        assert await source.answers() == [(2, "1-1-1", 0)]
        source.ask("1-1-1", 2 * PIECE_BYTES)
        source.ask("1-0-7", 2 * PIECE_BYTES)
        assert await source.answers() == [(2, "1-1-1", 2 * PIECE_BYTES), (2, "1-1-1", 0)]
        assert source.copies == 1
        await source.source.close()

    run(test())


def test_who_asked_gets_the_first_piece_when_the_build_is_done(tmp_path: Path) -> None:
    async def test() -> None:
        source = Source(tmp_path, content(3 * PIECE_BYTES))
        for peer in (2, 3, 2):
            source.ask(peer=peer, first_slot=31)
        assert source.source.holds_after == 30, "the log that the copy needs is kept meanwhile"
        assert not source.sent
        assert sorted(await source.answers()) == [(2, "1-1-1", 0), (3, "1-1-1", 0)]
        assert source.copies == 1 and source.source.holds_after == THROUGH
        await source.source.close()
        assert source.source.holds_after is None

    run(test())


def test_a_snapshot_that_the_log_has_left_behind_is_built_anew(tmp_path: Path) -> None:
    async def test() -> None:
        source = Source(tmp_path, content(3 * PIECE_BYTES))
        source.ask()
        assert await source.answers() == [(2, "1-1-1", 0)]
        source.ask(peer=3, first_slot=THROUGH + 1)
        assert await source.answers() == [(3, "1-1-1", 0)], "the log goes on right after it"
        source.ask("1-1-1", PIECE_BYTES, first_slot=THROUGH + 2)
        assert await source.answers() == [(2, "1-1-1", PIECE_BYTES)], "who has begun may finish"
        source.ask(peer=3, first_slot=THROUGH + 2)
        assert await source.answers() == [(3, "1-1-2", 0)]
        await source.source.close()

    run(test())


def test_an_idle_snapshot_is_removed(tmp_path: Path) -> None:
    async def test() -> None:
        source = Source(tmp_path, content(10))
        source.ask()
        await source.answers()
        for _ in range(2):
            for _ in range(IDLE_TICKS):
                source.source.tick()
            assert source.path.exists() and source.source.holds_after == THROUGH
            source.ask("1-1-1")
        assert len(await source.answers()) == 2
        for _ in range(IDLE_TICKS + 1):
            source.source.tick()
        assert not source.path.exists()
        source.ask("1-1-1", 5)
        assert await source.answers() == [(2, "1-1-2", 0)]
        await source.source.close()

    run(test())


def test_a_build_that_fails_may_be_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        source = Source(tmp_path, content(10))
        source.fails = OSError("disk full")
        source.ask()
        assert await source.answers() == []
        assert source.source.holds_after is None and "disk full" in source.events.getvalue()
        source.fails = None
        source.ask(peer=3)
        assert (3, "1-1-2", 0) in await source.answers()
        await source.source.close()

    run(test())


def test_a_laggard_that_hears_nothing_lets_go(tmp_path: Path) -> None:
    async def test() -> None:
        sink = Sink(tmp_path)
        sink.sink.start(1)
        for _ in range(GIVE_UP_TICKS - 1):
            sink.sink.tick()
        assert sink.sink.active and len(sink.sent) > 1, "it asked again"
        sink.sink.tick()
        assert not sink.sink.active and sink.sink.start(1)

    run(test())


def test_pieces_that_were_not_asked_for_are_ignored(tmp_path: Path) -> None:
    async def test() -> None:
        sink = Sink(tmp_path)
        piece = SnapshotPiece("x", 9, 0, 4, bytes(16), b"four")
        sink.sink.on_piece(1, piece)
        sink.sink.start(1)
        sink.sink.on_piece(3, piece)
        sink.sink.on_piece(1, msgspec.structs.replace(piece, offset=2, data=b"ur"))
        await background()
        assert sink.sink.active and not sink.path.exists() and len(sink.sent) == 1
        await sink.sink.close()

    run(test())


def test_the_log_is_held_until_the_receiver_is_past_it(tmp_path: Path) -> None:
    """Installing may take longer than an idle snapshot is kept; then the log is caught up with."""

    async def test() -> None:
        source = Source(tmp_path, content(10))
        source.ask()
        await source.answers()
        for _ in range(IDLE_TICKS + 1):
            source.source.tick()
        assert not source.path.exists() and source.source.holds_after == THROUGH
        for reached in (THROUGH - 5, THROUGH + 10, THROUGH + 20):
            source.progress[2] = reached
            for _ in range(FOLLOW_TICKS - IDLE_TICKS - 2):
                source.source.tick()
            assert source.source.holds_after == max(reached, THROUGH)
        for _ in range(FOLLOW_TICKS + 1):
            source.source.tick()
        assert source.source.holds_after is None, "but not for one that has died"
        await source.source.close()

    run(test())


def test_a_snapshot_that_the_log_overtakes_is_told_once(tmp_path: Path) -> None:
    async def test() -> None:
        source = Source(tmp_path, content(3 * PIECE_BYTES))
        source.ask()
        await source.answers()
        for piece in (1, 2):
            source.ask("1-1-1", piece * PIECE_BYTES, first_slot=THROUGH + 2)
        assert source.events.getvalue().count("snapshot overtaken") == 1
        assert "log-tail-bytes" in source.events.getvalue()
        await source.source.close()

    run(test())


class FullFile:
    """A file on a disk without room for a snapshot."""

    def require_room(self, size: int) -> None:
        raise OSError(28, f"no room for {size}")

    def close(self) -> None:
        """Nothing is held."""


def test_a_full_disk_is_asked_for_rarely_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes of a laggard that the leader sends to a snapshot with every tick."""

    async def test() -> None:
        sink = Sink(tmp_path)
        piece = SnapshotPiece("x", 9, 0, 4, bytes(16), b"four")
        real = SYSTEM_DISK.create
        monkeypatch.setattr(type(SYSTEM_DISK), "create", lambda *_: FullFile())
        for tick in range(24_000):
            if sink.sink.start(1):
                sink.sink.on_piece(1, piece)
            assert "no room for " in sink.sink.why_behind, tick
            sink.sink.tick()
        assert len(sink.sent) <= 24_000 / PAUSE_TICKS[1] + 5
        assert sink.events.getvalue().count("snapshot not received") == 1
        monkeypatch.setattr(type(SYSTEM_DISK), "create", lambda _, path: real(path))
        while not sink.sink.start(1):
            sink.sink.tick()
        checksum = hashlib.blake2b(b"four", digest_size=16).digest()
        sink.sink.on_piece(1, msgspec.structs.replace(piece, checksum=checksum))
        await background()
        assert sink.installed == [(b"four", 9)] and sink.sink.why_behind == ""
        assert sink.events.getvalue().count("snapshot trouble over") == 1
        await sink.sink.close()

    run(test())


def test_room_is_asked_for_before_a_byte_is_written(tmp_path: Path) -> None:
    file = SYSTEM_DISK.create(tmp_path / "file")
    file.require_room(1)
    with pytest.raises(OSError, match=r"bytes are needed, and [0-9]+ are free"):
        file.require_room(1 << 60)
    file.close()
