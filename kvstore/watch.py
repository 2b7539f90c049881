"""The change feed: every change of this replica's state, in order of revision, to whoever watches.

A watcher pulls. Until it does, it costs nothing but its position: recent changes are kept once for
all, in a bounded ring, and older ones are read from the history that compaction has left. So a slow
watcher neither grows memory nor slows writes; one that compaction overtakes is cut off, and told
from which revision it may go on.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import islice

from kvstore.errors import Overloaded, RevisionCompacted
from kvstore.mvcc import Event
from kvstore.operation import only
from kvstore.state_machine import StateMachine

RECENT_REVISIONS_MAX = 4096
RECENT_EVENTS_MAX = 16_384
WATCHERS_MAX = 10_000
REVISIONS_PER_READ = 1000
"""So much history is read in one go, between two turns of the loop."""


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that one revision changed, in the order of its transaction."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Interest:
    """Which events a watcher wants: keys with start <= key < end (None: no end)."""

    start: bytes
    end: bytes | None
    puts: bool = True
    deletes: bool = True

    def of(self, change: Change) -> Change | None:
        """The part of a change that is wanted, if any is."""
        start, end = self.start, self.end
        events = tuple(
            event
            for event in change.events
            if event.item.key >= start
            and (end is None or event.item.key < end)
            and (self.deletes if event.deleted else self.puts)
        )
        if len(events) == len(change.events):
            return change
        return Change(change.revision, events) if events else None

    @property
    def key(self) -> bytes | None:
        """The one key that is meant, if it is one."""
        return self.start if self.end == only(self.start) else None


class Watcher:
    """One watcher's position. `next_revision` is the first that it has not seen."""

    def __init__(self, feed: "Feed", interest: Interest, next_revision: int) -> None:
        self.interest = interest
        self.next_revision = next_revision
        self.woken: asyncio.Future[None] | None = None
        self._feed = feed

    @property
    def seen_revision(self) -> int:
        """Everything wanted up to here has been handed out."""
        return self._feed.revision if self.woken is not None else self.next_revision - 1

    async def next(self, revisions_max: int = REVISIONS_PER_READ) -> list[Change]:
        """The next wanted changes, each whole, at least one; waits for it.

        Raises RevisionCompacted if this watcher was too slow, or began too early.
        """
        while True:
            while self.next_revision <= self._feed.revision:
                found = self._feed.read(self, revisions_max)
                if found:
                    return found
                await asyncio.sleep(0)  # a long history without anything wanted
            await self._feed.wait(self)

    def close(self) -> None:
        """Nothing is kept for it any more."""
        self._feed.remove(self)


class Feed:
    """The watchers of one replica. All calls belong to the loop's thread."""

    def __init__(self, state: StateMachine) -> None:
        self._state = state
        self._recent: deque[Change] = deque()
        self._recent_events = 0
        self._watchers: dict[Watcher, None] = {}
        self._waiting: dict[Watcher, None] = {}
        self._waiting_by_key: dict[bytes, dict[Watcher, None]] = {}

    @property
    def revision(self) -> int:
        return self._state.revision

    @property
    def watchers(self) -> int:
        """How many there are."""
        return len(self._watchers)

    def watch(self, interest: Interest, first_revision: int = 0) -> Watcher:
        """Watch from `first_revision` on, which may be in the future; 0: from what comes next.

        Raises Overloaded at the bound, RevisionCompacted if the revision is gone.
        """
        if len(self._watchers) >= WATCHERS_MAX:
            raise Overloaded(f"{len(self._watchers)} watchers are here already")
        first = first_revision or self.revision + 1
        if first < self._state.compacted_revision:
            raise RevisionCompacted(first, self._state.compacted_revision)
        if not self._watchers:
            self._state.watch(self._on_change)
        watcher = Watcher(self, interest, first)
        self._watchers[watcher] = None
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """It ended. Removing it twice is fine."""
        self._watchers.pop(watcher, None)
        self._unwait(watcher)
        if not self._watchers:
            self._state.watch(None)
            self._forget()

    def reset(self) -> None:
        """A snapshot replaced the state: what it skipped is read from its history."""
        self._forget()
        for watcher in list(self._waiting):
            self._wake(watcher, watcher.next_revision)
        for watchers in list(self._waiting_by_key.values()):
            for watcher in list(watchers):
                self._wake(watcher, watcher.next_revision)

    # -- reading ----------------------------------------------------------------------------

    def read(self, watcher: Watcher, revisions_max: int) -> list[Change]:
        """The wanted changes among the next ones, and the position moves past what was looked at.

        Raises RevisionCompacted.
        """
        first, recent = watcher.next_revision, self._recent
        count = min(revisions_max, REVISIONS_PER_READ)
        if recent and recent[0].revision <= first:
            skip = first - recent[0].revision
            changes = list(islice(recent, skip, skip + count))
        else:
            changes = [Change(r, tuple(e)) for r, e in self._state.changes(first, count)]
        watcher.next_revision = min(first + count, self.revision + 1)
        wanted = map(watcher.interest.of, changes)
        return [change for change in wanted if change is not None]

    async def wait(self, watcher: Watcher) -> None:
        """Until something that `watcher` wants happens at its position or later."""
        watcher.woken = asyncio.get_running_loop().create_future()
        key = watcher.interest.key
        if key is None:
            self._waiting[watcher] = None
        else:
            self._waiting_by_key.setdefault(key, {})[watcher] = None
        try:
            await watcher.woken
        finally:
            if watcher.woken is not None:
                watcher.next_revision = max(watcher.next_revision, self.revision + 1)
            self._unwait(watcher)

    def _unwait(self, watcher: Watcher) -> None:
        watcher.woken = None
        self._waiting.pop(watcher, None)
        key = watcher.interest.key
        if key is not None and (watchers := self._waiting_by_key.get(key)) is not None:
            watchers.pop(watcher, None)
            if not watchers:
                del self._waiting_by_key[key]

    # -- what happens -----------------------------------------------------------------------

    def _on_change(self, revision: int, events: list[Event]) -> None:
        change = Change(revision, tuple(events))
        self._recent.append(change)
        self._recent_events += len(events)
        while (
            len(self._recent) > RECENT_REVISIONS_MAX or self._recent_events > RECENT_EVENTS_MAX
        ) and len(self._recent) > 1:
            self._recent_events -= len(self._recent.popleft().events)
        for watcher in [w for w in self._waiting if _wants(w, change)]:
            self._wake(watcher, revision)
        if self._waiting_by_key:
            for event in events:
                for watcher in list(self._waiting_by_key.get(event.item.key, ())):
                    if _wants(watcher, change):
                        self._wake(watcher, revision)

    def _wake(self, watcher: Watcher, revision: int) -> None:
        """It was waiting, so it has seen everything that it wants before `revision`."""
        woken = watcher.woken
        watcher.next_revision = max(watcher.next_revision, revision)
        self._unwait(watcher)
        if woken is not None and not woken.done():
            woken.set_result(None)

    def _forget(self) -> None:
        self._recent.clear()
        self._recent_events = 0


def _wants(watcher: Watcher, change: Change) -> bool:
    return change.revision >= watcher.next_revision and watcher.interest.of(change) is not None
