"""Looks for damage that nobody has met yet: the checksums of all records of the state, and of the
log's older segments, over and over, so slowly that nobody notices.

A flipped bit in a record that is rarely read would be found when the record is needed, perhaps
when the other members have lost it too. The reading is done by a thread of its own, a piece at a
time; after each piece it pauses for many times as long as that took. So it takes a fixed share of
one core, and less of everything the busier the machine is.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from kvstore.errors import StorageError
from kvstore.event_log import EventLog
from kvstore.replica.health import Health
from kvstore.replica.metrics import Counters
from kvstore.replica.ports import Clock
from kvstore.storage.disk import Disk
from kvstore.storage.log_check import check_segments
from kvstore.storage.state import StateStore

SHARE = 0.005
"""Of the time, that pieces take at most."""
PIECE_PAIRS = 128
PIECE_BYTES = 64 << 10
PAUSE_S_MIN, PAUSE_S_MAX = 0.02, 60.0
FIRST_S = 60.0
"""A node that has just started has other things to do."""

T = TypeVar("T")


def pause_s(took_s: float) -> float:
    """How long to wait after a piece that took so long, by the clock: where the processor or the
    disk is busy, it takes longer."""
    return min(max(took_s / SHARE, PAUSE_S_MIN), PAUSE_S_MAX)


class Scrubber:
    """Runs from `start` to `stop`: a pass every `interval_s`, over the state and then the log.

    Damage of the state stops the node, as it does where the record is read. Damage of an older
    segment does not: what it holds is in memory, and it leaves when the log is truncated. Until
    then the node says so, since it would be refused at its next start.
    """

    def __init__(
        self,
        store: StateStore,
        log_path: Path,
        disk: Disk,
        clock: Clock,
        health: Health,
        events: EventLog,
        counters: Counters,
        *,
        interval_s: float,
    ) -> None:
        self._store = store
        self._log_path = log_path
        self._disk = disk
        self._clock = clock
        self._health = health
        self._events = events
        self._counters = counters
        self._interval_s = interval_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scrub")
        self._task: asyncio.Task[None] | None = None
        self._passed_s = clock.monotonic()
        self._took_s = 0.0
        self.warning = ""
        """What is damaged, "" if nothing is known to be."""

    @property
    def age_s(self) -> float:
        """Since the last pass ended; before the first, since the start."""
        return self._clock.monotonic() - self._passed_s

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._health.watch(self._task)

    async def stop(self) -> None:
        """The last piece is read; the store may be closed."""
        if self._task is not None:
            self._task.cancel()
            self._thread.shutdown()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        await asyncio.sleep(min(FIRST_S, self._interval_s))
        while not self._health.failure:
            began_s = self._clock.monotonic()
            try:
                await self._check_state()
            except StorageError as error:
                self._found(error)
                self._health.storage_failed(error)
                return
            try:
                await self._check_log()
            except StorageError as error:
                self._found(error)
            else:
                self._found(None)
            self._passed_s = self._clock.monotonic()
            self._counters.scrub_passes += 1
            await asyncio.sleep(self._until_next_s(began_s))

    def _until_next_s(self, began_s: float) -> float:
        """From the end of a pass that began then; soon if damage is known, which may be gone."""
        if self.warning:
            return min(FIRST_S, self._interval_s)
        return max(began_s + self._interval_s - self._passed_s, PAUSE_S_MIN)

    async def _check_state(self) -> None:
        place: tuple[str, bytes] | None = (next(iter(self._store.tables)), b"")
        while place is not None:
            self._store.copying += 1  # the file must be neither moved nor replaced under it
            try:
                call = partial(self._store.check_piece, place, PIECE_PAIRS, PIECE_BYTES)
                records, place = await self._piece(call)
            finally:
                self._store.copying -= 1
            await self._rest(records)

    async def _check_log(self) -> None:
        pieces: Iterator[int] = check_segments(self._log_path, PIECE_BYTES, self._disk)
        while (records := await self._piece(partial(next, pieces, None))) is not None:
            await self._rest(records)

    async def _piece(self, call: Callable[[], T]) -> T:
        """Read by the thread; `_rest` is to follow."""

        def timed() -> T:
            began_s = self._clock.monotonic()
            try:
                return call()
            finally:
                self._took_s = self._clock.monotonic() - began_s

        return await asyncio.get_running_loop().run_in_executor(self._thread, timed)

    async def _rest(self, records: int) -> None:
        self._counters.scrub_records += records
        await asyncio.sleep(pause_s(self._took_s))

    def _found(self, error: StorageError | None) -> None:
        """Told when it begins and when it ends."""
        if error is not None and not self.warning:
            self._events.event("damage found", reason=error)
        elif error is None and self.warning:
            self._events.event("damage gone")
        self.warning = "" if error is None else str(error)
