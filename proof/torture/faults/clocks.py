"""A wall clock that steps, by minutes to years, in both directions, and back again.

Leases, time-outs and answers kept for idempotency keys must not notice: the load judges them.
"""

from collections.abc import AsyncIterator

from proof.torture.faults.disks import needs_grips
from proof.torture.faults.kinds import Group, Target, fault

STEPS_S = {"3 minutes": 180.0, "2 hours": 7200.0, "8 days": 691_200.0, "10 years": 315_576_000.0}


@fault("step-clock", "the wall clock of one node or of all jumps", Group.SURROUNDINGS,
       unavailable=needs_grips)  # fmt: skip
async def _step_clock(target: Target) -> AsyncIterator[str]:
    rng, grips = target.rng, target.places.grips
    every = rng.random() < 0.2
    nodes = target.numbers if every else [await target.victim()]
    text = rng.choice(list(STEPS_S))
    ahead = rng.random() < 0.5
    lives = [target.lives(node) for node in nodes]
    before = sum(grips[node].shifted for node in nodes)
    for node in nodes:
        grips[node].step(STEPS_S[text] if ahead else -STEPS_S[text])
    try:
        yield f"the clocks of nodes {nodes} are {text} {'ahead' if ahead else 'behind'}"
    finally:
        for node in nodes:
            grips[node].step(0.0)
    target.count(
        "readings of a wall clock that was wrong",
        sum(grips[node].shifted for node in nodes) - before,
        judged=lives == [target.lives(node) for node in nodes],
    )
