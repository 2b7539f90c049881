"""Scenarios: everything that one seed decides, drawn at once and printed first.

A scenario is data. Running it again gives the same trace, and leaving a part of it out (a fault, a
client, some operations) gives another scenario that can be run: that is how failures are shrunk.
"""

import random
from collections.abc import Collection
from typing import Any

import msgspec

from kvstore.errors import InvalidArgument
from paxos.ballot import NodeId
from proof.simulation.machine.paths import Conditions

LEADER: NodeId = 0
"""In a fault: whoever leads when it begins."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong at `at_s` for `for_s`, on `nodes`; `amount` depends on the kind."""

    kind: str
    at_s: float
    for_s: float
    nodes: tuple[NodeId, ...] = ()
    amount: float = 0.0


class ClientPlan(msgspec.Struct, frozen=True):
    """One client: when it begins, how many calls it makes, and how it chooses them.

    `weights` are those of `CALLS`. A client sends to node `home` until that fails it (home LEADER:
    always to the one that has led longest, as a client does that has not heard of the next); with
    `retries` it sends a write again, under the same idempotency key, to another node.
    """

    id: int
    operations: int
    starts_s: float
    think_s: tuple[float, float]
    weights: tuple[int, ...]
    home: NodeId
    retries: int
    timeout_s: float


CALLS = (
    "get",
    "serializable get",
    "put",
    "compare and put",
    "put if absent",
    "delete",
    "compare and delete",
    "page",
    "old page",
    "transaction",
    "compact",
    "hand over",
)


class Scenario(msgspec.Struct, frozen=True):
    """A cluster, its surroundings, what goes wrong, and what is asked of it."""

    seed: int
    nodes: int
    phase1: int
    phase2: int
    settings: dict[str, Any]
    conditions: Conditions
    disk_latency_s: tuple[float, float]
    clock_rates: tuple[float, ...]
    clock_skews_ms: tuple[int, ...]
    log_tails: tuple[int, ...]
    keys: int
    clients: tuple[ClientPlan, ...]
    holders: tuple[ClientPlan, ...]
    watchers: int
    faults: tuple[Fault, ...]

    @property
    def chaos_ends_s(self) -> float:
        """When the last fault is over."""
        return max((fault.at_s + fault.for_s for fault in self.faults), default=0.0)

    def lines(self) -> list[str]:
        """For people, printed before anything runs."""
        conditions = self.conditions
        settings = ", ".join(f"{name}={value:g}" for name, value in self.settings.items())
        rates = ", ".join(f"{rate:.4f}" for rate in self.clock_rates)
        network = (
            f"delay {conditions.delay_s[0] * 1e3:.2f} to {conditions.delay_s[1] * 1e3:.2f} ms, "
            f"loss {conditions.loss:.3f}, repeat {conditions.repeat:.3f}, "
            f"overtake {conditions.overtake:.2f}, "
            f"{'held' if conditions.hold_when_cut else 'lost'} while cut"
        )
        return [
            f"seed {self.seed}: {self.nodes} nodes, phase 1 quorum {self.phase1}, "
            f"phase 2 quorum {self.phase2}",
            f"settings: {settings}",
            f"network: {network}",
            f"clock rates: {rates}",
            f"log tails: {', '.join(map(str, self.log_tails))} slots",
            f"{len(self.clients)} clients, {sum(c.operations for c in self.clients)} operations, "
            f"{self.keys} keys, {len(self.holders)} lease holders, {self.watchers} watchers",
            *(_fault_line(fault) for fault in self.faults),
        ]


def _fault_line(fault: Fault) -> str:
    nodes = ", ".join("leader" if node == LEADER else str(node) for node in fault.nodes)
    on = f" on {nodes}" if nodes else ""
    return f"{fault.at_s:7.3f} s  {fault.kind}{on} for {fault.for_s:.3f} s"


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
DISK_FAULTS = ("slow-disk", "failing-disk", "full-disk", "lost-disk")
HALF_OPEN = 0.3
"""Share of the runs in which connections die without a sign, besides what else happens."""
FAULTS = (*PROCESS_FAULTS, *NETWORK_FAULTS, *DISK_FAULTS)
"""All kinds, see `proof.simulation.cluster.nemesis` for what each does."""


def draw(seed: int, nodes: int | None = None, kinds: Collection[str] = FAULTS) -> Scenario:
    """The scenario of `seed` in the default swarm, or with so many `nodes` and these faults.

    Raises InvalidArgument if none of the kinds can happen to so few nodes. Source: Groce et al.,
    "Swarm Testing" (2012): many runs, each of which leaves most features out, find more than runs
    that mix them all.
    """
    rng = random.Random(f"{seed}/scenario")
    count = nodes or rng.choices((1, 2, 3, 4, 5, 6, 7), (3, 6, 40, 8, 28, 6, 9))[0]
    phase1, phase2 = _quorums(rng, count)
    settings = {**_settings(rng), **_log_settings(seed)}
    conditions = _conditions(rng, settings["tick_s"])
    length_s = rng.uniform(3, 9)
    return Scenario(
        seed=seed,
        nodes=count,
        phase1=phase1,
        phase2=phase2,
        settings=settings,
        conditions=conditions,
        disk_latency_s=rng.choice(((0.0003, 0.001), (0.0003, 0.004), (0.001, 0.02))),
        clock_rates=_rates(rng, count),
        clock_skews_ms=tuple(rng.choice((0, 0, 50, -700, 5000)) for _ in range(count)),
        log_tails=_log_tails(rng, count),
        keys=rng.choice((1, 2, 3, 5, 8)),
        clients=_clients(rng, count, length_s),
        holders=_holders(rng, count),
        watchers=rng.choice((0, 1, 3)),
        faults=_and_half_open(
            seed, count, length_s, kinds, _faults(rng, count, max(phase1, phase2), length_s, kinds)
        ),
    )


def _quorums(rng: random.Random, nodes: int) -> tuple[int, int]:
    majority = nodes // 2 + 1
    if rng.random() < 0.7:
        return majority, majority
    phase2 = rng.randint(1, nodes)
    return nodes + 1 - phase2, phase2


def _settings(rng: random.Random) -> dict[str, Any]:
    heartbeat = rng.choice((1, 2, 2, 3))
    return {
        "tick_s": rng.choice((0.01, 0.025, 0.025, 0.05)),
        "heartbeat_ticks": heartbeat,
        "election_ticks": heartbeat * rng.choice((4, 8, 8, 12)),
        "resend_ticks": rng.choice((3, 8)),
        "window": rng.choice((1, 2, 4, 8, 8)),
        "request_timeout_s": rng.choice((1.0, 2.0)),
        "batch_bytes_max": rng.choice((1, 200, 1000, 1 << 20)),
        "checkpoint_interval_s": rng.choice((0.05, 0.2, 1.0)),
        "log_piece_bytes": rng.choice((100, 1000, 1 << 20)),
        "snapshot_piece_bytes": rng.choice((300, 2000, 1 << 19)),
        "history_revisions": rng.choice((0, 10, 40, 1000)),
        "idempotency_ttl_s": rng.choice((60.0, 600.0)),
        "digest_slots": rng.choice((1, 4, 16)),
    }


def _log_settings(seed: int) -> dict[str, Any]:
    """Segments so small that the log goes through many. Drawn from a stream of its own, so that it
    changes nothing else of a scenario."""
    rng = random.Random(f"{seed}/log")
    return {"log_segment_bytes": rng.choice((4 << 10, 4 << 10, 8 << 10, 32 << 10))}


def _log_tails(rng: random.Random, nodes: int) -> tuple[int, ...]:
    """Each member may keep another length of its log: what one has truncated, another may hold."""
    tails = rng.choice(((2,), (10,), (40,), (400,), (2, 10, 40, 400)))
    return tuple(rng.choice(tails) for _ in range(nodes))


def _conditions(rng: random.Random, tick_s: float) -> Conditions:
    fast = rng.choice(((0.0001, 0.0005), (0.0002, 0.002), (0.001, 0.01)))
    tcp = rng.random() < 0.4
    return Conditions(
        delay_s=fast,
        tail_probability=rng.choice((0.0, 0.01, 0.05)),
        tail_factor=rng.choice((5.0, 30.0)),
        loss=0.0 if tcp else rng.choice((0.0, 0.005, 0.03, 0.1)),
        repeat=0.0 if tcp else rng.choice((0.0, 0.01, 0.1)),
        overtake=0.0 if tcp else rng.choice((0.0, 0.1, 0.5)),
        hold_when_cut=rng.random() < 0.5,
    )


def _rates(rng: random.Random, nodes: int) -> tuple[float, ...]:
    """Mostly good clocks; at times beyond any bound that a system could state."""
    spread = rng.choice((0.0, 0.0005, 0.01, 0.2, 0.5))
    return tuple(1 + rng.uniform(-spread, spread) for _ in range(nodes))


def _clients(rng: random.Random, nodes: int, length_s: float) -> tuple[ClientPlan, ...]:
    weights = (
        rng.choice((10, 20, 40)),
        rng.choice((0, 5)),
        rng.choice((10, 20, 40)),
        rng.choice((0, 5, 20)),
        rng.choice((0, 5)),
        rng.choice((0, 5, 10)),
        rng.choice((0, 3)),
        rng.choice((0, 4)),
        rng.choice((0, 4)),
        rng.choice((0, 5, 20)),
        rng.choice((0, 0, 1)),
        rng.choice((0, 0, 1)),
    )
    count = rng.randint(2, 7)
    operations = rng.choice((15, 30, 50))
    think_s = 1.2 * length_s / operations
    bursts = rng.random() < 0.25
    plans = [
        ClientPlan(
            id=number,
            operations=operations,
            starts_s=rng.uniform(0, length_s) if bursts else 0.0,
            think_s=(0.0, 0.005 if bursts else rng.choice((think_s, think_s, 2 * think_s))),
            weights=weights,
            home=rng.randint(1, nodes),
            retries=rng.choice((0, 2, 5)),
            timeout_s=rng.choice((0.3, 1.0, 3.0)),
        )
        for number in range(1, count + 1)
    ]
    if rng.random() < 0.5:
        reads_only = (1,) + (0,) * (len(CALLS) - 1)
        reads = 100
        gap_s = 2 * length_s / reads
        plans.append(ClientPlan(count + 1, reads, 0.0, (0.0, gap_s), reads_only, LEADER, 0, 0.3))
    return tuple(plans)


def _holders(rng: random.Random, nodes: int) -> tuple[ClientPlan, ...]:
    """Clients that hold leases; of their plans only homes and patience count."""
    return tuple(
        ClientPlan(
            id=number,
            operations=0,
            starts_s=rng.uniform(0, 2),
            think_s=(0.0, 0.0),
            weights=(),
            home=rng.randint(1, nodes),
            retries=rng.choice((0, 2)),
            timeout_s=rng.choice((0.3, 1.0)),
        )
        for number in range(101, 101 + rng.choice((0, 1, 3)))
    )


def _faults(
    rng: random.Random,
    nodes: int,
    quorum: int,
    length_s: float,
    kinds: Collection[str],
) -> tuple[Fault, ...]:
    possible = sorted(set(kinds) & set(FAULTS))
    if possible != ["half-open"]:  # else they are drawn beside these
        possible = [kind for kind in possible if kind != "half-open"]
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
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _and_half_open(
    seed: int, nodes: int, length_s: float, kinds: Collection[str], others: tuple[Fault, ...]
) -> tuple[Fault, ...]:
    """Beside these faults, in some runs, connections that are dead without a sign. Drawn from a
    stream of its own, so that it changes nothing else of a scenario."""
    rng = random.Random(f"{seed}/half-open")
    if "half-open" not in kinds or nodes == 1 or rng.random() > HALF_OPEN:
        return others
    faults = [
        Fault("half-open", rng.uniform(0.5, length_s), 0.1, _victims(rng, "half-open", nodes))
        for _ in range(rng.choice((1, 1, 3)))
    ]
    return tuple(sorted([*others, *faults], key=lambda fault: fault.at_s))


def _victims(rng: random.Random, kind: str, nodes: int) -> tuple[NodeId, ...]:
    members = list(range(1, nodes + 1))
    if kind in ("kill-all", "power-all", "chain"):
        return tuple(rng.sample(members, nodes))
    if kind in ("split", "bridge"):
        return tuple(rng.sample(members, max(1, nodes // 2)))
    if kind == "lost-disk":
        return (rng.choice(members),)
    if kind in ("hand-over", "dying", "depose") or rng.random() < 0.5:
        return (LEADER,)
    if kind in ("kill", "power", "pause", "slow-disk") and rng.random() < 0.3:
        return tuple(rng.sample(members, max(1, (nodes - 1) // 2)))
    return (rng.choice(members),)
