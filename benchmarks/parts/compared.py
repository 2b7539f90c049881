"""All scenarios side by side: what `make bench` measures, and more; and values of 1 MiB."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.comparison import compare
from benchmarks.parts.plan import BenchPlan, Section
from benchmarks.report import figures_table, summary
from benchmarks.scenarios import LARGE, MORE, SIDE_BY_SIDE, BenchScenario


def run(plan: BenchPlan) -> Section:
    """Every system that is there."""
    return _compared(plan, "Side by side", (*SIDE_BY_SIDE, *MORE))


def large(plan: BenchPlan) -> Section:
    """Clusters of their own: what is kept of such values would be in the way of the others."""
    return _compared(plan, "Values of 1 MiB", LARGE)


def _compared(plan: BenchPlan, title: str, scenarios: Sequence[BenchScenario]) -> Section:
    home = plan.home(scenarios[0].name)
    found = compare(scenarios, plan.effort, home, plan.systems)
    head = "\n".join(f"- {line}" for line in found.head)
    return Section(
        title,
        "\n\n".join([head, summary(found), figures_table(found)]),
        found.as_json(),
        problems=tuple(found.problems),
    )
