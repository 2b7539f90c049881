"""The change log: no hole whenever its writer ends, and every flip is noticed."""

import random
from pathlib import Path

import pytest

from kvstore.backup import log_writing
from kvstore.backup.catalogue import Base, Catalogue, PieceName
from kvstore.backup.change_logs import (
    LoggedChange,
    LoggedEvent,
    decode_piece,
    encode_piece,
)
from kvstore.backup.log_writing import ChangeLogWriter
from kvstore.backup.targets import DirectoryTarget
from kvstore.client import Change, Entry, Event
from kvstore.errors import BackupError


def change(revision: int, size: int = 10) -> Change:
    key = b"k%d" % (revision % 7)
    put = Event(False, Entry(key, bytes(size), revision, revision, 1, 9))
    gone = Event(True, Entry(b"\xff" + key, b"", 0, revision, 0))
    return Change(revision, (put, gone))


def logged_change(revision: int) -> LoggedChange:
    events = LoggedEvent(b"a", b"v" * 40, 1, 2, 7), LoggedEvent(b"b")
    return LoggedChange(revision, 1000 + revision, events)


def test_a_piece_comes_back() -> None:
    changes = [logged_change(revision) for revision in range(5, 90)]
    found = decode_piece(encode_piece("c", changes), "x")
    assert found.changes == changes
    assert (found.header.first, found.header.last, found.header.first_ms) == (5, 89, 1005)
    put, gone = found.changes[0].key_changes()
    assert put.item is not None and put.item.mod_revision == 5 and gone.item is None


def test_every_flip_and_cut_of_a_piece_is_noticed() -> None:
    data = encode_piece("c", [logged_change(revision) for revision in range(5, 9)])
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        for broken in (bytes(flipped), data[:at]):
            with pytest.raises(BackupError):
                decode_piece(broken, "x")


def test_a_piece_with_a_gap_is_refused() -> None:
    with pytest.raises(BackupError, match="does not hold all"):
        decode_piece(encode_piece("c", [logged_change(5), logged_change(7)]), "x")


def held(target: DirectoryTarget, after: int) -> list[int]:
    """The revisions that can be read on from a base."""
    found: list[int] = []
    for piece in Catalogue(target.names()).chain(after):
        for each in decode_piece(target.read(piece.name), piece.name).changes:
            if each.revision > (found[-1] if found else after):
                found.append(each.revision)
    return found


def test_a_missing_revision_is_refused(tmp_path: Path) -> None:
    writer = ChangeLogWriter(DirectoryTarget(tmp_path), "c", 10)
    writer.add(change(11))
    with pytest.raises(BackupError, match="after revision 11 came 13"):
        writer.add(change(13))


def test_many_pieces_become_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writing, "SHORT_PIECES_MAX", 4)
    monkeypatch.setattr(log_writing, "SHORT_BYTES", 4000)
    target = DirectoryTarget(tmp_path)
    writer = ChangeLogWriter(target, "c", 10)
    for revision in range(11, 100):
        writer.add(change(revision, random.Random(revision).randrange(200)))
        writer.write()
    assert held(target, 10) == list(range(11, 100))
    assert len(target.names()) < 30


class DyingTarget(DirectoryTarget):
    """Ends its process, as it were, at one of its changes."""

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__(path)
        self.steps = steps

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise KeyboardInterrupt

    def write(self, name: str, data: bytes) -> None:
        self._step()
        super().write(name, data)
        self._step()

    def remove(self, name: str) -> None:
        self._step()
        super().remove(name)


def test_whenever_the_writer_ends_what_counts_as_kept_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of putting pieces together; and the next one goes on without a hole."""
    monkeypatch.setattr(log_writing, "SHORT_PIECES_MAX", 3)
    for steps in range(16):
        path = tmp_path / str(steps)
        kept = 10
        for alive in (steps, 5, 1000):
            target = DyingTarget(path, alive)
            last = Catalogue(target.names()).reaches(Base(10, 0))
            assert last >= kept, "what counted as kept is gone"
            writer = ChangeLogWriter(target, "c", last)
            try:
                for revision in range(last + 1, last + 9):
                    writer.add(change(revision))
                    writer.write()
            except KeyboardInterrupt:
                pass
            kept = writer.kept
        found = held(DirectoryTarget(path), 10)
        assert found == list(range(11, kept + 1))


def test_a_chain_takes_what_reaches_furthest_and_stops_at_a_hole() -> None:
    pieces = [(11, 12), (13, 14), (11, 20), (19, 25), (27, 30)]
    catalogue = Catalogue([*(PieceName(*piece).name for piece in pieces), "else", "base-1.kvb"])
    assert [tuple(piece) for piece in catalogue.chain(10)] == [(11, 20), (19, 25)]
    assert catalogue.reaches(Base(26, 0)) == 30 and catalogue.reaches(Base(9, 0)) == 9
