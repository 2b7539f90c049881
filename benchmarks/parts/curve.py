"""Throughput against latency: puts in an open loop at more and more of what a closed loop gets."""

from __future__ import annotations

from benchmarks.clients.load import Load, Sample, measure
from benchmarks.comparison import SideBySide, running
from benchmarks.parts.plan import BenchPlan, Plot, Section
from benchmarks.report import plain
from benchmarks.scenarios import ETCD, OURS, PUT_64
from benchmarks.shared.plots import Panel
from benchmarks.shared.session import say
from benchmarks.shared.tables import table
from benchmarks.systems.clusters import BenchCluster

SHARES = (0.1, 0.25, 0.5, 0.7, 0.85, 0.95)
"""Of the closed loop's throughput. Near all of it the queue, and so the latency, has no bound."""
PERCENTILES = {"p50": "p50_ms", "p99": "p99_ms", "p99.9": "p999_ms"}
Curve = list[tuple[float, Sample]]


def measured(run: SideBySide, cluster: BenchCluster, seconds: float) -> Curve:
    """The closed loop first, then the open ones, each with the rate that was asked for."""
    port = cluster.wait_leader().client_port
    file = run.request_file(cluster, PUT_64)

    def press(rate_per_s: float, length_s: float) -> Sample:
        # Both by the same client, so that its own limit is in both.
        load = Load("raw", PUT_64.connections, length_s, rate_per_s=rate_per_s)
        sample = measure(load, [port], file, cluster.pids())
        say(f"  {cluster.name} {rate_per_s:8,.0f}/s asked, {sample}")
        return sample

    closed = press(0.0, seconds)
    rates = [closed.per_s * share for share in SHARES]
    return [(0.0, closed), *((rate, press(rate, 2 * seconds)) for rate in rates)]


def run(plan: BenchPlan) -> Section:
    """Ours and etcd, one after the other, in steady state."""
    curves: dict[str, Curve] = {}
    wanted = [name for name in (OURS, ETCD) if name in plan.systems]
    with running(wanted, plan.home("curve")) as clusters:
        side = SideBySide([PUT_64], plan.effort, plan.directory, clusters)
        for cluster in clusters:
            side.settle(cluster)
            curves[cluster.name] = measured(side, cluster, plan.effort.seconds)
    rows = [
        [f"{name}, {f'{rate:,.0f}/s' if rate else 'closed loop'}", f"{s.per_s:,.0f}",
         *(f"{getattr(s, figure):.2f}" for figure in PERCENTILES.values()), str(s.errors)]
        for name, curve in curves.items() for rate, s in curve
    ]  # fmt: skip
    series = {
        f"{name} {percentile}": [(s.per_s, getattr(s, figure)) for rate, s in curve if rate]
        for name, curve in curves.items()
        for percentile, figure in PERCENTILES.items()
    }
    panels = tuple(
        Panel(f"{p} in ms", {n: ps for n, ps in series.items() if n.endswith(f" {p}")}, log_y=True)
        for p in PERCENTILES
    )
    return Section(
        "Throughput against latency",
        "Puts over 64 connections to the leader; latencies count from when a put was due.\n\n"
        + table(["puts asked for", "puts/s", "p50 ms", "p99 ms", "p99.9 ms", "errors"], rows),
        {name: [[rate, plain(s)] for rate, s in curve] for name, curve in curves.items()},
        {"throughput-latency": Plot("puts/s, open loop", panels)},
        (*side.results.problems, *(
            f"{name} at {rate:,.0f}/s: {s.errors} errors in {s.requests} requests"
            for name, curve in curves.items() for rate, s in curve if s.failed
        )),
    )  # fmt: skip
