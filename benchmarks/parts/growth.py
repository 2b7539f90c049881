"""Throughput with 10,000, a million and ten million keys."""

from __future__ import annotations

from pathlib import Path
from random import Random

from benchmarks.clusters import BenchCluster, OurBenchCluster
from benchmarks.filling import fill
from benchmarks.load import Load, Sample, measure
from benchmarks.parts.plan import BenchPlan, Plot, Section
from benchmarks.plots import Panel
from benchmarks.procfs import disk_mb, resident_mb
from benchmarks.report import plain
from benchmarks.session import say
from benchmarks.tables import table
from benchmarks.traffic import key_of, value_of, write_requests

SIZES = (10_000, 1_000_000, 10_000_000)
VALUE_BYTES = 64
ASKED_KEYS = 100_000
"""Requests are for so many different keys, drawn from all."""
CONNECTIONS = 64
ROUNDS = 3
Growth = dict[str, list[Sample]]


def measured(cluster: BenchCluster, keys: int, plan: BenchPlan, home: Path) -> Growth:
    """Puts and gets in turns."""
    chosen = Random(keys).sample(range(keys), min(keys, ASKED_KEYS))
    spell, found = cluster.dialect, Growth()
    write_requests(home / "get", (spell.get(key_of(n)) for n in chosen))
    puts = (spell.put(key_of(n), value_of(n, 1, VALUE_BYTES)) for n in chosen)
    write_requests(home / "put", puts)
    for number in range(ROUNDS):
        for op in ("put", "get"):
            load = Load(plan.effort.client, CONNECTIONS, 2 * plan.effort.seconds, number)
            port = cluster.wait_leader().client_port
            found.setdefault(op, []).append(measure(load, [port], home / op, cluster.pids()))
            say(f"  {keys:,} keys, {op}: {found[op][-1]}")
    return found


def run(plan: BenchPlan, sizes: tuple[int, ...] = SIZES) -> Section:
    """A cluster of ours for each size."""
    rows, data, points, problems = [], {}, dict[str, list[tuple[float, float]]](), list[str]()
    for keys in sizes:
        home = plan.home(f"growth-{keys}")
        with OurBenchCluster(home) as cluster:
            cluster.start()
            cluster.wait_ready()
            filled_s = fill(cluster, keys, 1, VALUE_BYTES)
            say(f"{keys:,} keys in {filled_s:.1f} s")
            found = measured(cluster, keys, plan, home)
            memory = max(resident_mb(pid)[0] for pid in cluster.pids())
            files = sum(disk_mb(cluster.nodes[0].data_dir).values())
        middle = {op: sorted(s.per_s for s in of)[ROUNDS // 2] for op, of in found.items()}
        for op, per_s in middle.items():
            points.setdefault(f"{op}s/s", []).append((keys, per_s))
        problems += [f"{keys} keys, {op}" for op, of in found.items() for s in of if s.failed]
        data[keys] = {op: [plain(s) for s in of] for op, of in found.items()}
        rows.append([
            f"{keys:,}", f"{keys / filled_s:,.0f}", *(f"{x:,.0f}" for x in middle.values()),
            f"{memory:.0f}", f"{files:,.0f}",
        ])  # fmt: skip
    head = ["keys", "written by batches, per s", "puts/s", "gets/s", "anonymous MB", "files MB"]
    panels = tuple(Panel(name, {name: of}, log_x=True) for name, of in points.items())
    return Section(
        "Many keys",
        f"Values of {VALUE_BYTES} bytes, 64 connections to the leader, random keys.\n\n"
        + table(head, rows),
        data,
        {"growth": Plot("keys", panels)},
        tuple(problems),
    )
