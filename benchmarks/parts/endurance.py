"""Ten minutes of puts without a pause: throughput, p99, memory and files over time."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import fmean

from benchmarks.clients.load import Load, measure
from benchmarks.comparison import SideBySide, running
from benchmarks.parts.plan import BenchPlan, Plot, Section
from benchmarks.scenarios import OURS, PUT_64
from benchmarks.shared.plots import Panel, Points
from benchmarks.shared.procfs import disk_mb, resident_mb
from benchmarks.shared.session import say
from benchmarks.systems.clusters import BenchCluster

PIECE_S_MAX = 10.0
PIECES_MIN = 10


@dataclass(frozen=True)
class Moment:
    """What a piece of the load found, and what the largest node took at its end."""

    at_s: float
    per_s: float
    p99_ms: float
    errors: int
    anonymous_mb: float
    log_mb: float
    state_mb: float


def measured(run: SideBySide, cluster: BenchCluster, long_s: float) -> list[Moment]:
    """Piece after piece. Each takes the same requests."""
    piece_s = max(1.0, min(PIECE_S_MAX, long_s / PIECES_MIN))
    file, moments = run.request_file(cluster, PUT_64), list[Moment]()
    began = time.monotonic()
    while time.monotonic() - began < long_s:
        load = Load(run.effort.client, PUT_64.connections, piece_s, seed=len(moments))
        sample = measure(load, [cluster.wait_leader().client_port], file, cluster.pids())
        cluster.check_alive()
        files = [disk_mb(node.data_dir) for node in cluster.nodes]
        moment = Moment(
            at_s=round(time.monotonic() - began, 1),
            per_s=sample.per_s,
            p99_ms=sample.p99_ms,
            errors=sample.errors,
            anonymous_mb=max(resident_mb(pid)[0] for pid in cluster.pids()),
            log_mb=max(each.get("log", 0.0) for each in files),
            state_mb=max(each.get("state.mdb", 0.0) for each in files),
        )
        moments.append(moment)
        say(f"  {moment}")
    return moments


def steadiness(moments: list[Moment]) -> tuple[float, float]:
    """Throughput in the last tenth and in the second one: the first is a store that is young."""
    tenth = max(1, len(moments) // 10)
    second = moments[tenth : 2 * tenth] or moments[-1:]
    return fmean(m.per_s for m in moments[-tenth:]), fmean(m.per_s for m in second)


def run(plan: BenchPlan) -> Section:
    """Ours, from an empty store on: compaction begins on the way."""
    with running([OURS], plan.home("endurance")) as (cluster,):
        side = SideBySide([PUT_64], plan.effort, plan.directory, [cluster])
        moments = measured(side, cluster, plan.long_s)

    def line(figure: str) -> Points:
        return [(m.at_s, getattr(m, figure)) for m in moments]

    last, second = steadiness(moments)
    files = {"log/": line("log_mb"), "state.mdb": line("state_mb")}
    return Section(
        "Without a pause",
        f"Puts over 64 connections to the leader for {plan.long_s / 60:g} minutes. Throughput in "
        f"the last tenth {last:,.0f}/s, in the second tenth {second:,.0f}/s: {last / second:.2f} "
        f"of it. At the end: anonymous memory {moments[-1].anonymous_mb:.0f} MB, log "
        f"{moments[-1].log_mb:.0f} MB, state {moments[-1].state_mb:.0f} MB (largest node); "
        f"half-way {moments[len(moments) // 2].anonymous_mb:.0f}, "
        f"{moments[len(moments) // 2].log_mb:.0f} and {moments[len(moments) // 2].state_mb:.0f}.",
        [asdict(m) for m in moments],
        {
            "steady-state": Plot(
                "seconds",
                (
                    Panel("puts/s", {"puts/s": line("per_s")}),
                    Panel("p99 in ms", {"p99": line("p99_ms")}),
                    Panel("MB in memory", {"anonymous": line("anonymous_mb")}),
                    Panel("MB on disk", files),
                ),
            )
        },
        tuple(f"{m.errors} errors at {m.at_s:.0f} s" for m in moments if m.errors or not m.per_s),
    )
