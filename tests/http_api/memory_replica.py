"""A replica of one, in memory: the real meaning of the commands, without consensus or disk.

It lets the HTTP tests run alone. Its switches bring about what is rare in a real cluster.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import NamedTuple

from kvstore.command import (
    BadRevision,
    Command,
    Compact,
    Compacted,
    Condition,
    Delete,
    Deleted,
    Mismatched,
    NotHeld,
    Once,
    Put,
    Result,
    Write,
    Written,
)
from kvstore.errors import RevisionCompacted, RevisionInFuture
from kvstore.mvcc import Page
from kvstore.operation import KeyValue


class MemoryState:
    """Every version of every key; None marks a deletion."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted_revision = 0
        self.versions: dict[bytes, list[tuple[int, KeyValue | None]]] = {}
        self.once: dict[bytes, tuple[Write, Result]] = {}

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        if revision > self.revision:
            raise RevisionInFuture(revision, self.revision)
        if 0 < revision < self.compacted_revision:
            raise RevisionCompacted(revision, self.compacted_revision)
        versions = self.versions.get(key)
        if versions is None:
            return None
        if not revision:
            return versions[-1][1]
        place = bisect_left(versions, (revision + 1,))
        return versions[place - 1][1] if place else None

    def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        revision: int = 0,
        limit: int,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Page:
        assert limit >= 1
        self.get(b"", revision)
        keys = [key for key in self.versions if key >= start and (end is None or key < end)]
        found = [self.get(key, revision) for key in sorted(keys, reverse=reverse)]
        items = [item for item in found if item is not None]
        if keys_only:
            items = [item._replace(value=b"") for item in items]
        return Page(items[:limit], len(items) > limit, revision or self.revision)

    def apply(self, command: Command) -> Result:
        if isinstance(command, Once):
            known = self.once.get(command.idempotency_key)
            if known is None:
                known = command.command, self.apply(command.command)
                self.once[command.idempotency_key] = known
            return known[1] if known[0] == command.command else Mismatched()
        if isinstance(command, Compact):
            if not self.compacted_revision < command.revision <= self.revision:
                return BadRevision(command.revision, self.compacted_revision, self.revision)
            self.compacted_revision = command.revision
            return Compacted(command.revision)
        return self._write(command)

    def _write(self, command: Put | Delete) -> Result:
        before = self.get(command.key)
        if not _holds(command.condition, before):
            return NotHeld(before.mod_revision if before else 0)
        if isinstance(command, Delete) and before is None:
            return Deleted(self.revision, 0)
        self.revision += 1
        versions = self.versions.setdefault(command.key, [])
        if isinstance(command, Delete):
            versions.append((self.revision, None))
            return Deleted(self.revision, 1)
        created = before.create_revision if before else self.revision
        version = before.version + 1 if before else 1
        after = KeyValue(command.key, command.value, created, self.revision, version, 0)
        versions.append((self.revision, after))
        return Written(self.revision, version, created)


def _holds(condition: Condition | None, before: KeyValue | None) -> bool:
    if condition is None:
        return True
    if condition.mod_revision == -1:
        return before is not None
    return condition.mod_revision == (before.mod_revision if before else 0)


class Member(NamedTuple):
    id: int
    peer_address: str
    client_address: str | None
    role: str | None
    connected: bool
    chosen_through: int | None
    lag: int | None


class Status(NamedTuple):
    revision: int
    compacted_revision: int
    ready: bool
    reason: str
    id: int = 1
    role: str = "leader"
    leader: int | None = 1
    ballot: str = "1.1"
    chosen_through: int = 7
    applied_through: int = 7
    checkpointed_through: int = 5
    log_first_slot: int = 1
    log_bytes: int = 4096
    digest: str = "00"
    cluster_id: str = "memory"
    incarnation: str = "1"
    members: tuple[Member, ...] = (
        Member(1, "127.0.0.1:1", "127.0.0.1:2", "leader", True, 7, 0),
        Member(2, "127.0.0.1:3", None, "follower", False, None, None),
    )


class MemoryReplica:
    """Set `fails_with` to make writes and barriers raise it, `reason` to be not ready."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.fails_with: Exception | None = None
        self.reason = ""
        self.timeouts: list[float] = []

    async def execute(self, command: Command, timeout_s: float) -> Result:
        self._maybe_fail(timeout_s)
        return self.state.apply(command)

    async def read_barrier(self, timeout_s: float) -> None:
        self._maybe_fail(timeout_s)

    def submit(self, command: Command, timeout_s: float) -> asyncio.Future[Result]:
        return asyncio.ensure_future(self.execute(command, timeout_s))

    def barrier(self, timeout_s: float) -> asyncio.Future[None]:
        return asyncio.ensure_future(self.read_barrier(timeout_s))

    def _maybe_fail(self, timeout_s: float) -> None:
        self.timeouts.append(timeout_s)
        if self.fails_with is not None:
            raise self.fails_with

    def status(self) -> Status:
        state = self.state
        return Status(state.revision, state.compacted_revision, not self.reason, self.reason)

    async def hand_over(self, to: int | None, timeout_s: float) -> int:
        self._maybe_fail(timeout_s)
        return to or 2
