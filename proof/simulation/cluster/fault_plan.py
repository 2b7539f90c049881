"""What goes wrong in a scenario: kinds of faults, and how one seed draws them."""

import random
from collections.abc import Collection

import msgspec

from kvstore.errors import InvalidArgument
from paxos.ballot import NodeId

LEADER: NodeId = 0
"""In a fault: whoever leads when it begins."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong at `at_s` for `for_s`, on `nodes`; `amount` depends on the kind."""

    kind: str
    at_s: float
    for_s: float
    nodes: tuple[NodeId, ...] = ()
    amount: float = 0.0


NETWORK_FAULTS = (
    "isolate",
    "split",
    "one-way",
    "bridge",
    "chain",
    "only-by-one",
    "flap",
    "slow-links",
    "lossy-links",
    "depose",
    "half-open",
    "laggard",
)
PROCESS_FAULTS = (
    "kill",
    "kill-all",
    "power",
    "power-all",
    "dying",
    "pause",
    "restart",
    "hand-over",
)
DISK_FAULTS = (
    "slow-disk", "failing-disk", "full-disk", "lost-disk", "hung-disk", "wipe", "old-disk",
)  # fmt: skip
CLOCK_FAULTS = ("wall-step",)
BESIDE = {
    "half-open": 0.3, "hung-disk": 0.15, "wall-step": 0.15, "laggard": 0.1, "wipe": 0.3,
    "old-disk": 0.1,
}  # fmt: skip
"""Share of the runs in which these happen besides what else does."""
FAULTS = (*PROCESS_FAULTS, *NETWORK_FAULTS, *DISK_FAULTS, *CLOCK_FAULTS)
"""All kinds, see `proof.simulation.cluster.nemesis` for what each does."""


def draw_faults(
    rng: random.Random,
    seed: int,
    nodes: int,
    quorum: int,
    length_s: float,
    kinds: Collection[str],
) -> tuple[Fault, ...]:
    """In the order of time. Raises InvalidArgument if none of `kinds` can happen to so few nodes;
    one that has lost its disk never comes back, and the others must reach `quorum`."""
    faults = _main_faults(rng, nodes, quorum, length_s, kinds)
    for kind, share in BESIDE.items():
        alone = nodes == 1 and kind in (*NETWORK_FAULTS, "wipe", "old-disk")
        if kind in kinds and not alone:
            faults += _beside(kind, share, seed, nodes, length_s)
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _main_faults(
    rng: random.Random, nodes: int, quorum: int, length_s: float, kinds: Collection[str]
) -> list[Fault]:
    possible = sorted(set(kinds) & set(FAULTS))
    if not set(possible) <= BESIDE.keys():  # else there would be none
        possible = [kind for kind in possible if kind not in BESIDE]
    if nodes == 1:
        possible = [k for k in possible if k not in (*NETWORK_FAULTS, "hand-over")]
    if nodes - 1 < quorum and "lost-disk" in possible:
        possible.remove("lost-disk")
    if not possible:
        raise InvalidArgument("faults", f"faults: none of these can happen to {nodes} nodes")
    # Nothing else leaves gaps in the log, and those are rare enough.
    pool = [*possible, *(["dying"] * 3 if "dying" in possible else [])]
    chosen = rng.sample(pool, min(len(pool), rng.randint(1, 4)))
    if set(chosen) <= {"hand-over", "depose"}:
        chosen.append("kill")  # nobody may lead when it is asked for, and a run needs a fault
    faults = []
    for _ in range(rng.choice((2, 4, 7, 12))):
        kind = rng.choice(chosen)
        if kind == "lost-disk":
            chosen = [k for k in chosen if k != kind] or ["kill"]
        at_s = rng.uniform(0.0 if rng.random() < 0.1 else 0.5, length_s)
        for_s = rng.choice((0.02, 0.3, 1.0, 2.5)) * rng.uniform(0.5, 1.5)
        faults.append(Fault(kind, at_s, for_s, _victims(rng, kind, nodes), rng.random()))
    return sorted(faults, key=lambda fault: fault.at_s)


def _beside(kind: str, share: float, seed: int, nodes: int, length_s: float) -> list[Fault]:
    """Beside the other faults. Drawn from a stream of its own, so that it changes nothing else of
    a scenario."""
    rng = random.Random(f"{seed}/{kind}")
    if rng.random() > share:
        return []
    faults = []
    for _ in range(rng.choice((1, 1, 3))):
        at_s, nodes_hit = rng.uniform(0.5, length_s), _victims(rng, kind, nodes)
        if kind == "half-open":
            for_s, amount = 0.1, 0.0
        elif kind in ("wipe", "old-disk"):
            for_s, amount = rng.choice((0.05, 0.5, 2.0)) * rng.uniform(0.5, 1.5), rng.random()
        else:
            for_s, amount = rng.choice((0.5, 2.0, 6.0)) * rng.uniform(0.5, 1.5), rng.random()
        faults.append(Fault(kind, at_s, for_s, nodes_hit, amount))
    return faults


def _victims(rng: random.Random, kind: str, nodes: int) -> tuple[NodeId, ...]:
    members = list(range(1, nodes + 1))
    if kind in ("kill-all", "power-all", "chain"):
        return tuple(rng.sample(members, nodes))
    if kind in ("split", "bridge"):
        return tuple(rng.sample(members, max(1, nodes // 2)))
    if kind in ("lost-disk", "laggard"):
        return (rng.choice(members),)
    if kind in ("hand-over", "dying", "depose") or rng.random() < 0.5:
        return (LEADER,)
    if kind in ("kill", "power", "pause", "slow-disk") and rng.random() < 0.3:
        return tuple(rng.sample(members, max(1, (nodes - 1) // 2)))
    return (rng.choice(members),)
