"""Listens to one simulated member: what its replica marks goes to the judge and into the trace.

It only looks: nothing here changes what the replica does.
"""

from collections.abc import Callable, Mapping

from kvstore.peers.frames import PeerMessage, Relay
from kvstore.replica.probe import Probe
from kvstore.state.state_machine import AppliedBundle, StateMachine
from paxos.ballot import Ballot, NodeId, Slot
from paxos.messages import (
    Accept,
    AnyMessage,
    HandOver,
    LogEntry,
    PreVote,
    PreVoteReply,
    Promise,
    ReadIndexReply,
    Truncated,
)
from paxos.node import Node
from proof.simulation.judge.durable import DurableLog
from proof.simulation.judge.invariants import Monitor

Reached = Callable[[str], None]


class CountingProbe(Probe):
    """Counts the named events of `judge.coverage` that only the inside of a node shows."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached

    def campaigning(self, ballot: Ballot) -> None:
        self._reached("campaign")

    def rivalled(self, rival: NodeId) -> None:
        self._reached("two candidates at once")

    def preempted(self, ballot: Ballot) -> None:
        self._reached("preempted")

    def leading(self, first_slot: Slot, accepted: Mapping[Slot, LogEntry]) -> None:
        self._reached("election")
        for slot in range(first_slot, max(accepted, default=first_slot - 1) + 1):
            held = accepted.get(slot)
            if held is None:
                self._reached("gap filled with a no-op")
            elif held.value:
                self._reached("value recovered")

    def stepped_down(self, lost_quorum: bool) -> None:
        self._reached("leader stepped down")
        if lost_quorum:
            self._reached("leader lost its quorum")

    def fetched(self, news: bool) -> None:
        if news:
            self._reached("catch-up by log")

    def leader_noticed(self, leader: NodeId | None, ballot: Ballot, unanswered: int) -> None:
        if unanswered:
            self._reached("relay of a deposed leader's time")

    def checkpointed(self, through: Slot) -> None:
        self._reached("checkpoint")

    def truncated(self, first_slot: Slot) -> None:
        self._reached("log truncated")

    def sent(self, to: NodeId, message: PeerMessage) -> None:
        match message:
            case PreVote():
                self._reached("pre-vote")
            case PreVoteReply(_, False, _):
                self._reached("pre-vote refused")
            case Promise(_, _, _, int()):
                self._reached("promise in pieces")
            case Truncated():
                self._reached("catch-up refused")
            case HandOver():
                self._reached("hand-over")
            case ReadIndexReply():
                self._reached("read index of a follower")
            case Relay():
                self._reached("relay")


class MemberProbe(CountingProbe):
    """Lets the judge and the trace see one start of a member.

    `opened_as(id, formed)` is told which one; `log()` reads its disk, `formed()` says whether its
    handshakes are through, `disk_slow()` whether it has told so of its disk; `stepped(node)` is
    called after each step, and `now_applied(slot, value)` after each slot.
    """

    def __init__(
        self,
        monitor: Monitor,
        reached: Reached,
        *,
        log: Callable[[], DurableLog],
        formed: Callable[[], bool],
        stepped: Callable[[Node], None],
        now_applied: Callable[[Slot, bytes], None],
        disk_slow: Callable[[], bool],
        opened_as: Callable[[NodeId, bool], None],
    ) -> None:
        super().__init__(reached)
        self._id: NodeId = 0
        self._monitor = monitor
        self._log = log
        self._formed = formed
        self._stepped = stepped
        self._now_applied = now_applied
        self._disk_slow = disk_slow
        self._opened_as = opened_as
        self._opened: tuple[Node, StateMachine] | None = None

    def opened(self, node: Node, state: StateMachine, formed: bool) -> None:
        self._opened = node, state
        self._id = node.id
        self._opened_as(node.id, formed)
        self._monitor.on_restart(self._id, node)
        self._monitor.check_digest(self._id, state.applied_through, whole_digest(state))

    def proposed(self, accept: Accept) -> None:
        self._monitor.on_proposed(accept.ballot, accept.slot, accept.value)

    def sent(self, to: NodeId, message: PeerMessage) -> None:
        if not self._formed():
            text = f"node {self._id} sends before it has formed"
            self._monitor.violated("durable promise", text)
        self._monitor.on_send(self._id, self._log(), message)
        if isinstance(message, HandOver) and self._disk_slow():
            self._reached("hand-over because of a slow disk")
        super().sent(to, message)

    def answered_itself(self, message: AnyMessage) -> None:
        self._monitor.on_own(self._id, self._log(), message)

    def applied(
        self,
        state: StateMachine,
        slot: Slot,
        value: bytes,
        results: list[AppliedBundle],
    ) -> None:
        self._monitor.on_apply(self._id, slot, value, results, whole_digest(state))
        self._now_applied(slot, value)

    def stepped(self, node: Node) -> None:
        if self._opened is not None and node.chosen_through > self._opened[1].applied_through:
            self._reached("several slots wait")
        self._monitor.on_stepped(node)
        self._stepped(node)

    def snapshot_installed(self, before: Slot, state: StateMachine) -> None:
        after = state.applied_through
        if after < before:
            text = f"node {self._id} went back from slot {before} to {after}"
            self._monitor.violated("prefix", text)
        self._monitor.check_digest(self._id, after, whole_digest(state))
        if self._opened is not None and self._opened[0].chosen_through > before:
            self._reached("snapshot overtakes waiting slots")


def whole_digest(state: StateMachine) -> bytes:
    """The running digest, and the scalar part of the state that it does not cover."""
    if state.applied_through == 0:
        return b""
    scalars = (state.revision, state.compacted_revision, state.clock_ms)
    return state.digest + repr(scalars).encode() + state._sessions.encode()
