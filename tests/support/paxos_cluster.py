"""Real nodes on an in-memory disk and network, driven by hand, with every invariant watched.

The cluster obeys `Effects` as a replica must: `send_first` leaves at once; `persist` and `send`
wait in the host's write queue until `flush`, which puts the records on disk and then lets the
messages go, the host's own among them. A crash loses the write queue.

Invariants, checked at every step:

- agreement: one value per slot, over every state machine and over every count of durable votes;
- order: state machines apply slots without gap or repeat;
- stability: what a log holds in its chosen prefix is the chosen value, also after a restart;
- durable promise: no answer leaves before the disk backs it, and no restart takes one back;
- fresh reads: a read names no slot below what had been applied anywhere when it was asked.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.effects import Effects
from paxos.messages import Accept, Accepted, AnyMessage, Prepare, Promise
from paxos.node import Node
from paxos.node_config import NodeConfig
from paxos.quorum import QuorumSystem, majority
from paxos.records import Record, RecordFold

Packet = tuple[NodeId, NodeId, AnyMessage]
"""Sender, receiver, message."""

Jitter = Callable[[NodeId, int], int]
"""A node and n; a number in [0, n)."""

TIMEOUT = 16
"""`election_ticks` of a node with the default configuration."""

Group = tuple[list[Record], list[tuple[NodeId, AnyMessage]]]
"""One durable write, and the messages that are true after it."""


@dataclass
class Host:
    """One member: a node or none (crashed), its disk, and how far its state machine is."""

    node: Node | None = None
    starts: int = 0
    disk: RecordFold = field(default_factory=RecordFold)
    writing: deque[Group] = field(default_factory=deque)
    applied_through: Slot = 0
    checkpoint: Slot = 0
    answered: Ballot = ZERO
    snapshot_from: NodeId | None = None
    reads: dict[int, Slot] = field(default_factory=dict)


class Cluster:
    """Members 1 to n. With `slow_disk` nothing is durable until `flush` is called."""

    def __init__(
        self,
        n: int = 3,
        *,
        quorums: QuorumSystem | None = None,
        seed: int = 0,
        slow_disk: bool = False,
        jitter: Jitter | None = None,
        on_event: Callable[[NodeId, object], None] = lambda _node, _event: None,
        **config: int,
    ) -> None:
        self.quorums = quorums or majority(range(1, n + 1))
        self.ids = sorted(self.quorums.members)
        self.slow_disk = slow_disk
        self.on_event = on_event
        randomness = random.Random(seed)
        self._jitter: Jitter = jitter or (lambda _node, n: randomness.randrange(n))
        self._config = config
        self.network: list[Packet] = []
        self.hosts = {i: Host() for i in self.ids}
        self.history: dict[Slot, bytes] = {}
        self.applied_anywhere: Slot = 0
        self._floors: dict[tuple[NodeId, int], Slot] = {}
        self._proposed: dict[tuple[Ballot, Slot], bytes] = {}
        self._votes: dict[tuple[Ballot, Slot], set[NodeId]] = {}
        for i in self.ids:
            self.restart(i)

    # -- looking ----------------------------------------------------------------------------

    def node(self, i: NodeId) -> Node:
        node = self.hosts[i].node
        assert node is not None, f"node {i} is down"
        return node

    @property
    def up(self) -> list[NodeId]:
        return [i for i in self.ids if self.hosts[i].node is not None]

    @property
    def leaders(self) -> list[NodeId]:
        return [i for i in self.up if self.node(i).proposer.leading]

    def log(self, i: NodeId) -> list[bytes]:
        """What the state machine of `i` has applied, no-ops included."""
        return [self.history[slot] for slot in range(1, self.hosts[i].applied_through + 1)]

    def queued(self, kind: type, sender: NodeId = 0, to: NodeId = 0) -> list[Packet]:
        """The packets of a kind on the way; 0 is anyone."""
        return [
            (s, t, m)
            for s, t, m in self.network
            if isinstance(m, kind) and sender in (0, s) and to in (0, t)
        ]

    # -- inputs -----------------------------------------------------------------------------

    def tick(self, i: NodeId, count: int = 1) -> None:
        for _ in range(count):
            self.node(i).tick()
            self.drain(i)

    def propose(self, i: NodeId, value: bytes) -> Slot:
        slot = self.node(i).propose(value)
        self.drain(i)
        return slot

    def read(self, i: NodeId, token: int) -> None:
        """A read must see all that any client may have seen acknowledged by now."""
        self._floors[i, token] = self.applied_anywhere
        self.node(i).read(token)
        self.drain(i)

    def hand_over(self, i: NodeId, to: NodeId) -> bool:
        """Whether the leader agreed to try."""
        asked = self.node(i).hand_over(to) == to
        self.drain(i)
        return asked

    def truncate(self, i: NodeId, first_slot: Slot) -> None:
        """The state is on disk as far as it is applied; the log before `first_slot` goes."""
        self.hosts[i].checkpoint = self.hosts[i].applied_through
        self.node(i).truncate(first_slot)
        self.drain(i)

    def install_snapshot(self, i: NodeId) -> bool:
        """Copy the state of the peer that `i` was pointed to; whether that brought it forward."""
        host = self.hosts[i]
        source, host.snapshot_from = host.snapshot_from, None
        if source is None or self.hosts[source].node is None:
            return False
        through = self.hosts[source].applied_through
        if through <= host.applied_through:
            return False
        host.applied_through = host.checkpoint = through
        self.on_event(i, f"installed a snapshot of node {source} through {through}")
        self.node(i).restart_from_snapshot(through)
        self.node(i).applied(through)
        self.drain(i)
        return True

    def crash(self, i: NodeId) -> None:
        """Everything that was not on disk is gone."""
        host = self.hosts[i]
        host.node = None
        host.writing.clear()
        host.snapshot_from = None
        self.on_event(i, "crashed")

    def restart(self, i: NodeId) -> None:
        """A new start from the records; the state machine replays from its checkpoint."""
        host = self.hosts[i]
        host.starts += 1
        config = NodeConfig(i, self.quorums, start=host.starts, **self._config)
        old = host.disk.restored() if host.starts > 1 else None
        host.node = node = Node(config, lambda n: self._jitter(i, n), old)
        assert node.acceptor.promised >= host.answered, f"node {i} took back a promise"
        host.applied_through = max(host.checkpoint, node.chosen_through)
        if host.starts > 1:
            self.on_event(i, "restarted")
        self.check_log(i)
        if host.checkpoint > node.chosen_through:
            node.restart_from_snapshot(host.checkpoint)
        node.applied(host.applied_through)
        self.drain(i)

    # -- network ----------------------------------------------------------------------------

    def deliver(self, index: int = 0) -> None:
        """Take one packet off the network and hand it over; a crashed receiver misses it."""
        sender, to, message = self.network.pop(index)
        node = self.hosts[to].node
        if node is not None:
            node.receive(sender, message)
            self.drain(to)

    def deliver_from(self, sender: NodeId, to: NodeId) -> None:
        """What is now on the way from one to the other, in order."""
        for packet in [p for p in self.network if p[:2] == (sender, to)]:
            self.deliver(self.network.index(packet))

    def drop(self, keep: Callable[[Packet], bool] = lambda _packet: False) -> None:
        self.network = [packet for packet in self.network if keep(packet)]

    def settle(self, only: set[NodeId] | None = None, limit: int = 20_000) -> None:
        """Deliver everything until nothing is on the way; links out of `only` lose theirs."""
        members = set(self.ids) if only is None else only
        for _ in range(limit):
            self.drop(lambda packet: packet[0] in members and packet[1] in members)
            if not self.network:
                return
            self.deliver()
        raise AssertionError("the network never falls silent")

    def run(self, ticks: int, only: set[NodeId] | None = None) -> None:
        """Healthy time: everyone (or everyone in `only`) ticks, everything arrives."""
        for _ in range(ticks):
            for i in self.up:
                if only is None or i in only:
                    self.flush(i)
                    self.install_snapshot(i)
                    self.tick(i)
            self.settle(only)

    def elect(self, i: NodeId, only: set[NodeId] | None = None) -> None:
        """Make `i` lead by letting only its time pass."""
        for _ in range(200):
            if self.leaders and self.leaders[-1] == i:
                return
            self.tick(i)
            self.settle(only)
        raise AssertionError(f"node {i} was not elected")

    # -- obeying effects ----------------------------------------------------------------------

    def drain(self, i: NodeId) -> None:
        host = self.hosts[i]
        effects = self.node(i).take_effects()
        for to, message in effects.send_first:
            self._send(i, to, message)
        if effects.persist or effects.send:
            host.writing.append((effects.persist, effects.send))
        self._obey_rest(i, effects)
        self.check_recent(i)
        if not self.slow_disk:
            self.flush(i)

    def flush(self, i: NodeId) -> None:
        """Commit everything that waits; what a node hears from itself may add to it."""
        host = self.hosts[i]
        while host.writing:
            persist, send = host.writing.popleft()
            for record in persist:
                self.on_event(i, record)
                host.disk.add(record)
            for to, message in send:
                self._check_backed(i, message)
                if to != i:
                    self._send(i, to, message)
                    continue
                self.on_event(i, (i, message))
                self.node(i).receive(i, message)
                self.drain(i)

    def _send(self, i: NodeId, to: NodeId, message: AnyMessage) -> None:
        assert to != i, "messages to oneself wait for the disk"
        if isinstance(message, Accept):
            known = self._proposed.setdefault((message.ballot, message.slot), message.value)
            assert known == message.value, f"two values proposed in {message.ballot}"
        self.on_event(i, (to, message))
        self.network.append((i, to, message))

    def _obey_rest(self, i: NodeId, effects: Effects) -> None:
        host = self.hosts[i]
        for slot, value in effects.chosen:
            assert slot == host.applied_through + 1, f"node {i} applies {slot} out of order"
            self._agree(slot, value)
            host.applied_through = slot
            self.on_event(i, (slot, value))
        self.node(i).applied(host.applied_through)
        self.applied_anywhere = max(self.applied_anywhere, host.applied_through)
        for token, slot in effects.reads:
            floor = self._floors.pop((i, token))
            assert slot >= floor, f"stale read {token} on {i}: slot {slot}, {floor} acknowledged"
            host.reads[token] = slot
            self.on_event(i, f"may answer read {token} once it has applied slot {slot}")
        if effects.fetch_snapshot_from is not None:
            host.snapshot_from = effects.fetch_snapshot_from
            self.on_event(i, f"wants a snapshot of node {host.snapshot_from}")

    # -- invariants -------------------------------------------------------------------------

    def _agree(self, slot: Slot, value: bytes) -> None:
        known = self.history.setdefault(slot, value)
        assert known == value, f"slot {slot}: {known!r} was chosen, now {value!r}"

    def _check_backed(self, i: NodeId, message: AnyMessage) -> None:
        """The disk holds what the message claims; votes are counted here as no node can."""
        host = self.hosts[i]
        if not isinstance(message, Promise | Accepted | Prepare):
            return
        host.answered = max(host.answered, message.ballot)
        best = max([host.disk.promised, *(e.ballot for e in host.disk.entries.values())])
        assert best >= message.ballot, f"{message} of node {i} is not on disk"
        if isinstance(message, Accepted) and message.slot >= host.disk.first_slot:
            held = host.disk.entries[message.slot]
            assert held.ballot >= message.ballot, f"{message} of node {i} is not on disk"
            key = (message.ballot, message.slot)
            if held.ballot == message.ballot:
                self._proposed.setdefault(key, held.value)
            voters = self._votes.setdefault(key, set())
            voters.add(i)
            if self.quorums.is_phase2(voters):
                self._agree(message.slot, self._proposed[key])

    def check_recent(self, i: NodeId) -> None:
        """Stability of the last few chosen slots; `check_log` looks at all of them."""
        through = self.node(i).chosen_through
        self._check_slots(i, max(1, through - 4), through)

    def check_log(self, i: NodeId) -> None:
        self._check_slots(i, 1, self.node(i).chosen_through)

    def _check_slots(self, i: NodeId, first: Slot, last: Slot) -> None:
        acceptor = self.node(i).acceptor
        for slot in range(max(first, acceptor.first_slot), last + 1):
            held = acceptor.log[slot]
            assert self.history.get(slot) == held.value, f"node {i} lost the value of slot {slot}"


def lead_without_phase_2(cluster: Cluster, i: NodeId, voter: NodeId) -> None:
    """Node 1 is gone; `i` finishes phase 1 with `voter`, and its Accepts are lost."""
    cluster.crash(1)
    for peer in (i, voter):
        cluster.node(peer).suspect(1)
    for _ in range(20):
        if cluster.leaders:
            return
        cluster.tick(i)
        while cluster.network:
            cluster.deliver()
            cluster.drop(lambda packet: not isinstance(packet[2], Accept))
    raise AssertionError(f"node {i} was not elected")


def led(n: int = 3, leader: NodeId = 1) -> Cluster:
    cluster = Cluster(n)
    cluster.elect(leader)
    return cluster
