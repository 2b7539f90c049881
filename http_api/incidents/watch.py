"""Notices that something happened to this node's consensus, and keeps what it recorded of it.

It looks once a second: at who leads, at the links, at whether what waits gets on, and at how late
it is itself. A moment later the recording is kept, so that what came next is in it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from http_api.incidents.kept import KeptIncidents
from kvstore.replica.recorder import Recorder

LOOK_S = 1.0
SETTLE_S = 1.0
"""After a cause the recording is kept so much later."""
GAP_S = 10.0
"""No two are kept within less: what happens meanwhile is in the next one."""
AWAY_S = 3.0
"""So long without a link a member counts as failed."""
STALL_S = 3.0
"""So long something waited, and nothing was applied."""
LATE_S = 2.0
"""So late for its look this process stood still."""
CAUSES_MAX = 8
CAUSE_CHARS_MAX = 300
_log = logging.getLogger("http_api")


class Watched(Protocol):
    """The replica's metrics, as far as they are looked at."""

    def gauges(self) -> dict[str, float]:
        """Numbers of now."""

    def peers(self) -> Mapping[int, tuple[bool, float]]:
        """Of each peer: whether there is a link to it, and how long it has been silent."""


class Noticing:
    """What is new since the last look, in words."""

    def __init__(self, recorder: Recorder, watched: Watched) -> None:
        self._recorder = recorder
        self._watched = watched
        self._told = recorder.leaders.changes[-1] if recorder.leaders.changes else None
        self._led = any(change.leader for change in recorder.leaders.changes)
        self._up: set[int] = set()
        self._down_since_s: dict[int, float] = {}
        self._applied = -1.0
        self._waits_since_s: float | None = None
        self._looked_s: float | None = None

    def look(self, now_s: float) -> list[str]:
        """At `now_s` of the monotonic clock."""
        found = [*self._late(now_s), *self._leaders(), *self._links(now_s), *self._stall(now_s)]
        self._looked_s = now_s
        return found

    def _late(self, now_s: float) -> Iterator[str]:
        if self._looked_s is not None and now_s - self._looked_s > LOOK_S + LATE_S:
            yield f"this process stood still for {now_s - self._looked_s - LOOK_S:.1f} s"

    def _leaders(self) -> Iterator[str]:
        changes = self._recorder.changes
        known = changes.index(self._told) + 1 if self._told in changes else 0
        for change in changes[known:]:
            if not self._led:  # the first one is no change
                self._led = change.leader is not None
            elif change.leader is None:
                yield f"no leader: {change.reason}"
            else:
                yield f"node {change.leader} leads: {change.reason}"
        self._told = changes[-1] if changes else None

    def _links(self, now_s: float) -> Iterator[str]:
        peers = self._watched.peers()
        for peer, (up, _) in peers.items():
            if up:
                self._up.add(peer)
                self._down_since_s.pop(peer, None)
                continue
            away_s = now_s - self._down_since_s.setdefault(peer, now_s)
            if peer in self._up and away_s >= AWAY_S:
                self._up.discard(peer)
                yield f"no link to node {peer} for {away_s:.0f} s"
        self._up &= peers.keys()

    def _stall(self, now_s: float) -> Iterator[str]:
        gauges = self._watched.gauges()
        waiting, applied = gauges["writes_waiting"], gauges["applied_through"]
        if not waiting or applied != self._applied or self._waits_since_s is None:
            self._waits_since_s = now_s if waiting else None
        elif now_s - self._waits_since_s >= STALL_S:
            self._waits_since_s = now_s  # it is told again when that has lasted as long again
            yield f"{waiting:.0f} writes wait, and nothing was applied for {STALL_S:.0f} s"
        self._applied = applied


class IncidentWatch:
    """Looks until it is stopped. `record()` makes the recording."""

    def __init__(
        self,
        kept: KeptIncidents,
        recorder: Recorder,
        watched: Watched,
        record: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._kept = kept
        self._clock = recorder.clock
        self._noticing = Noticing(recorder, watched)
        self._record = record
        self._causes: list[str] = []
        self._due_s = 0.0
        self._not_before_s = float("-inf")
        self._failing = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the running loop; does nothing if nothing is to be kept."""
        if self._kept.most:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """It has ended. What was noticed and is not kept yet is kept now."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._causes:
            await self._keep()

    async def _run(self) -> None:
        await self._try(self._kept.load)
        while True:
            now_s = self._clock.monotonic()
            for cause in self._noticing.look(now_s):
                if not self._causes:
                    self._due_s = max(now_s + SETTLE_S, self._not_before_s)
                if len(self._causes) < CAUSES_MAX:
                    self._causes.append(cause[:CAUSE_CHARS_MAX])
            if self._causes and now_s >= self._due_s:
                await self._keep()
            await asyncio.sleep(LOOK_S)

    async def _keep(self) -> None:
        causes, self._causes = self._causes, []
        self._not_before_s = self._clock.monotonic() + GAP_S
        at_ms, recording = self._clock.wall_ms(), await self._record()
        await self._try(self._kept.add, at_ms, causes, recording)

    async def _try(self, do: Callable[..., None], *facts: object) -> None:
        """In a thread. A trouble of the disk is said when it begins and ends, and stops nothing."""
        try:
            await asyncio.to_thread(do, *facts)
        except OSError as error:
            if not self._failing:
                _log.warning("incidents cannot be kept: %s", error)
            self._failing = str(error)
            return
        if self._failing:
            self._failing = ""
            _log.warning("incidents can be kept again")
