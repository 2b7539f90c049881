"""Groups of records on their way to the log's disk."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from kvstore.errors import StorageFailed
from kvstore.replica.health import Health
from kvstore.replica.metrics import Counters
from kvstore.replica.ports import Clock
from kvstore.replica.stages import Stages
from kvstore.storage.log_writer import LogWriter
from paxos.messages import LogEntry
from paxos.records import Record


class Commits:
    """Counts the commits under way: messages without records still wait for those before them.

    `waiting_bytes` are those of their values, and `age_s` is that of the oldest.
    """

    def __init__(
        self, log: LogWriter, health: Health, counters: Counters, clock: Clock, stages: Stages
    ) -> None:
        self._log = log
        self._health = health
        self._counters = counters
        self._clock = clock
        self._stages = stages
        self._waiting: deque[tuple[float, int]] = deque()
        self.waiting_bytes = 0

    @property
    def under_way(self) -> int:
        """How many."""
        return len(self._waiting)

    @property
    def age_s(self) -> float:
        """Of the oldest one under way; 0 if there is none."""
        return self._clock.monotonic() - self._waiting[0][0] if self._waiting else 0.0

    @property
    def waits_for_room(self) -> str:
        """Why the log cannot go on before the disk has room; "" if it can."""
        return self._log.waits_for_room

    def stop_waiting(self) -> None:
        """What waits for room fails."""
        self._log.stop_waiting()

    def submit(self, records: list[Record], then: Callable[[], None]) -> None:
        """Commit `records`; later, and in order of submission, call `then`."""
        self._counters.log_groups += 1
        self._counters.log_records += len(records)
        self._submit(records, then)

    def _submit(self, records: list[Record], then: Callable[[], None]) -> None:
        size = sum(len(record.value) for record in records if isinstance(record, LogEntry))
        self._waiting.append((self._clock.monotonic(), size))
        self.waiting_bytes += size
        self._log.submit(records, partial(self._durable, then, bool(records)))

    def _durable(self, then: Callable[[], None], wrote: bool) -> None:
        since_s, size = self._waiting.popleft()
        self.waiting_bytes -= size
        if wrote:
            self._stages.commit.observe(self._clock.monotonic() - since_s)
        then()

    async def settled(self) -> None:
        """Wait until all that was submitted so far is durable.

        Raises StorageFailed if the node fails before.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then() -> None:
            if not done.done():
                done.set_result(None)

        self._submit([], then)
        either: list[asyncio.Future[Any]] = [done, self._health.failed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._health.failure:
            raise StorageFailed(self._health.failure)

    def close(self) -> None:
        """Finish what was submitted, and release the log's disk."""
        self._log.close()
