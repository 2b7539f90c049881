"""Where the time of a put goes."""

from __future__ import annotations

from benchmarks import put_profile
from benchmarks.parts.plan import BenchPlan, Section


def run(plan: BenchPlan) -> Section:
    """As `--profile` prints it."""
    effort = plan.effort
    found = put_profile.run(
        plan.home("profile"), 2 * effort.seconds, effort.client, effort.steady_writes
    )
    problems = ("a stage counted nothing",) if found.failed else ()
    return Section("Where the time of a put goes", found.text, None, problems=problems)
