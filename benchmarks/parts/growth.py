"""Throughput with 10,000, a million and ten million keys, measured in turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.clients.load import Load, Sample, measure
from benchmarks.clients.traffic import key_of, value_of, write_requests
from benchmarks.parts.plan import BenchPlan, Plot, Section
from benchmarks.report import plain
from benchmarks.shared.plots import Panel
from benchmarks.shared.procfs import disk_mb, resident_mb
from benchmarks.shared.session import say
from benchmarks.shared.tables import table
from benchmarks.systems.clusters import OurBenchCluster
from benchmarks.systems.filling import fill

SIZES = (10_000, 1_000_000, 10_000_000)
VALUE_BYTES = 64
ASKED_KEYS = 100_000
"""Requests are for so many different keys, drawn from all."""
CONNECTIONS = 64
OPS = ("put", "get")


@dataclass
class Grown:
    """A cluster of ours that holds so many keys, and what was found of it."""

    keys: int
    cluster: OurBenchCluster
    home: Path
    filled_s: float = 0.0
    found: dict[str, list[Sample]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Start it, write every key, and put down what it is to be asked."""
        self.cluster.start()
        self.cluster.wait_ready()
        self.filled_s = fill(self.cluster, self.keys, 1, VALUE_BYTES)
        say(f"{self.keys:,} keys in {self.filled_s:.1f} s")
        chosen = Random(self.keys).sample(range(self.keys), min(self.keys, ASKED_KEYS))
        spell = self.cluster.dialect
        write_requests(self.home / "get", (spell.get(key_of(n)) for n in chosen))
        puts = (spell.put(key_of(n), value_of(n, 1, VALUE_BYTES)) for n in chosen)
        write_requests(self.home / "put", puts)

    def measure(self, op: str, plan: BenchPlan, number: int) -> None:
        """One more sample."""
        load = Load(plan.effort.client, CONNECTIONS, plan.effort.seconds, number)
        port = self.cluster.wait_leader().client_port
        sample = measure(load, [port], self.home / op, self.cluster.pids())
        self.found.setdefault(op, []).append(sample)
        say(f"  {self.keys:,} keys, {op}: {sample}")

    def middle(self, op: str, figure: str = "per_s") -> float:
        """The median of a figure."""
        return float(median(getattr(sample, figure) for sample in self.found[op]))

    def kept(self, op: str, first: Grown) -> float:
        """The median of the ratios to `first`, sample by sample: neighbours in time."""
        pairs = zip(self.found[op], first.found[op], strict=True)
        return float(median(own.per_s / other.per_s for own, other in pairs))

    @property
    def anonymous_mb(self) -> float:
        """Of the node that holds most."""
        return max(resident_mb(pid)[0] for pid in self.cluster.pids())

    @property
    def files_mb(self) -> float:
        """Of the first node."""
        return sum(disk_mb(self.cluster.nodes[0].data_dir).values())


def run(plan: BenchPlan, sizes: tuple[int, ...] = SIZES) -> Section:
    """A cluster for each size. The others idle while one is measured, and the order turns around,
    so that what else the machine does strikes all of them alike."""
    with ExitStack() as stack:
        grown = []
        for keys in sizes:
            home = plan.home(f"growth-{keys}")
            grown.append(Grown(keys, stack.enter_context(OurBenchCluster(home)), home))
            grown[-1].prepare()
        for number in range(plan.effort.rounds):
            for op in OPS:
                for each in grown if number % 2 == 0 else reversed(grown):
                    each.measure(op, plan, number)
        return _section(grown)


def _section(grown: list[Grown]) -> Section:
    rows = []
    for each in grown:
        rates = [f"{each.middle(op):,.0f}" for op in OPS]
        kept = [f"{each.kept(op, grown[0]):.2f}" for op in OPS]
        rows.append([
            f"{each.keys:,}", f"{each.keys / each.filled_s:,.0f}", *rates, *kept,
            f"{each.middle('put', 'p99_ms'):.0f}", f"{each.anonymous_mb:.0f}",
            f"{each.files_mb:,.0f}",
        ])  # fmt: skip
    head = [
        "keys",
        "written by batches, per s",
        "puts/s",
        "gets/s",
        "of the first's",
        "of the first's",
    ]
    head += ["put p99 ms", "anonymous MB", "files MB"]
    panels = tuple(
        Panel(f"{op}s/s", {f"{op}s/s": [(g.keys, g.middle(op)) for g in grown]}, log_x=True)
        for op in OPS
    )
    return Section(
        "Many keys",
        f"Values of {VALUE_BYTES} bytes, {CONNECTIONS} connections to the leader, random keys.\n\n"
        + table(head, rows),
        {g.keys: {op: [plain(s) for s in g.found[op]] for op in OPS} for g in grown},
        {"growth": Plot("keys", panels)},
        tuple(f"{g.keys} keys, {op}" for g in grown for op in OPS for s in g.found[op] if s.failed),
    )
