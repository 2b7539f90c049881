"""What the kernel says about processes and the machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that these processes have used so far, all threads together."""
    return sum(_cpu_seconds(Path(f"/proc/{pid}/stat")) for pid in pids)


def loop_cpu_seconds(pid: int) -> float:
    """The same of the first thread alone: in a node of ours that is the loop's."""
    return _cpu_seconds(Path(f"/proc/{pid}/task/{pid}/stat"))


def _cpu_seconds(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mb(pid: int) -> tuple[float, float]:
    """Resident memory in MB: anonymous (the process's own) and file pages (cache it has mapped)."""
    found = {"RssAnon": 0.0, "RssFile": 0.0}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024 / 1e6
    return found["RssAnon"], found["RssFile"]


def filesystem_of(path: Path) -> str:
    """The type of file system that holds `path`: on tmpfs a sync costs nothing."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, this_kind, *_ = line.split()
        if path.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, this_kind
    return kind


def machine() -> str:
    """One line for the head of a report."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}"
    )


def facts(directory: Path) -> dict[str, object]:
    """What a figure depends on besides the programs."""
    memory = Path("/proc/meminfo").read_text().partition("\n")[0].split()[1]
    return {
        "machine": machine(),
        "memory_mb": int(memory) * 1024 // 10**6,
        "file_system": filesystem_of(directory),
        "sync_ms": sync_ms(directory),
        "load_average": os.getloadavg(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def sync_ms(directory: Path, times: int = 50) -> float:
    """The median time to write 4 KiB into a file and sync it: no durable answer is faster."""
    path, took = directory / "sync", []
    with path.open("wb", buffering=0) as file:
        file.write(bytes(4096))
        os.fsync(file.fileno())
        for _ in range(times):
            begun = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begun) * 1000)
    path.unlink()
    return median(took)


def disk_mb(path: Path) -> dict[str, float]:
    """What the files below take on disk, by the first name below `path`. Some may vanish while
    they are looked at."""
    found: dict[str, float] = {}
    for file in path.rglob("*"):
        try:
            size = file.stat().st_blocks * 512 / 1e6 if file.is_file() else 0.0
        except FileNotFoundError:
            continue
        name = file.relative_to(path).parts[0]
        found[name] = found.get(name, 0.0) + size
    return found
