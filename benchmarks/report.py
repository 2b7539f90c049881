"""The report of the side-by-side run: medians over rounds, and the ratios ours / etcd."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from benchmarks.load import Sample
from benchmarks.tables import ratio, table

_OPERATIONS = {"put": "Puts", "get": "Linearizable gets"}
_NOTES = """\
CPU is user plus system time in seconds per 1,000 operations: of the three servers together (from
/proc/PID/stat), and of the client. Ratios are ours / etcd: above 1 is better for ops/s, below 1 is
better for latency and CPU. "leader": all connections on the leader; "spread": over all three nodes.
Servers and client share the machine: ratios carry over to other machines, absolute figures do not.
"""


@dataclass(frozen=True)
class Cell:
    """One kind of load."""

    op: str
    connections: int
    spread: bool = False

    def __str__(self) -> str:
        """As a row is called."""
        return f"{self.connections} {'spread' if self.spread else 'leader'}"


@dataclass
class Results:
    """Everything one run found."""

    head: list[str] = field(default_factory=list)
    samples: dict[tuple[str, Cell], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    ceilings: dict[str, Sample] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def systems(self) -> list[str]:
        """The systems measured, in order."""
        return list(dict.fromkeys(system for system, _ in self.samples))

    def middle(self, system: str, cell: Cell, figure: str) -> float:
        """The median of one figure over the rounds, 0 where nothing was measured."""
        samples = self.samples.get((system, cell), [])
        return float(median(getattr(s, figure) for s in samples)) if samples else 0.0


def render(results: Results) -> str:
    """The whole report, in markdown."""
    cells = list(dict.fromkeys(cell for _, cell in results.samples))
    parts = ["# Side by side", "\n".join(f"- {line}" for line in results.head)]
    for op, title in _OPERATIONS.items():
        chosen = [cell for cell in cells if cell.op == op]
        if not chosen:
            continue
        parts += [f"## {title}", _figures(results, chosen)]
        if {"ours", "etcd"} <= set(results.systems()):
            parts += [f"{title}, ours / etcd:", _ratios(results, chosen)]
    parts += ["## The client's ceiling: an empty handler", _ceilings(results), _NOTES.strip()]
    if results.problems:
        parts += ["## FAILED", "\n".join(f"- {problem}" for problem in results.problems)]
    return "\n\n".join(parts) + "\n"


def _figures(results: Results, cells: list[Cell]) -> str:
    head = ["connections", "system", "ops/s", "lowest-highest", "p50 ms", "p99 ms"]
    head += ["server CPU", "client CPU", "errors"]
    rows = []
    for cell in cells:
        for system in results.systems():
            samples = results.samples.get((system, cell), [])
            rates = [s.per_s for s in samples] or [0.0]
            figures = [results.middle(system, cell, f) for f in ("p50_ms", "p99_ms")]
            cpu = [results.middle(system, cell, f) for f in ("server_cpu", "client_cpu")]
            rows.append([
                str(cell), system, f"{median(rates):,.0f}", f"{min(rates):,.0f}-{max(rates):,.0f}",
                *(f"{x:.2f}" for x in figures), *(f"{x:.3f}" for x in cpu),
                str(sum(s.errors for s in samples)),
            ])  # fmt: skip
    return table(head, rows)


def _ratios(results: Results, cells: list[Cell]) -> str:
    figures = ["per_s", "p50_ms", "p99_ms", "server_cpu"]
    rows = [
        [str(cell)]
        + [ratio(*(results.middle(s, cell, f) for s in ("ours", "etcd"))) for f in figures]
        for cell in cells
    ]
    return table(["connections", "ops/s", "p50", "p99", "server CPU"], rows)


def _ceilings(results: Results) -> str:
    rows = [
        [name, f"{s.per_s:,.0f}", f"{s.p50_ms:.2f}", f"{s.p99_ms:.2f}", f"{s.client_cpu:.4f}"]
        for name, s in results.ceilings.items()
    ]
    return table(["requests, 64 connections", "ops/s", "p50 ms", "p99 ms", "client CPU"], rows)
