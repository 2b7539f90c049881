"""Scenarios: everything that one seed decides, drawn at once and printed first.

A scenario is data. Running it again gives the same trace, and leaving a part of it out (a fault, a
client, some operations) gives another scenario that can be run: that is how failures are shrunk.
"""

import random
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec.structs import replace

from kvstore.config import COMMAND_BYTES_MAX, FRAME_HEAD_BYTES
from proof.simulation.cluster.fault_plan import FAULTS, LEADER, Fault, draw_faults
from proof.simulation.cluster.plans import ClientPlan, draw_clients, draw_holders, draw_others
from proof.simulation.machine.paths import MOMENT_S, Conditions


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
    bulk: tuple[ClientPlan, ...] = ()
    """Clients with large commands and large answers."""
    repeaters: tuple[ClientPlan, ...] = ()
    """Clients that repeat requests until their idempotency keys have expired."""
    administrators: tuple[ClientPlan, ...] = ()
    """Clients that change users, roles and rights; then all others act as users."""
    users: tuple[ClientPlan, ...] = ()
    """Clients that act as users whose rights change."""
    operators: tuple[ClientPlan, ...] = ()
    """Clients that change the members of the cluster."""
    spares: int = 0
    """Machines beside those that found the cluster, for operators to take in."""
    apply_s: float = 0.0
    """What applying one slot takes of a node's time."""

    @property
    def everybody(self) -> tuple[ClientPlan, ...]:
        """The plans of all clients."""
        others = (
            *self.bulk, *self.repeaters, *self.administrators, *self.users, *self.operators
        )  # fmt: skip
        return (*self.clients, *self.holders, *others)

    @property
    def chaos_ends_s(self) -> float:
        """When the last fault is over."""
        return max((fault.at_s + fault.for_s for fault in self.faults), default=0.0)

    def lines(self) -> list[str]:
        """For people, printed before anything runs."""
        conditions = self.conditions
        settings = ", ".join(f"{name}={_shown(value)}" for name, value in self.settings.items())
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
            f"{self.keys} keys, {len(self.holders)} lease holders, {self.watchers} watchers, "
            f"{len(self.bulk)} with large commands, {len(self.repeaters)} that repeat, "
            f"{len(self.administrators)} administrators, {len(self.users)} users, "
            f"{len(self.operators)} operators with {self.spares} spare machines; "
            f"a slot takes {self.apply_s * 1e3:g} ms",
            *(_fault_line(fault) for fault in self.faults),
        ]


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _fault_line(fault: Fault) -> str:
    nodes = ", ".join("leader" if node == LEADER else str(node) for node in fault.nodes)
    on = f" on {nodes}" if nodes else ""
    return f"{fault.at_s:7.3f} s  {fault.kind}{on} for {fault.for_s:.3f} s"


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
    conditions = _conditions(rng, seed)
    length_s = rng.uniform(3, 9)
    drawn = Scenario(
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
        clients=draw_clients(rng, count, length_s),
        holders=draw_holders(rng, count),
        watchers=rng.choice((0, 1, 3)),
        faults=draw_faults(rng, seed, count, max(phase1, phase2), length_s, kinds),
        **_company(seed, count, settings),
        **_operators(seed, count),
    )
    drawn = replace(drawn, settings=drawn.settings | _member_settings(drawn))
    return _with_laggards(drawn) if any(f.kind == "laggard" for f in drawn.faults) else drawn


def _with_laggards(scenario: Scenario) -> Scenario:
    """What makes one: some have truncated what others hold, and slots wait to be applied."""
    rng = random.Random(f"{scenario.seed}/tails")
    tails = tuple(rng.choice((2, 2, 400)) for _ in range(scenario.nodes))
    settings = scenario.settings | {"log_piece_bytes": 1 << 20}
    return replace(scenario, log_tails=tails, apply_s=0.012, settings=settings)


def _company(seed: int, nodes: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Further clients, in some runs, and what goes with them."""
    bulk = draw_others(seed, "bulk", 201, (0,) * 5 + (1, 2), nodes)
    if bulk:  # large states in small pieces would travel for ever
        settings["snapshot_piece_bytes"] = 1 << 19
        settings["log_piece_bytes"] = 1 << 20
    slot = 2 * settings["batch_bytes_max"] + COMMAND_BYTES_MAX
    piece = max(slot + (1 << 20), settings["snapshot_piece_bytes"])
    settings["frame_bytes_max"] = piece + FRAME_HEAD_BYTES
    administrators = draw_others(seed, "administrators", 401, (0,) * 3 + (1, 2), nodes)
    return {
        "bulk": bulk,
        "repeaters": draw_others(seed, "repeaters", 301, (0, 0, 1, 2), nodes),
        "administrators": administrators,
        "users": draw_others(seed, "users", 451, (1, 3), nodes) if administrators else (),
        "apply_s": random.Random(f"{seed}/apply").choice((0.0, 0.0, 0.003)),
    }


def _operators(seed: int, nodes: int) -> dict[str, Any]:
    """Who changes the members, in some runs. Drawn from streams of their own."""
    operators = draw_others(seed, "operators", 551, (0, 0, 0, 1, 1, 2), nodes)
    spares = random.Random(f"{seed}/spares").choice((1, 2, 2, 3)) if operators else 0
    return {"operators": operators, "spares": spares}


def _member_settings(scenario: Scenario) -> dict[str, Any]:
    """How the members may change. A disk that is lost for good is replaced by nobody."""
    rng = random.Random(f"{scenario.seed}/members")
    lost = any(fault.kind == "lost-disk" for fault in scenario.faults)
    return {
        "distance": max(scenario.settings["window"], rng.choice((1, 4, 8, 16, 32))),
        "close_slots": rng.choice((2, 8, 64)),
        "replace_lost": "manual" if lost else "automatic",
        "replace_lost_after_s": rng.choice((0.3, 1.0)),
    }


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


def _conditions(rng: random.Random, seed: int) -> Conditions:
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
        moment_s=random.Random(f"{seed}/moments").choice((*[MOMENT_S] * 3, 1e-3, 3e-3)),
    )


def _rates(rng: random.Random, nodes: int) -> tuple[float, ...]:
    """Mostly good clocks; at times beyond any bound that a system could state."""
    spread = rng.choice((0.0, 0.0005, 0.01, 0.2, 0.5))
    return tuple(1 + rng.uniform(-spread, spread) for _ in range(nodes))
