"""The change feed: every change of this replica's state, in order of revision, to whoever watches.

A watcher pulls. Until it does, it costs nothing but its position: recent changes are kept once for
all, in a bounded ring, and older ones are read from the history that compaction has left. So a slow
watcher neither grows memory nor slows writes; one that compaction overtakes is cut off, and told
from which revision it may go on. What a write costs does not depend on how many watchers wait for
other keys, unless they want ranges that are not prefixes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from kvstore.errors import KvError, Overloaded, RevisionCompacted, Stopping
from kvstore.replica.interest import Interest, RevisionEvents, WaitingFor, change_bytes
from kvstore.state.mvcc import KeyEvent
from kvstore.state.state_machine import StateMachine

RECENT_REVISIONS_MAX = 4096
RECENT_BYTES_MAX = 16 << 20
WATCHERS_MAX = 10_000
REVISIONS_PER_READ = 1000
"""So many revisions are looked at in one go."""
EVENTS_PER_READ = 2000
"""Or the revisions that together have so many events, or one revision alone."""
WAKES_PER_TURN = 200
"""Watchers that go on in one turn of the loop; others follow in the next ones."""
HISTORY_REVISIONS_MAX = 200
"""So many are read from the history between two turns of the loop, for all watchers together."""


class Watcher:
    """One watcher's position. `next_revision` is the first that it has not seen."""

    def __init__(self, feed: "Feed", interest: Interest, next_revision: int) -> None:
        self.interest = interest
        self.next_revision = next_revision
        self.woken: asyncio.Future[None] | None = None
        self.closed = False
        self.check_right: Callable[[], None] | None = None
        """Raises if what is watched may not be seen any more; asked before anything is shown."""
        self._feed = feed

    @property
    def seen_revision(self) -> int:
        """Everything wanted up to here has been handed out."""
        current = self._feed.revision
        return current if self.woken is not None else min(self.next_revision - 1, current)

    @property
    def recent(self) -> bool:
        """Whether what comes next is still in memory, and need not be read from the history."""
        return self._feed.holds(self.next_revision)

    async def next(self, revisions_max: int = REVISIONS_PER_READ) -> list[RevisionEvents]:
        """The next wanted changes, each whole, at least one; waits for it. One call at a time; a
        call that is cancelled loses nothing.

        Raises RevisionCompacted if this watcher was too slow, or began too early, and Stopping
        if it was closed, or if the node stops.
        """
        while True:
            await self.ready()
            if found := await self.take(revisions_max):
                return found

    async def ready(self) -> None:
        """Until there are changes to look at; nothing is read yet. Who waits for its turn to send
        them holds nothing meanwhile but its position. Raises like `next`."""
        feed = self._feed
        feed.check(self)
        while self.next_revision > feed.revision:
            await feed.wait(self)
            feed.check(self)

    async def take(self, revisions_max: int = REVISIONS_PER_READ) -> list[RevisionEvents]:
        """The wanted ones of the next changes, once `ready`; perhaps none. Raises like `next`, and
        what `check_right` raises."""
        feed = self._feed
        feed.check(self)
        if self.check_right is not None:
            self.check_right()
        if feed.holds(self.next_revision):
            return feed.read(self, revisions_max)
        return await feed.read_history(self, revisions_max)

    def close(self) -> None:
        """Nothing is kept for it any more."""
        self._feed.remove(self)


class Feed:
    """The watchers of one replica. All calls belong to the loop's thread."""

    def __init__(self, state: StateMachine) -> None:
        self._state = state
        self._recent: deque[RevisionEvents] = deque()
        self._recent_bytes = 0
        self._watchers: dict[Watcher, None] = {}
        self._waiting: WaitingFor[Watcher] = WaitingFor()
        self._told_through = 0
        self._woken = 0
        self._to_wake: deque[asyncio.Future[None]] = deque()
        self._reading = asyncio.Lock()
        self._failure: KvError | None = None

    @property
    def revision(self) -> int:
        return self._state.revision

    @property
    def watchers(self) -> int:
        """How many there are."""
        return len(self._watchers)

    def watch(self, interest: Interest, first_revision: int = 0) -> Watcher:
        """Watch from `first_revision` on, which may be in the future; 0: from what comes next.

        Raises Overloaded at the bound, RevisionCompacted if the revision is gone, Stopping.
        """
        if self._failure is not None:
            raise self._failure
        if len(self._watchers) >= WATCHERS_MAX:
            raise Overloaded(f"{len(self._watchers)} watchers are here already")
        first = first_revision or self.revision + 1
        if first < self._state.compacted_revision:
            raise RevisionCompacted(first, self._state.compacted_revision)
        if not self._watchers:
            self._told_through = self.revision
            self._state.watch(self._on_change)
        watcher = Watcher(self, interest, first)
        self._watchers[watcher] = None
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """It ended. Removing it twice is fine."""
        if watcher.closed:
            return
        watcher.closed = True
        self._watchers.pop(watcher, None)
        self._wake(watcher, watcher.next_revision)
        if not self._watchers:
            self._state.watch(None)
            self._forget()

    def reset(self) -> None:
        """A snapshot replaced the state: what it skipped is read from its history."""
        self._forget()
        for watcher in self._waiting.all():
            self._wake(watcher, self._told_through + 1)
        self._told_through = self.revision

    def fail(self, error: KvError) -> None:
        """The node stops: whoever watches is told."""
        self._failure = error
        for watcher in self._waiting.all():
            self._wake(watcher, watcher.next_revision)

    def check(self, watcher: Watcher) -> None:
        """Raises Stopping if `watcher` was closed, or if the node stops."""
        if self._failure is not None:
            raise self._failure
        if watcher.closed:
            raise Stopping("this watch has been closed")

    # -- reading ----------------------------------------------------------------------------

    def holds(self, revision: int) -> bool:
        """Whether `revision` and all after it are in memory."""
        return bool(self._recent) and self._recent[0].revision <= revision

    def read(
        self, watcher: Watcher, revisions_max: int = REVISIONS_PER_READ
    ) -> list[RevisionEvents]:
        """The wanted changes among the next ones, and the position moves past what was looked at.

        Raises RevisionCompacted.
        """
        first = watcher.next_revision
        if self.holds(first):
            skip = first - self._recent[0].revision
            count = min(revisions_max, REVISIONS_PER_READ)
            changes = _few(islice(self._recent, skip, skip + count))
        else:
            count = min(revisions_max, HISTORY_REVISIONS_MAX)
            changes = [RevisionEvents(r, tuple(e)) for r, e in self._state.changes(first, count)]
        # Revision 1 is the empty store: nothing happened there.
        past = changes[-1].revision + 1 if changes else first + count
        watcher.next_revision = min(past, self.revision + 1)
        wanted = map(watcher.interest.of, changes)
        return [change for change in wanted if change is not None]

    async def read_history(self, watcher: Watcher, revisions_max: int) -> list[RevisionEvents]:
        """`read` for what is no longer in memory, in turn with the other watchers: however many
        catch up, the loop goes on between two reads. Raises RevisionCompacted."""
        async with self._reading:
            await asyncio.sleep(0)
            return [] if watcher.closed else self.read(watcher, revisions_max)

    async def wait(self, watcher: Watcher) -> None:
        """Until something that `watcher` wants happens at its position or later."""
        watcher.woken = asyncio.get_running_loop().create_future()
        self._waiting.add(watcher)
        try:
            await watcher.woken
        finally:
            if watcher.woken is not None:  # cancelled, having seen everything until now
                self._wake(watcher, self.revision + 1)

    # -- what happens -----------------------------------------------------------------------

    def _on_change(self, revision: int, events: list[KeyEvent]) -> None:
        change = RevisionEvents(revision, tuple(events))
        self._told_through = revision
        self._recent.append(change)
        self._recent_bytes += change_bytes(change)
        while (
            len(self._recent) > RECENT_REVISIONS_MAX or self._recent_bytes > RECENT_BYTES_MAX
        ) and len(self._recent) > 1:
            self._recent_bytes -= change_bytes(self._recent.popleft())
        for watcher in self._waiting.of(change):
            self._wake(watcher, revision)

    def _wake(self, watcher: Watcher, revision: int) -> None:
        """If it waits, it has seen everything that it wants before `revision`."""
        woken = watcher.woken
        if woken is None:
            return
        watcher.next_revision = max(watcher.next_revision, revision)
        watcher.woken = None
        self._waiting.discard(watcher)
        if self._woken < WAKES_PER_TURN:
            if not self._woken:
                woken.get_loop().call_soon(self._next_turn)
            self._woken += 1
            _go_on(woken)
        else:
            self._to_wake.append(woken)

    def _next_turn(self) -> None:
        """Those whose turn has not come yet go on, so many at a time."""
        waiting = self._to_wake
        self._woken = min(len(waiting), WAKES_PER_TURN)
        for _ in range(self._woken):
            _go_on(waiting.popleft())
        if self._woken:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _forget(self) -> None:
        self._recent.clear()
        self._recent_bytes = 0


def _few(changes: Iterable[RevisionEvents]) -> list[RevisionEvents]:
    """The first of them, with EVENTS_PER_READ events or not many more."""
    found: list[RevisionEvents] = []
    events = 0
    for change in changes:
        found.append(change)
        events += len(change.events)
        if events >= EVENTS_PER_READ:
            break
    return found


def _go_on(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
