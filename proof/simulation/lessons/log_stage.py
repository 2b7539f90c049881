"""Whole nodes on a stage: `paxos.node.Node`, each with a disk and, if wanted, a state machine.

The stage obeys `paxos.effects` as a replica does: what is to be durable is committed first, and a
node hears its own vote only then.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from kvstore.commands.results import Result
from kvstore.state.state_machine import StateMachine
from paxos.ballot import ZERO, NodeId, Slot
from paxos.effects import Effects
from paxos.messages import AnyMessage, LogEntry
from paxos.node import Node
from paxos.node_config import NodeConfig
from paxos.node_roles import Role
from paxos.quorum import QuorumSystem
from paxos.records import Promised, RecordFold, Restored
from proof.simulation.lessons.stage import COMMIT_US, TICK_US, Stage

HEARTBEAT_TICKS = 20
ELECTION_TICKS = 40

Machines = Callable[[NodeId, int], StateMachine]
"""An empty state machine for one start of a node."""


@dataclass
class LessonMember:
    """One node, its disk, and what its state machine applied."""

    node: Node
    start: int = 1
    disk: RecordFold = field(default_factory=RecordFold)
    role: Role = Role.FOLLOWER
    applied: list[bytes] = field(default_factory=list)
    machine: StateMachine | None = None
    queue: deque[bytes] = field(default_factory=deque)
    waiting: dict[bytes, int] = field(default_factory=dict)


class LogStage(Stage):
    """A cluster under a script. The clocks of all nodes tick, 1 ms per tick, until it settles.

    `patience` is each node's jitter: per cent of the range it draws a time-out from. A script may
    change it.
    """

    def __init__(
        self,
        quorums: QuorumSystem,
        patience: Mapping[NodeId, int],
        *,
        clients: Iterable[int] = (1,),
        window: int = 2,
        machines: Machines | None = None,
    ) -> None:
        super().__init__(quorums.members, clients)
        self.quorums = quorums
        self.patience = dict(patience)
        self.chosen: dict[Slot, bytes] = {}
        self._window = window
        self._machines = machines
        self.members: dict[NodeId, LessonMember] = {}
        for node in self.nodes:
            self.members[node] = LessonMember(self._born(node, 1, None))
            self.members[node].machine = machines(node, 1) if machines else None
            self._happened(node, "started")
            self._happened(node, "follower")

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What the head of the recording says of the cluster."""
        quorums = self.quorums
        return (
            ("nodes", str(len(self.nodes))),
            ("phase 1 quorum", f"{quorums.phase1} of {len(self.nodes)}"),
            ("phase 2 quorum", f"{quorums.phase2} of {len(self.nodes)}"),
            ("slots in flight", f"at most {self._window}"),
            ("heartbeat", f"every {HEARTBEAT_TICKS * TICK_US // 1000} ms"),
            ("election time-out", f"{ELECTION_TICKS * TICK_US // 1000} ms and more"),
        )

    # -- the script ------------------------------------------------------------------------

    def node(self, node: NodeId) -> Node:
        return self.members[node].node

    def leads(self, node: NodeId) -> bool:
        """Whether `node` is up and leads, with all that earlier leaders got chosen."""
        return node not in self.down and self.members[node].node.serves_reads

    def applied(self, node: NodeId) -> list[bytes]:
        """What `node` applied, slot by slot."""
        return self.members[node].applied

    def write(self, client: int, node: NodeId, value: bytes, text: str, key: str = "") -> int:
        """A client asks the leader `node` for a write; answered once `node` has applied it."""
        self.claim(self.members[node].node.proposer.leading, f"node {node} leads")
        request = self.ask(client, node, text, key)
        member = self.members[node]
        member.waiting[value] = request
        member.queue.append(value)
        self._drain(node)
        return request

    def crash(self, node: NodeId) -> None:
        """The process dies: what is not on its disk is gone, and its clients know nothing."""
        self._went_down(node)
        member = self.members[node]
        member.start += 1
        member.queue.clear()
        for request in member.waiting.values():
            self.answer(request, "unknown", "the connection broke: perhaps written, perhaps not")
        member.waiting.clear()

    def restart(self, node: NodeId) -> None:
        """A new start from the records; the state machine replays the chosen prefix."""
        self._came_back(node)
        member = self.members[node]
        restored = member.disk.restored()
        member.node = self._born(node, member.start, restored)
        member.role = Role.FOLLOWER
        member.applied = []
        member.machine = self._machines(node, member.start) if self._machines else None
        self._happened(node, "follower")
        for entry in restored.entries:
            if entry.slot <= restored.chosen_through:
                self._apply(node, entry.slot, entry.value)
        member.node.applied(len(member.applied))
        self._drain(node)

    # -- the actors ------------------------------------------------------------------------

    def _born(self, node: NodeId, start: int, restored: Restored | None) -> Node:
        config = NodeConfig(
            node,
            self.quorums,
            start=start,
            window=self._window,
            heartbeat_ticks=HEARTBEAT_TICKS,
            election_ticks=ELECTION_TICKS,
            resend_ticks=ELECTION_TICKS,
        )
        return Node(config, lambda n: (n - 1) * self.patience[node] // 100, restored)

    def _tick(self) -> None:
        for node, member in self.members.items():
            if node not in self.down:
                member.node.tick()
                self._drain(node)

    def _arrive(self, sender: NodeId, to: NodeId, message: AnyMessage) -> None:
        self.members[to].node.receive(sender, message)
        self._drain(to)

    def _drain(self, node: NodeId) -> None:
        """Obey the effects. What waits is proposed first, so that it tells what is chosen."""
        member = self.members[node]
        while member.queue and member.node.can_propose:
            member.node.propose(member.queue.popleft())
        effects = member.node.take_effects()
        if member.node.role != member.role:
            member.role = member.node.role
            self._happened(node, member.role.value, self._role_text(member))
        for to, message in effects.send_first:
            self._transmit(node, to, message)
        if effects.persist or effects.send:
            self._later(COMMIT_US, partial(self._commit, node, member.start, effects))
        for slot, value in effects.chosen:
            self._apply(node, slot, value)
        member.node.applied(len(member.applied))

    @staticmethod
    def _role_text(member: LessonMember) -> str:
        if member.role is Role.FOLLOWER:
            return "it has seen a higher ballot, or no quorum"
        verb = "leads" if member.role is Role.LEADER else "phase 1"
        return f"{verb} in ballot {member.node.proposer.ballot}"

    def _commit(self, node: NodeId, start: int, effects: Effects) -> None:
        """The write is durable; a crash in the meantime has undone it."""
        member = self.members[node]
        if member.start != start:
            return
        for record in effects.persist:
            member.disk.add(record)
            if isinstance(record, Promised):
                self._happened(node, "promised", f"{record.ballot} is on disk")
            elif isinstance(record, LogEntry) and record.slot > len(member.applied):
                self._slot_is(node, record.slot, "accepted", record.ballot, record.value)
        for to, message in effects.send:
            if to != node:
                self._transmit(node, to, message)
            else:
                member.node.receive(node, message)
                self._drain(node)

    def _apply(self, node: NodeId, slot: Slot, value: bytes) -> None:
        member = self.members[node]
        self.claim(slot == len(member.applied) + 1, "slots are applied in order")
        self.claim(self.chosen.setdefault(slot, value) == value, f"slot {slot} has one value")
        held = member.node.acceptor.log.get(slot)
        ballot = ZERO if held is None else held.ballot
        self._slot_is(node, slot, "chosen", ballot, value)
        member.applied.append(value)
        text = f"done, in slot {slot}"
        if member.machine is not None:
            results = [r for _, answers in member.machine.apply(slot, value) for r in answers]
            text += self._results_text(results)
        self._slot_is(node, slot, "applied", ballot, value)
        request = member.waiting.pop(value, None)
        if request is not None:
            self.answer(request, "ok", text)

    @staticmethod
    def _results_text(results: list[Result]) -> str:
        revisions = [str(r.revision) for r in results if hasattr(r, "revision")]
        return f": revision {', '.join(revisions)}" if revisions else ""
