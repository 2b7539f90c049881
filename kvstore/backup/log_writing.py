"""Writes the change log of a continuous backup: short pieces soon, longer ones in their place.

Each piece is durable before anything counts as kept, and those that a longer one replaces go only
after that is durable. So whatever ends this process, the log has no hole.
"""

import time
from collections.abc import Callable

from kvstore.backup.catalogue import PieceName
from kvstore.backup.change_logs import LoggedChange, LoggedEvent, decode_piece, encode_piece
from kvstore.backup.targets import BackupTarget
from kvstore.client import Change
from kvstore.errors import BackupError

PIECE_BYTES_MAX = 1 << 20
"""A piece is written once so much is waiting."""
SHORT_PIECES_MAX = 64
"""So many pieces become one."""
SHORT_BYTES = 1 << 20
"""A piece below this is short."""


def logged(change: Change, time_ms: int) -> LoggedChange:
    """What the log says of a change."""
    events = (
        LoggedEvent(event.key)
        if event.deleted
        else LoggedEvent(
            event.key,
            event.entry.value,
            event.entry.create_revision,
            event.entry.version,
            event.entry.lease,
        )
        for event in change.events
    )
    return LoggedChange(change.revision, time_ms, tuple(events))


class ChangeLogWriter:
    """Goes on after revision `last`."""

    def __init__(
        self,
        target: BackupTarget,
        cluster_id: str,
        last: int,
        clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._target = target
        self._cluster_id = cluster_id
        self._clock_ms = clock_ms
        self._time_ms = 0
        self._waiting: list[LoggedChange] = []
        self._short: list[PieceName] = []
        self.waiting_bytes = 0
        self.heard = last
        """The last revision that was added."""
        self.kept = last
        """The last revision that is durable."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether it is time to write."""
        return self.waiting_bytes >= PIECE_BYTES_MAX

    def add(self, change: Change) -> None:
        """The next change. Raises BackupError if a revision is missing before it."""
        if change.revision != self.heard + 1:
            raise BackupError(
                f"after revision {self.heard} came {change.revision}: what is between is missing"
            )
        self._time_ms = max(self._time_ms, self._clock_ms())
        self._waiting.append(logged(change, self._time_ms))
        self.waiting_bytes += 64 + sum(len(e.key) + len(e.value) for e in change.events)
        self.heard = change.revision

    def write(self) -> None:
        """Make durable what was added. Runs on any thread, while nothing is added. Raises OSError,
        BackupError; then it can be tried again."""
        if not self._waiting:
            return
        data = encode_piece(self._cluster_id, self._waiting)
        piece = PieceName(self._waiting[0].revision, self._waiting[-1].revision)
        self._target.write(piece.name, data)
        self._waiting, self.waiting_bytes, self.kept = [], 0, piece.last
        if len(data) < SHORT_BYTES:
            self._short.append(piece)
        else:
            self._short.clear()  # what is put together lies side by side
        if len(self._short) >= SHORT_PIECES_MAX:
            self._put_together()

    def _put_together(self) -> None:
        pieces = self._short
        changes: list[LoggedChange] = []
        for piece in pieces:
            found = decode_piece(self._target.read(piece.name), piece.name)
            changes += found.changes
        whole = PieceName(pieces[0].first, pieces[-1].last)
        data = encode_piece(self._cluster_id, changes)
        decode_piece(data, whole.name)  # nothing is removed for what cannot be read
        self._target.write(whole.name, data)
        for piece in pieces:
            self._target.remove(piece.name)
        self._short = [whole] if len(data) < SHORT_BYTES else []

    def skip_to(self, revision: int) -> None:
        """There is a hole: the log goes on after a new base of that revision."""
        self._waiting, self.waiting_bytes = [], 0
        self.heard = self.kept = revision
        self._short.clear()
