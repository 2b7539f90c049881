"""What a node runs on: clock, disk, randomness, the thread that commits the log, and who listens.

The real one by default, a simulated one in `proof/simulation/`. Sockets, timers and executors are
those of the running event loop.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kvstore.errors import StorageFailed
from kvstore.replica.ports import Clock
from kvstore.replica.probe import SILENT, Probe
from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.log_writer import LogWriter, ThreadedLogWriter
from kvstore.storage.segment_log import SegmentLog


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


def _threaded_writer(store: SegmentLog, failed: Callable[[StorageFailed], None]) -> LogWriter:
    return ThreadedLogWriter(store, asyncio.get_running_loop().call_soon_threadsafe, failed)


@dataclass(frozen=True)
class Machine:
    """What a node runs on.

    `randomness` must differ from node to node: two that draw the same time-outs duel for ever.
    `log_writer(store, failed)` makes what commits the log, on the running loop. `probe` is told
    what happens inside.
    """

    clock: Clock = field(default_factory=SystemClock)
    disk: Disk = SYSTEM_DISK
    randomness: random.Random = field(default_factory=random.SystemRandom)
    log_writer: Callable[[SegmentLog, Callable[[StorageFailed], None]], LogWriter] = (
        _threaded_writer
    )
    probe: Probe = SILENT
