"""What a continuous backup consists of, by the names of its files: bases, and the change log."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kvstore.errors import BackupError

_BASE = re.compile(r"base-(\d{20})-(\d{15})\.kvb")
_PIECE = re.compile(r"changes-(\d{20})-(\d{20})\.kvc")


class Base(NamedTuple):
    """A whole backup, and when it was made."""

    revision: int
    created_ms: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"base-{self.revision:020}-{self.created_ms:015}.kvb"


class PieceName(NamedTuple):
    """A piece of the change log: revisions `first` to `last`."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"changes-{self.first:020}-{self.last:020}.kvc"


class Catalogue:
    """The files of one continuous backup. Others are left alone."""

    def __init__(self, names: Iterable[str]) -> None:
        self.bases: list[Base] = []
        self.pieces: list[PieceName] = []
        for name in sorted(names):
            if match := _BASE.fullmatch(name):
                self.bases.append(Base(int(match[1]), int(match[2])))
            elif match := _PIECE.fullmatch(name):
                self.pieces.append(PieceName(int(match[1]), int(match[2])))

    def chain(self, after: int) -> Iterator[PieceName]:
        """Pieces that go on after revision `after`, each where the one before ends, the furthest
        reaching first; some of the first revisions of a piece may be passed already."""
        at = after
        while True:
            best = max(
                (piece for piece in self.pieces if piece.first <= at + 1 and piece.last > at),
                key=lambda piece: piece.last,
                default=None,
            )
            if best is None:
                return
            yield best
            at = best.last

    def reaches(self, base: Base) -> int:
        """The last revision to which the change log goes on from `base` without a hole."""
        last = base.revision
        for piece in self.chain(base.revision):
            last = piece.last
        return last

    def base_for(self, revision: int) -> Base:
        """From which to start for `revision`. Raises BackupError."""
        for base in reversed(self.bases):
            if base.revision <= revision <= self.reaches(base):
                return base
        raise BackupError(f"revision {revision} is not in this backup: {self.extent()}")

    def base_at(self, time_ms: int) -> Base:
        """From which to start for a moment. Raises BackupError."""
        for base in reversed(self.bases):
            if base.created_ms <= time_ms:
                return base
        raise BackupError(f"that moment is before the first base of this backup: {self.extent()}")

    @property
    def newest(self) -> Base:
        """The last base. Raises BackupError if there is none."""
        if not self.bases:
            raise BackupError("there is no base in this backup")
        return self.bases[-1]

    def extent(self) -> str:
        """Which revisions can be restored, for messages."""
        spans: list[list[int]] = []
        for base in self.bases:
            if spans and base.revision <= spans[-1][1]:
                spans[-1][1] = max(spans[-1][1], self.reaches(base))
            else:
                spans.append([base.revision, self.reaches(base)])
        return (
            "it holds revisions " + ", ".join(f"{a} to {b}" for a, b in spans)
            if spans
            else ("it holds nothing")
        )
