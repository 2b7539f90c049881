"""What this node has had to do: one row of numbers every two seconds, the last hour in memory."""

import asyncio
import os
import resource
import shutil
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic, time_ns
from typing import Protocol

from http_api.core.metrics import HttpMetrics
from kvstore.replica.stages import Durations

PERIOD_S = 2.0
ROWS_MAX = 1800
"""An hour."""
DISK_PERIOD_S = 20.0
COLUMNS = (
    "at_ms",
    "writes_per_s",
    "reads_per_s",
    "write_p50_ms",
    "write_p99_ms",
    "read_p50_ms",
    "read_p99_ms",
    "http_in_ms",
    "batch_ms",
    "commit_ms",
    "quorum_ms",
    "apply_ms",
    "http_out_ms",
    "commit_p99_ms",
    "writes_waiting",
    "reads_waiting",
    "slots_in_flight",
    "streams",
    "connections",
    "memory_bytes",
    "cpu_share",
    "log_bytes",
    "disk_free_share",
)
"""Times are means of the period unless their names say otherwise; 0 where nothing happened."""
WRITES = frozenset(
    (
        ("/v1/kv/{key}", "PUT"),
        ("/v1/kv/{key}", "DELETE"),
        ("/v1/txn", "POST"),
        ("/v1/batch", "POST"),
        ("/v3/kv/put", "POST"),
        ("/v3/kv/deleterange", "POST"),
        ("/v3/kv/txn", "POST"),
    )
)
READS = frozenset((("/v1/kv/{key}", "GET"), ("/v1/kv", "GET"), ("/v3/kv/range", "POST")))


class LoadHistory:
    """Rows of `COLUMNS`, oldest first, in a ring of arrays."""

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._columns = {name: array("d") for name in COLUMNS}

    def add(self, row: dict[str, float]) -> None:
        """The newest row; the oldest goes if there are too many."""
        for name, column in self._columns.items():
            column.append(round(row[name], 3))
            if len(column) >= 2 * self._rows_max:
                del column[: -self._rows_max]

    def last(self) -> dict[str, float]:
        """The newest row, empty if there is none yet."""
        return {name: column[-1] for name, column in self._columns.items() if column}

    def columns(self) -> dict[str, list[float]]:
        """Everything that is kept."""
        return {n: column[-self._rows_max :].tolist() for n, column in self._columns.items()}


def percentile_s(bounds_s: Sequence[float], counts: Sequence[float], share: float) -> float:
    """Of a histogram that is not cumulative, as a point within its bucket; 0 if it is empty."""
    wanted = sum(counts) * share
    below, low = 0.0, 0.0
    for bound, count in zip((*bounds_s, bounds_s[-1]), counts, strict=True):
        if count and below + count >= wanted:
            return low + (bound - low) * (wanted - below) / count
        below, low = below + count, bound
    return 0.0


class Since:
    """What histograms have gained since the last look."""

    def __init__(self) -> None:
        self._counts: list[float] = []
        self._total_s = 0.0
        self.bounds_s: Sequence[float] = (0.0,)
        self.gained: list[float] = [0.0]
        self.mean_ms = 0.0

    def look(self, durations: Iterable[Durations]) -> None:
        """All of them together; they have the same bounds."""
        counts: list[float] = []
        total_s = 0.0
        for one in durations:
            self.bounds_s = one.bounds_s
            counts = counts or [0.0] * len(one.counts)
            counts = [so_far + more for so_far, more in zip(counts, one.counts, strict=True)]
            total_s += one.total_s
        before = self._counts or [0.0] * len(counts)
        self.gained = [now - then for now, then in zip(counts, before, strict=True)]
        number = sum(self.gained)
        self.mean_ms = 1000 * (total_s - self._total_s) / number if number else 0.0
        self._counts, self._total_s = counts, total_s

    def percentile_ms(self, share: float) -> float:
        """Of what was gained."""
        return 1000 * percentile_s(self.bounds_s, self.gained, share) if self.gained else 0.0


class ReplicaNumbers(Protocol):
    """The replica's metrics, as far as the sampler reads them."""

    def stages(self) -> Iterable[tuple[str, Durations]]:
        """The stages of a write by name."""

    def gauges(self) -> dict[str, float]:
        """Numbers of now."""

    @property
    def commands_applied(self) -> int:
        """Since the start."""


class LoadSampler:
    """Adds a row to the history every PERIOD_S while it runs."""

    def __init__(
        self,
        history: LoadHistory,
        replica: ReplicaNumbers,
        http: HttpMetrics,
        streams: Callable[[], int],
        connections: Callable[[], int],
        directory: Path,
    ) -> None:
        self._history = history
        self._replica = replica
        self._http = http
        self._streams = streams
        self._connections = connections
        self._directory = directory
        self._disk_free_share = 1.0
        self._since: dict[str, Since] = {}
        self._applied = replica.commands_applied
        self._reads = 0.0
        self._at_s = monotonic()
        self._cpu_s = _cpu_s()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """On the running loop."""
        loop = asyncio.get_running_loop()
        self.sample()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._look_at_disk())]

    async def stop(self) -> None:
        """It has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            self.sample()

    async def _look_at_disk(self) -> None:
        # In a thread, one at a time: a disk that hangs must not hold the loop up.
        while True:
            try:
                usage = await asyncio.to_thread(shutil.disk_usage, self._directory)
                self._disk_free_share = usage.free / max(1, usage.total)
            except OSError:
                self._disk_free_share = 0.0
            await asyncio.sleep(DISK_PERIOD_S)

    def sample(self) -> None:
        """One row, of what happened since the one before."""
        now_s, cpu_s = monotonic(), _cpu_s()
        seconds = max(now_s - self._at_s, 1e-3)
        writes, reads = self._look("writes", WRITES), self._look("reads", READS)
        stages = {
            name: self._gained(name, (durations,)) for name, durations in self._replica.stages()
        }
        gauges = self._replica.gauges()
        applied = self._replica.commands_applied
        row = dict.fromkeys(COLUMNS, 0.0) | {
            "at_ms": time_ns() // 1_000_000,
            "writes_per_s": (applied - self._applied) / seconds,
            "reads_per_s": sum(reads.gained) / seconds,
            "write_p50_ms": writes.percentile_ms(0.5),
            "write_p99_ms": writes.percentile_ms(0.99),
            "read_p50_ms": reads.percentile_ms(0.5),
            "read_p99_ms": reads.percentile_ms(0.99),
            "streams": self._streams(),
            "connections": self._connections(),
            "memory_bytes": _memory_bytes(),
            "cpu_share": (cpu_s - self._cpu_s) / seconds,
            "disk_free_share": self._disk_free_share,
        }
        row |= {f"{name}_ms": since.mean_ms for name, since in stages.items()}
        for name, durations in self._http.stages.items():
            if name != "store":
                row[f"http_{name}_ms"] = self._gained(f"http {name}", (durations,)).mean_ms
        if "commit" in stages:
            row["commit_p99_ms"] = stages["commit"].percentile_ms(0.99)
        for name in ("writes_waiting", "reads_waiting", "slots_in_flight", "log_bytes"):
            row[name] = gauges.get(name, 0.0)
        self._applied, self._at_s, self._cpu_s = applied, now_s, cpu_s
        self._history.add(row)

    def _look(self, name: str, routes: frozenset[tuple[str, str]]) -> Since:
        return self._gained(name, self._http.durations_of(routes))

    def _gained(self, name: str, durations: Iterable[Durations]) -> Since:
        since = self._since.setdefault(name, Since())
        since.look(durations)
        return since


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory_bytes() -> float:
    """Resident; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as statm:
            return float(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0.0
