"""`make bench-full`: every part in turn, one Markdown page, JSON with machine facts, and plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.clients.load import LoadFailed
from benchmarks.parts import (
    compared,
    curve,
    endurance,
    failover,
    growth,
    idle,
    profile,
    watchers,
)
from benchmarks.parts.plan import BenchPlan, Section
from benchmarks.shared.plots import draw
from benchmarks.shared.probe import Unreachable
from benchmarks.shared.procfs import facts
from benchmarks.shared.session import RESULTS, publish, say
from benchmarks.systems.clusters import ClusterFailed

PARTS: dict[str, Callable[[BenchPlan], Section]] = {
    "compared": compared.run,
    "large": compared.large,
    "profile": profile.run,
    "curve": curve.run,
    "failover": failover.run,
    "endurance": endurance.run,
    "growth": growth.run,
    "idle": idle.run,
    "watchers": watchers.run,
}


def run(plan: BenchPlan, only: Sequence[str], output: Path | None) -> bool:
    """The parts that are wanted, all if none is named; whether all went well.

    A part that fails does not keep the others from being measured. Raises KeyError for a name that
    no part has.
    """
    chosen = {name: PARTS[name] for name in only or PARTS}
    pictures = output.parent if output else RESULTS
    machine, sections = facts(plan.directory), dict[str, Section]()
    for name, part in chosen.items():
        say(f"== {name}")
        try:
            sections[name] = part(plan)
        except (ClusterFailed, LoadFailed, Unreachable, TimeoutError) as error:
            sections[name] = Section(name, "Failed.", None, problems=(str(error) or repr(error),))
        for file, plot in sections[name].plots.items():
            draw(pictures / f"{file}.png", plot.x_label, plot.panels)
    text = page(machine, sections)
    say("\n" + text)
    data = {"machine": machine, **{name: found.data for name, found in sections.items()}}
    publish(text, "full", output, data)
    return not any(found.problems for found in sections.values())


def page(machine: dict[str, object], sections: dict[str, Section]) -> str:
    """Markdown; pictures are beside it."""
    parts = ["# Benchmarks", "\n".join(f"- {name}: {fact}" for name, fact in machine.items())]
    for found in sections.values():
        parts += [f"## {found.title}", found.text]
        parts += [f"![{file}]({file}.png)" for file in found.plots]
        parts += [f"FAILED: {problem}" for problem in found.problems]
    return "\n\n".join(parts) + "\n"
