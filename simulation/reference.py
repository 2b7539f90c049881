"""What the store must hold: the log that was really chosen, applied by the simplest possible means.

Built from the results of the first replica that applies a slot. That the others agree is the
digests' business; that the results make sense is judged here.
"""

from bisect import bisect_right
from typing import NamedTuple

from kvstore.command import (
    Bundle,
    Command,
    Compact,
    Compacted,
    Delete,
    Deleted,
    Once,
    Put,
    Result,
    Written,
)


class Change(NamedTuple):
    """One revision: `value` is None for a deletion."""

    revision: int
    key: bytes
    value: bytes | None


class Reference:
    """Every revision ever made, in order, in memory."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.revision = 1
        self.compacted_revision = 0
        self._by_key: dict[bytes, list[Change]] = {}
        self._writes: dict[bytes, int] = {}

    def apply(self, bundle: Bundle, results: list[Result]) -> str:
        """Take the results of one bundle; a complaint, or ""."""
        for command, result in zip(bundle.commands, results, strict=True):
            if complaint := self._apply(command, result):
                return complaint
        return ""

    def _apply(self, command: Command, result: Result) -> str:
        change: Change | None = None
        match command.command if isinstance(command, Once) else command, result:
            case Put(key, value), Written(revision):
                change = Change(revision, key, value)
            case Delete(key), Deleted(revision, 1):
                change = Change(revision, key, None)
            case Compact(), Compacted(revision):
                self.compacted_revision = revision
        if change is None:
            return ""
        if isinstance(command, Once) and change.revision <= self.revision:
            return self._answered_again(change)
        return self._add(change)

    def _answered_again(self, change: Change) -> str:
        if self.at(change.revision) == change:
            return ""
        return f"a retry is told of revision {change.revision}, which is not that write"

    def _add(self, change: Change) -> str:
        if change.value is not None:
            before = self._writes.setdefault(change.value, change.revision)
            if before != change.revision:
                value = change.value.decode(errors="replace")
                return f"{value} was written at revision {before} and again at {change.revision}"
        if change.revision != self.revision + 1:
            return f"revision {change.revision} follows revision {self.revision}"
        self.revision = change.revision
        self.changes.append(change)
        self._by_key.setdefault(change.key, []).append(change)
        return ""

    def at(self, revision: int) -> Change | None:
        """What happened at `revision`."""
        return self.changes[revision - 2] if 2 <= revision <= self.revision else None

    def get(self, key: bytes, revision: int) -> Change | None:
        """What `key` held as of `revision`; None if it did not exist."""
        changes = self._by_key.get(key, [])
        position = bisect_right(changes, revision, key=lambda change: change.revision)
        found = changes[position - 1] if position else None
        return found if found is not None and found.value is not None else None

    def range(self, start: bytes, end: bytes | None, revision: int) -> list[Change]:
        """All keys with start <= key < end as of `revision`, in key order."""
        found = []
        for key in sorted(self._by_key):
            if start <= key and (end is None or key < end):
                change = self.get(key, revision)
                if change is not None:
                    found.append(change)
        return found
