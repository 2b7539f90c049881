"""How long this node has known no leader, for streams and waiters that must not be silent then.

A node that is cut off applies nothing, so whoever watches or waits there hears nothing, and cannot
tell that from a store in which nothing happens. After a few election time-outs they are told, and
go elsewhere. They are told in groups, one in each tick: ten thousand streams that end at once would
hold the loop. Those whose turn has not come when a leader is found go on as if nothing had been.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from kvstore.errors import NoQuorum
from kvstore.event_log import EventLog
from paxos.ballot import NodeId

ELECTION_TIMEOUTS = 3
"""So many without a leader are too many, as in etcd."""
TOLD_PER_TICK = 250


class KnowsLeader(Protocol):
    """What is asked of the consensus node."""

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""


class LeaderAbsence:
    """Counts ticks without a leader. All calls belong to the loop's thread."""

    def __init__(
        self, node: KnowsLeader, events: EventLog, *, election_ticks: int, tick_s: float
    ) -> None:
        self._node = node
        self._events = events
        self._limit_ticks = ELECTION_TIMEOUTS * election_ticks
        self._tick_s = tick_s
        self._ticks = 0
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._told = 0

    @property
    def leaderless(self) -> bool:
        """Whether no leader is known at this moment."""
        return self._node.leader is None

    @property
    def lasts(self) -> bool:
        """Whether none has been for a few election time-outs."""
        return self._ticks >= self._limit_ticks

    def error(self) -> NoQuorum:
        """What those hear who must not wait here."""
        return NoQuorum(
            f"this node has known no leader for {self._ticks * self._tick_s:.1f} s: ask another one"
        )

    @contextmanager
    def noticed(self) -> Iterator["asyncio.Future[None]"]:
        """A future that is done once the absence lasts, in the turn of whoever waits for it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        try:
            yield future
        finally:
            self._waiting.pop(future, None)

    def tick(self) -> None:
        """One tick went by, whether the cluster has formed or not."""
        if not self.leaderless:
            if self._told:
                self._events.event("leader known again", ended=self._told)
            self._ticks = self._told = 0
            return
        self._ticks += 1
        if not self.lasts or not self._waiting:
            return
        if not self._told:
            self._events.event(
                "no leader for long, streams and waiters are sent elsewhere",
                waiting=len(self._waiting),
            )
        for future in list(self._waiting)[:TOLD_PER_TICK]:
            del self._waiting[future]
            self._told += 1
            if not future.done():
                future.set_result(None)
