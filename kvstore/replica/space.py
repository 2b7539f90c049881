"""Whether there is room for more: what the state may take by `space-quota-bytes`, and what the file
system has left. Beyond, this node refuses its clients' writes that grow, and goes on deleting.

A node judges by what it sees itself, and before anything is proposed: that is no part of what the
replicas must agree on (docs/decisions/0045-room.md).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from kvstore.config import Config
from kvstore.event_log import EventLog
from kvstore.replica.health import Health

LOOK_S = 0.25
"""How often it is looked."""
BEGINS = (0.80, 0.90, 1.00)
ENDS = (0.78, 0.88, 0.95)
"""A level begins at one share and ends at a lower one, so that it does not come and go."""
REFUSING = len(BEGINS)
CLOSE_SHARE = 0.1
"""From the level before the last on, so much of the history is kept; from the last on, none,
until all is well again: the history of what is deleted meanwhile would keep it just below."""


class Stored(Protocol):
    """The state's file."""

    @property
    def live_bytes(self) -> int:
        """Of the pages that hold anything."""

    @property
    def reusable_bytes(self) -> int:
        """Of the pages that do not."""


class Filling:
    """One thing that fills up: at which level it is, and what was told of that."""

    def __init__(self, name: str, events: EventLog) -> None:
        self._name = name
        self._events = events
        self.level = 0
        self.text = ""
        """How full it is, while it is at any level."""
        self.clearing = False
        """It was full, and all is not well again yet."""

    def look(self, share: float, text: str) -> None:
        """It is full to `share`, or `text` in words. Tells when a level begins and when all is well
        again, or at least so that nothing is refused."""
        before = level = self.level
        while level < REFUSING and share >= BEGINS[level]:
            level += 1
        while level and share < ENDS[level - 1]:
            level -= 1
        self.level, self.text = level, text if level else ""
        self.clearing = level == REFUSING or (self.clearing and level > 0)
        if level > before:
            name = "out of space" if level == REFUSING else "space short"
            self._events.event(name, of=self._name, percent=int(100 * BEGINS[level - 1]), have=text)
        elif before == REFUSING and level < REFUSING:
            self._events.event("space again", of=self._name, have=text)
        elif before and not level:
            self._events.event("space well again", of=self._name, have=text)


class SpaceWatch:
    """Looks from `start` to `stop`. `free_bytes()` asks the file system, on a thread of its own;
    None where nobody knows. `unwritten_bytes()` are applied and not yet in the file."""

    def __init__(
        self,
        config: Config,
        stored: Stored,
        unwritten_bytes: Callable[[], int],
        free_bytes: Callable[[], int | None],
        health: Health,
        events: EventLog,
    ) -> None:
        self.quota_bytes = config.space_quota_bytes
        self._reserve_bytes = config.disk_reserve_bytes
        self._stored = stored
        self._unwritten_bytes = unwritten_bytes
        self._free_bytes = free_bytes
        self._health = health
        self._quota = Filling("space-quota-bytes", events)
        self._disk = Filling("disk", events)
        self.room_bytes: int | None = None
        """What more the state could take, when it was last asked: free in the file system, or in
        the state's own file. None where nobody knows."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="space")
        self._task: asyncio.Task[None] | None = None
        self.refusal = ""
        """Why writes that grow are refused now; "" if they are not."""

    # -- what was seen ----------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """What the state takes: live pages of its file, and what is not written there yet. Not the
        file, which never shrinks: what is free in it is used again."""
        return self._stored.live_bytes + self._unwritten_bytes()

    @property
    def warning(self) -> str:
        """What an operator must mend, "" if there is nothing."""
        return "; ".join(filter(None, (self._quota.text, self._disk.text)))

    @property
    def clearing(self) -> bool:
        """Whether all that can be given up is: from when writes were refused until all is well."""
        return self._quota.clearing or self._disk.clearing

    def history_kept(self, revisions: int) -> int:
        """How much of so many revisions of history is to be kept: it gives way before the service
        does. Where all is to be kept (0), somebody wants it so, and it is."""
        if self.clearing:
            return 0
        level = max(self._quota.level, self._disk.level)
        return int(CLOSE_SHARE * revisions) if level == REFUSING - 1 else revisions

    # -- looking ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look, if there is anything to look at."""
        with suppress(OSError):
            self._found(self._free_bytes())
        if self.quota_bytes or (self._reserve_bytes and self.room_bytes is not None):
            self.look()
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._health.watch(self._task)

    async def stop(self) -> None:
        """The last look is over; the store may be closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False)  # a disk that hangs holds nobody up

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._health.failure:
            asked = loop.run_in_executor(self._thread, self._free_bytes)
            while not asked.done():
                await asyncio.wait([asked], timeout=LOOK_S)
                self.look()
            with suppress(OSError):
                self._found(asked.result())
            self.look()
            await asyncio.sleep(LOOK_S)

    def _found(self, free: int | None) -> None:
        """Both parts are taken at once: a checkpoint moves room from one to the other."""
        self.room_bytes = None if free is None else free + self._stored.reusable_bytes

    def look(self) -> None:
        """Judge by what is known now."""
        if self.quota_bytes:
            used = self.used_bytes
            self._quota.look(used / self.quota_bytes, f"{used} of {self.quota_bytes} bytes used")
        room = self.room_bytes
        if self._reserve_bytes and room is not None:
            text = f"{room} bytes of room, of which {self._reserve_bytes} are kept"
            self._disk.look(self._reserve_bytes / max(room, 1), text)
        self.refusal = self._why_refused()

    def _why_refused(self) -> str:
        if self._quota.level == REFUSING:
            what = f"the store is as large as space-quota-bytes lets it be: {self._quota.text}"
        elif self._disk.level == REFUSING:
            what = f"the disk of this node is nearly full: {self._disk.text} (disk-reserve-bytes)"
        else:
            return ""
        return f"{what}; writes that grow are refused until there is room, deletions are not"
