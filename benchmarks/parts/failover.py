"""p99 over time with a fail-over in the middle: kill -9 of the leader, clients at the followers."""

from __future__ import annotations

import threading
import time

from benchmarks.clients.load import Load, Sample, measure
from benchmarks.comparison import SideBySide, running
from benchmarks.parts.plan import BenchPlan, Plot, Section
from benchmarks.report import plain
from benchmarks.scenarios import ETCD, OURS, PUT_64
from benchmarks.shared.plots import Panel
from benchmarks.shared.session import say
from benchmarks.shared.tables import table
from benchmarks.systems.clusters import BenchCluster

RATE_PER_S = 1000.0
SLICE_S = 0.25
SECONDS_MIN, SECONDS_MAX = 8.0, 40.0
STALLED_MS = 100.0


def measured(run: SideBySide, cluster: BenchCluster, seconds: float) -> tuple[Sample, float]:
    """An open loop over the two followers; the leader is killed when about half of it is over, at
    the second that is returned."""
    leader = cluster.wait_leader()
    followers = [node for node in cluster.nodes if node is not leader]
    load = Load("raw", 64, seconds, rate_per_s=RATE_PER_S, slice_s=SLICE_S)
    file = run.request_file(cluster, PUT_64)
    killed_s = 0.0

    def kill() -> None:
        nonlocal killed_s
        killed_s = time.perf_counter()
        cluster.servers.kill([leader.number])

    killer = threading.Timer(seconds / 2, kill)
    killer.start()
    try:
        ports, pids = [n.client_port for n in followers], [n.pid for n in followers]
        sample = measure(load, ports, file, pids)
    finally:
        killer.cancel()
        killer.join()
    say(f"  {cluster.name}: {sample}")
    return sample, killed_s - sample.began_s


def run(plan: BenchPlan) -> Section:
    """Ours and etcd, each alone."""
    seconds = min(max(plan.long_s / 20, SECONDS_MIN), SECONDS_MAX)
    found, kills = dict[str, Sample](), dict[str, float]()
    for name in (OURS, ETCD):
        if name not in plan.systems:
            continue
        with running([name], plan.home(f"failover-{name}")) as clusters:
            for cluster in clusters:
                side = SideBySide([PUT_64], plan.effort, plan.directory, [cluster])
                side.settle(cluster)
                found[name], kills[name] = measured(side, cluster, seconds)
    series = {
        name: [(n * SLICE_S, s.slices[n].percentile_ms(99)) for n in sorted(s.slices)]
        for name, s in found.items()
    }
    rows = [
        [name, f"{s.requests:,}", str(s.errors),
         f"{sum(SLICE_S for _, p99_ms in series[name] if p99_ms > STALLED_MS):.2f}",
         f"{max((p99_ms for _, p99_ms in series[name]), default=0.0):,.0f}"]
        for name, s in found.items()
    ]  # fmt: skip
    head = ["system", "puts", "errors", f"seconds with p99 above {STALLED_MS:g} ms", "worst p99 ms"]
    panel = Panel(
        "p99 in ms",
        series,
        log_y=True,
        marks={f"kill -9 of the leader ({name})": at_s for name, at_s in kills.items()},
    )
    # Errors are told, and fail nothing: a put that was under way may end in doubt.
    problems = [f"{name}: nothing was answered" for name, s in found.items() if not s.requests]
    problems += [f"{name}: nobody was killed meanwhile" for name, at in kills.items() if at < 0]
    return Section(
        "Fail-over",
        f"{RATE_PER_S:,.0f} puts/s in an open loop over the two followers; the leader is killed "
        f"in the middle. A put that waits for the next leader counts from when it was due."
        f"\n\n{table(head, rows)}",
        {
            name: {"sample": plain(s), "p99_ms": series[name], "killed_s": kills[name]}
            for name, s in found.items()
        },
        {"failover": Plot("seconds; each put where it was due", (panel,))},
        tuple(problems),
    )
