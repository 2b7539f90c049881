"""Seeded random schedules: every fault the model knows, then a healed network that must progress.

One seed replays everything. The invariants are the cluster's; here is the chaos. A run in which
nothing was chosen, or in which a kind of fault never happened, fails: it tested nothing.
"""

import random
from collections import Counter
from functools import cache

import pytest

from paxos.ballot import NodeId
from paxos.quorum import QuorumSystem, flexible, majority
from tests.support.examples import TIMES
from tests.support.paxos_cluster import Cluster

STEPS = 8000
SEEDS = 66 * TIMES
HEAL_TICKS = 400

QUORUMS: list[QuorumSystem] = [
    majority(range(1, 4)),
    majority(range(1, 6)),
    majority(range(1, 2)),
    majority(range(1, 5)),
    flexible(range(1, 6), phase2=2),
    majority(range(1, 3)),
    flexible(range(1, 5), phase2=2),
    majority(range(1, 8)),
    flexible(range(1, 4), phase2=1),
    flexible(range(1, 5), phase2=4),
]


class Chaos:
    """One random schedule over a cluster."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        quorums = QUORUMS[seed % len(QUORUMS)]
        self.cluster = Cluster(
            quorums=quorums,
            seed=seed,
            slow_disk=self.random.random() < 0.7,
            election_ticks=6,
            resend_ticks=3,
            window=self.random.choice([1, 2, 4]),
            ahead_max=self.random.choice([3, 256]),
        )
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.slow: set[tuple[NodeId, NodeId]] = set()
        self.patience = self.random.choice([0.5, 0.9, 0.99])
        self.loss = self.random.choice([0.0, 0.02, 0.2])
        self.duplication = self.random.choice([0.0, 0.1])
        self.reordering = self.random.choice([0.0, 0.2, 1.0])
        self.names = 0
        self.moves = [
            (self.tick, 30),
            (self.deliver, 250),
            (self.flush, 40),
            (self.propose, 12),
            (self.read, 6),
            (self.crash, 0.4),
            (self.restart, 1.5),
            (self.partition, 0.3),
            (self.mend, 0.6),
            (self.delay, 0.5),
            (self.truncate, 0.8),
            (self.snapshot, 2),
            (self.hand_over, 0.3),
            (self.suspect, 0.8),
        ]

    def run(self) -> None:
        moves, weights = zip(*self.moves, strict=True)
        for move in self.random.choices(moves, weights, k=STEPS):
            move()
        for i in self.cluster.up:
            self.cluster.check_log(i)

    def any_up(self) -> NodeId | None:
        up = self.cluster.up
        return self.random.choice(up) if up else None

    def name(self) -> int:
        self.names += 1
        return self.names

    # -- moves ------------------------------------------------------------------------------

    def tick(self) -> None:
        if (i := self.any_up()) is not None:
            self.cluster.tick(i)

    def flush(self) -> None:
        if (i := self.any_up()) is not None:
            self.cluster.flush(i)

    def deliver(self) -> None:
        network = self.cluster.network
        if not network:
            return
        index = 0
        if self.random.random() < self.reordering:
            index = self.random.randrange(len(network))
            self.done["reordered"] += 1
        if network[index][:2] in self.slow and self.random.random() < self.patience:
            network.append(network.pop(index))
            return
        if network[index][:2] in self.cut or self.random.random() < self.loss:
            del network[index]
            self.done["lost"] += 1
            return
        if self.random.random() < self.duplication:
            network.append(network[index])
            self.done["duplicated"] += 1
        self.cluster.deliver(index)

    def propose(self) -> None:
        for i in self.cluster.leaders:
            if self.cluster.node(i).can_propose:
                self.cluster.propose(i, b"%d" % self.name())

    def read(self) -> None:
        """Half of the reads go to whoever believes to lead, deposed or not."""
        asked = self.cluster.leaders if self.random.random() < 0.5 else [self.any_up()]
        for i in asked:
            if i is not None:
                self.cluster.read(i, self.name())
                self.done["asked"] += 1

    def crash(self) -> None:
        if (i := self.any_up()) is not None:
            self.cluster.crash(i)
            self.done["crashed"] += 1

    def restart(self) -> None:
        for i in self.cluster.ids:
            if self.cluster.hosts[i].node is None:
                self.cluster.restart(i)
                return

    def partition(self) -> None:
        """Whole groups, or single directions of single links."""
        ids = self.cluster.ids
        if len(ids) == 1:
            return
        self.done["cut"] += 1
        if self.random.random() < 0.5:
            side = set(self.random.sample(ids, self.random.randrange(1, len(ids))))
            self.cut |= {(a, b) for a in ids for b in ids if (a in side) != (b in side)}
        else:
            self.cut |= {tuple(self.random.sample(ids, 2)) for _ in ids}  # type: ignore[misc]

    def mend(self) -> None:
        self.cut.clear()

    def delay(self) -> None:
        """Some links hold what they carry for long, while others stay quick."""
        links = [(a, b) for a in self.cluster.ids for b in self.cluster.ids if a != b]
        self.slow = set(self.random.sample(links, self.random.randrange(1 + len(links) // 2)))

    def truncate(self) -> None:
        if (i := self.any_up()) is not None:
            applied = self.cluster.hosts[i].applied_through
            self.cluster.truncate(i, self.random.randrange(1, applied + 2))
            self.done["truncated"] += 1

    def snapshot(self) -> None:
        for i in self.cluster.up:
            self.done["installed"] += self.cluster.install_snapshot(i)

    def hand_over(self) -> None:
        for i in self.cluster.leaders:
            to = self.random.choice(self.cluster.ids)
            self.done["handed over"] += self.cluster.hand_over(i, to)

    def suspect(self) -> None:
        """All links to one node seem to break, which stands for a new leader beside the old."""
        peer = self.random.choice(self.cluster.leaders or self.cluster.ids)
        for i in self.cluster.up:
            self.cluster.node(i).suspect(peer)
            self.cluster.drain(i)


def heal(cluster: Cluster) -> None:
    """The network is whole, everyone is up: the old and the new must be applied everywhere."""
    for i in cluster.ids:
        if cluster.hosts[i].node is None:
            cluster.restart(i)
    for tick in range(HEAL_TICKS):
        cluster.run(1)
        for i in cluster.leaders:
            if tick >= HEAL_TICKS // 2 and cluster.node(i).can_propose:
                cluster.propose(i, b"healed")
        cluster.settle()
        applied = {host.applied_through for host in cluster.hosts.values()}
        if len(applied) == 1 and cluster.history.get(applied.pop()) == b"healed":
            break
    else:
        raise AssertionError(f"no progress in {HEAL_TICKS} ticks: leaders {cluster.leaders}")
    for i in cluster.ids:
        cluster.read(i, 0)
        cluster.run(4)
        assert 0 in cluster.hosts[i].reads, f"node {i} cannot read in a healthy cluster"
        assert cluster.node(i).reads.waiting == 0
        cluster.check_log(i)


@cache
def outcome(batch: int) -> Counter[str]:
    """What happened in one batch of seeds; any violation is raised with its seed."""
    done: Counter[str] = Counter()
    for seed in range(batch, SEEDS, len(QUORUMS)):
        chaos = Chaos(seed)
        try:
            chaos.run()
            done.update(chaos.done)
            done["chosen"] += chaos.cluster.applied_anywhere
            done["read"] += sum(len(host.reads) for host in chaos.cluster.hosts.values())
            heal(chaos.cluster)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        assert chaos.cluster.applied_anywhere > 0, f"seed {seed} chose nothing"
    return done


@pytest.mark.parametrize("batch", range(len(QUORUMS)))
def test_schedules(batch: int) -> None:
    done = outcome(batch)
    wanted = {"chosen", "read", "crashed", "truncated"}
    if len(QUORUMS[batch].members) > 1:
        wanted |= {"lost", "duplicated", "reordered", "cut", "handed over"}
    assert not {kind for kind in wanted if not done[kind]}, f"a fault is missing: {done}"


def test_rare_faults_occur_somewhere() -> None:
    done = sum((outcome(batch) for batch in range(len(QUORUMS))), Counter())
    assert done["installed"] > 10, f"hardly a snapshot was needed: {done}"
