"""One measurement: prepared requests against one or more ports, in a closed or an open loop."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clients.latencies import Latencies
from benchmarks.shared.procfs import cpu_seconds

_HERE = Path(__file__).resolve().parent


class LoadFailed(Exception):
    """The client itself broke."""


@dataclass(frozen=True)
class Sample:
    """What one measurement found. CPU is in seconds per 1,000 operations."""

    requests: int
    errors: int
    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    mean_ms: float
    server_cpu: float
    client_cpu: float
    began_s: float = 0.0
    """By `time.perf_counter`, where the client says so."""
    slices: dict[int, Latencies] = field(default_factory=dict, compare=False, repr=False)
    """By their numbers, if the load wants them."""

    @property
    def failed(self) -> bool:
        """Errors, or nothing done at all: such a figure must not be believed."""
        return self.errors > 0 or self.requests == 0


@dataclass(frozen=True)
class Load:
    """How to press: the client, and how many connections for how long.

    `rate_per_s`: of an open loop over all ports; 0 is a closed loop. `slice_s`: the latencies are
    kept for each so long a time as well. Both, and other protocols than HTTP, need the raw client.
    """

    client: str
    connections: int
    seconds: float
    seed: int = 1
    rate_per_s: float = 0.0
    wire: str = "http"
    slice_s: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether wrk can do it."""
        return not self.rate_per_s and not self.slice_s and self.wire == "http"

    def command(
        self, port: int, share: int, request_file: Path, seed: int, ports: int = 1
    ) -> list[str]:
        """The client process for one of so many ports; `share` is its number of connections."""
        if self.client == "wrk" and self.plain:
            return [
                "wrk", "-t1", f"-c{share}", f"-d{max(1, round(self.seconds))}s", "--timeout", "10s",
                "-s", str(_HERE / "load.lua"), f"http://127.0.0.1:{port}/",
                "--", str(request_file), str(seed),
            ]  # fmt: skip
        arguments = [port, share, self.seconds, request_file, seed]
        arguments += [self.rate_per_s / ports, self.wire, self.slice_s]
        return [sys.executable, "-m", "benchmarks.clients.raw_client", *map(str, arguments)]


def best_client() -> str:
    """wrk where it is installed, else the client in Python."""
    return "wrk" if shutil.which("wrk") else "raw"


def measure(
    load: Load, ports: Sequence[int], request_file: Path, server_pids: Sequence[int]
) -> Sample:
    """Press the ports at once, one client process each, connections shared out evenly."""
    running: list[subprocess.Popen[str]] = []
    before = cpu_seconds(server_pids)
    try:
        for i, port in enumerate(ports):
            share = (load.connections + i) // len(ports)
            command = load.command(port, share, request_file, load.seed * 10 + i, len(ports))
            running.append(
                subprocess.Popen(command, cwd=_HERE.parents[1], stdout=subprocess.PIPE, text=True)
            )
        ended = [_collect(process) for process in running]
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
                process.wait()
    server_s = cpu_seconds(server_pids) - before
    return merge([report for report, _ in ended], server_s, sum(cpu for _, cpu in ended))


def merge(reports: Sequence[LoadReport], server_s: float, client_s: float) -> Sample:
    """One sample from the reports of all clients: rates add up, histograms are united."""
    latencies, slices = Latencies(), dict[int, Latencies]()
    for report in reports:
        latencies.add(report.histogram)
        for number, histogram in report.slices.items():
            slices.setdefault(int(number), Latencies()).add(histogram)
    requests = sum(report.requests for report in reports)
    thousands = max(requests, 1) / 1000
    return Sample(
        requests=requests,
        errors=sum(report.bad_status + report.socket_errors for report in reports),
        per_s=sum(report.requests / (report.duration_us / 1e6) for report in reports),
        p50_ms=latencies.percentile_ms(50),
        p99_ms=latencies.percentile_ms(99),
        p999_ms=latencies.percentile_ms(99.9),
        mean_ms=latencies.mean_ms,
        server_cpu=server_s / thousands,
        client_cpu=client_s / thousands,
        began_s=min((report.began_s for report in reports), default=0.0),
        slices=slices,
    )


@dataclass(frozen=True)
class LoadReport:
    """The JSON line of one client."""

    requests: int
    duration_us: int
    bad_status: int
    socket_errors: int
    histogram: list[tuple[int, int]]
    began_s: float = 0.0
    slices: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


def _collect(process: subprocess.Popen[str]) -> tuple[LoadReport, float]:
    """The report of a client, and the CPU seconds it used."""
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = [line[5:] for line in output.splitlines() if line.startswith("JSON ")]
    if process.returncode != 0 or not found:
        raise LoadFailed(f"client ended with {process.returncode}: {output[-500:]}")
    return LoadReport(**json.loads(found[0])), usage.ru_utime + usage.ru_stime
