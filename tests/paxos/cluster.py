"""Real nodes on an in-memory disk and network, driven by hand, with every invariant watched.

The cluster obeys `Effects` as a replica must: `send_first` leaves at once; `persist` and `send` wait
in the host's write queue until `flush`, which puts the records on disk and then lets the messages
go, the host's own among them. A crash loses the write queue. After every step it checks agreement,
that the chosen prefix stays what it was, and that no answer outlives the disk that backs it.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.effects import ChosenThrough, Effects, Promised, Record, Restored, Truncation
from paxos.messages import Accept, Accepted, AnyMessage, Entry, Prepare, Promise
from paxos.node import Node, NodeConfig
from paxos.quorum import QuorumSystem, majority

Packet = tuple[NodeId, NodeId, AnyMessage]
"""Sender, receiver, message."""

Jitter = Callable[[NodeId, int], int]
"""A node and n; a number in [0, n)."""


@dataclass
class Host:
    """One member: a node or none (crashed), what is on its disk, and its state machine."""

    node: Node | None = None
    lives: int = 0
    disk: list[Record] = field(default_factory=list)
    writing: deque[tuple[list[Record], list[tuple[NodeId, AnyMessage]]]] = field(
        default_factory=deque
    )
    applied_through: Slot = 0
    checkpoint: Slot = 0
    answered: Ballot = ZERO
    snapshot_from: NodeId | None = None
    reads: dict[int, Slot] = field(default_factory=dict)


def restored(disk: Iterable[Record]) -> Restored:
    """What the records add up to: the twin of what the log storage does."""
    promised, first_slot, chosen_through = ZERO, 1, 0
    entries: dict[Slot, Entry] = {}
    for record in disk:
        match record:
            case Promised():
                promised = max(promised, record.ballot)
            case Entry():
                entries[record.slot] = record
            case Truncation():
                first_slot = record.first_slot
                entries = {s: e for s, e in entries.items() if s >= first_slot}
            case ChosenThrough():
                chosen_through = record.slot
    return Restored(promised, tuple(entries.values()), first_slot, chosen_through)


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
        self._random = random.Random(seed)
        self._jitter = jitter or (lambda _node, n: self._random.randrange(n))
        self._config = config
        self.network: list[Packet] = []
        self.hosts = {i: Host() for i in self.ids}
        self.history: dict[Slot, bytes] = {}
        self.applied_anywhere: Slot = 0
        self.floors: dict[tuple[NodeId, int], Slot] = {}
        self.crashes = 0
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
        """What the state machine of `i` has applied."""
        return [self.history[slot] for slot in range(1, self.hosts[i].applied_through + 1)]

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
        self.floors[i, token] = self.applied_anywhere
        self.node(i).read(token)
        self.drain(i)

    def hand_over(self, i: NodeId, to: NodeId) -> None:
        assert self.node(i).hand_over(to) == to
        self.drain(i)

    def truncate(self, i: NodeId, first_slot: Slot) -> None:
        """The state is on disk up to where it is applied; the log before `first_slot` goes."""
        self.hosts[i].checkpoint = self.hosts[i].applied_through
        self.node(i).truncate(first_slot)
        self.drain(i)

    def install_snapshot(self, i: NodeId) -> bool:
        """Copy the state of the peer that `i` was sent to; whether there was such a peer."""
        host, self.hosts[i].snapshot_from = self.hosts[i], None
        source = self._snapshot_source
        if source.get(i) is None or self.hosts[source[i]].node is None:
            return False
        through = self.hosts[source.pop(i)].applied_through
        if through <= host.applied_through:
            return False
        host.applied_through = host.checkpoint = through
        self.node(i).restart_from_snapshot(through)
        self.drain(i)
        return True

    def crash(self, i: NodeId) -> None:
        """Everything that was not on disk is gone."""
        self.crashes += 1
        host = self.hosts[i]
        host.node = None
        host.writing.clear()
        host.snapshot_from = None
        self.on_event(i, "crashed")
