"""Links that fail for some pairs only: if some member reaches a quorum, there is a leader soon.

The scenarios are those of Ng, Haridi and Carbone, "Omni-Paxos" (EuroSys 2023), section 2.
"""

from collections.abc import Iterable

import pytest

from paxos.ballot import NodeId
from tests.support.paxos_cluster import TIMEOUT, Cluster

Link = frozenset[NodeId]
SEEDS = range(40)
TIMEOUTS_MAX = 4
"""Election time-outs from the fault to the first value chosen."""


def links(*pairs: tuple[NodeId, NodeId]) -> set[Link]:
    return {frozenset(pair) for pair in pairs}


def star(hub: NodeId, others: Iterable[NodeId]) -> set[Link]:
    return links(*((hub, other) for other in others))


def tick_all(cluster: Cluster, up: set[Link]) -> None:
    """Everyone's time passes, and the links in `up` carry what is sent."""
    for i in cluster.up:
        cluster.tick(i)
    for _ in range(10_000):
        cluster.drop(lambda packet: frozenset(packet[:2]) in up)
        if not cluster.network:
            return
        cluster.deliver()
    raise AssertionError("the network never falls silent")


def ticks_to_write(cluster: Cluster, up: set[Link], limit: int = 60 * TIMEOUT) -> int:
    """How long until somebody gets a new value chosen, as clients at every member try."""
    before = cluster.applied_anywhere
    for ticks in range(limit):
        for i in cluster.leaders:
            if cluster.node(i).can_propose:
                cluster.propose(i, b"%d at %d" % (ticks, i))
        tick_all(cluster, up)
        if any(cluster.history[slot] for slot in range(before + 1, cluster.applied_anywhere + 1)):
            return ticks
    raise AssertionError("nobody ever leads")


def led_by_one(n: int, seed: int) -> Cluster:
    cluster = Cluster(n, seed=seed)
    cluster.elect(1)
    cluster.propose(1, b"before")
    cluster.run(3)
    return cluster


QUORUM_LOSS = star(2, [1, 3, 4, 5])
"""Only node 2 reaches others; the leader, node 1, still reaches it."""
CONSTRAINED = star(2, [3, 4, 5])
"""Only node 2 reaches others, and the leader nobody."""
CHAIN = links((1, 2), (2, 3), (3, 4), (4, 5))


@pytest.mark.parametrize("up", [QUORUM_LOSS, CONSTRAINED, CHAIN], ids=["loss", "alone", "chain"])
def test_who_alone_reaches_a_quorum_leads_soon(up: set[Link]) -> None:
    took = []
    for seed in SEEDS:
        cluster = led_by_one(5, seed)
        took.append(ticks_to_write(cluster, up))
    assert max(took) <= TIMEOUTS_MAX * TIMEOUT, sorted(took)


@pytest.mark.parametrize("behind", [0, 20])
def test_a_hub_that_is_behind_leads_all_the_same(behind: int) -> None:
    """The constrained election: the only one that can lead lacks what was chosen last."""
    took = []
    for seed in SEEDS:
        cluster = led_by_one(5, seed)
        for number in range(behind):
            cluster.propose(1, b"missed %d" % number)
            cluster.settle({1, 3, 4, 5})
        took.append(ticks_to_write(cluster, CONSTRAINED))
        assert cluster.leaders[-1] == 2
    assert max(took) <= TIMEOUTS_MAX * TIMEOUT, sorted(took)


def test_a_chain_of_three_keeps_its_leader() -> None:
    """A leader at one end reaches the middle, which refuses to help the other end."""
    for seed in SEEDS:
        cluster = led_by_one(3, seed)
        for _ in range(20 * TIMEOUT):
            tick_all(cluster, links((1, 2), (2, 3)))
            assert cluster.leaders == [1]


@pytest.mark.proof
def test_all_cut_for_long_and_healed_lead_soon() -> None:
    """Failed attempts have widened every member's range; links that come up end that."""
    took = []
    every = {frozenset((i, j)) for i in range(1, 6) for j in range(1, i)}
    for seed in SEEDS:
        cluster = led_by_one(5, seed)
        for _ in range(150 * TIMEOUT):
            tick_all(cluster, set())
        for i in cluster.ids:
            for peer in cluster.ids:
                cluster.node(i).reached(peer)
        took.append(ticks_to_write(cluster, every))
    assert max(took) <= TIMEOUT, sorted(took)
