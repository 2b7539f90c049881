"""What is asked of a scenario's cluster: the plans of its clients, and how one seed draws them."""

import random

import msgspec

from paxos.ballot import NodeId
from proof.simulation.cluster.fault_plan import LEADER


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


def draw_clients(rng: random.Random, nodes: int, length_s: float) -> tuple[ClientPlan, ...]:
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


def draw_holders(rng: random.Random, nodes: int) -> tuple[ClientPlan, ...]:
    """Clients that hold leases."""
    return _plain(rng, nodes, 101, rng.choice((0, 1, 3)))


def draw_others(
    seed: int, kind: str, first_id: int, counts: tuple[int, ...], nodes: int
) -> tuple[ClientPlan, ...]:
    """Clients that follow a program of their own, as many as one of `counts` says. Each kind has
    its own stream, so that it changes nothing else of a scenario."""
    rng = random.Random(f"{seed}/{kind}")
    return _plain(rng, nodes, first_id, rng.choice(counts))


def _plain(rng: random.Random, nodes: int, first_id: int, count: int) -> tuple[ClientPlan, ...]:
    """Of these plans only the start, the home and the patience count."""
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
        for number in range(first_id, first_id + count)
    )
