"""Who led, as one node saw it, and why that changed."""

from collections import deque
from typing import NamedTuple

from kvstore.replica.ports import Clock
from paxos.ballot import Ballot, NodeId

CHANGES_MAX = 200
LATELY_S = 30.0
"""What happened longer ago is no reason for a change."""


class LeaderChange(NamedTuple):
    """From `at_ms` (since 1970) on, `leader` led with `ballot`; None: nobody did."""

    at_ms: int
    leader: NodeId | None
    ballot: str
    reason: str


class LeaderHistory:
    """`changes` are the last ones, oldest first. The other methods are told what may be a reason.

    A node sees only its own side: a reason is what it noticed before the change, in this order:
    leadership was handed over, this node stepped down, the link to the leader broke, silence.
    """

    def __init__(self, node: NodeId, clock: Clock) -> None:
        self.node = node
        self._clock = clock
        self.changes: deque[LeaderChange] = deque(maxlen=CHANGES_MAX)
        self._leader: NodeId | None = None
        """The last one that there was."""
        self._noted: dict[str, tuple[float, str]] = {}
        self._broken: dict[NodeId, float] = {}

    def handed_over(self, by_this: bool, peer: NodeId) -> None:
        """This node asked `peer` to lead, or was asked by it."""
        giver, taker = (self.node, peer) if by_this else (peer, self.node)
        self._note("hand-over", f"node {giver} handed leadership over to node {taker}")

    def stepped_down(self, lost_quorum: bool) -> None:
        """This node led, and does no longer."""
        if lost_quorum:
            self._note("stepped down", f"node {self.node} could not reach a quorum")
        else:
            self._note("stepped down", f"node {self.node} met a higher ballot")

    def linked(self, peer: NodeId, up: bool) -> None:
        """The link from `peer` came or went."""
        if up:
            self._broken.pop(peer, None)
        else:
            self._broken[peer] = self._clock.monotonic()

    def noticed(self, leader: NodeId | None, ballot: Ballot) -> LeaderChange:
        """Another leader, or none, is known."""
        change = LeaderChange(
            self._clock.wall_ms(), leader, str(ballot), self._reason(leader, ballot)
        )
        self.changes.append(change)
        if leader is not None:
            self._leader = leader
            self._noted.clear()
        return change

    def _note(self, kind: str, text: str) -> None:
        self._noted[kind] = self._clock.monotonic(), text

    def _reason(self, leader: NodeId | None, ballot: Ballot) -> str:
        if self._leader is None:
            return "the first leader that this node knows of since its start"
        now_s = self._clock.monotonic()
        for kind in ("hand-over", "stepped down"):
            at_s, text = self._noted.get(kind, (-LATELY_S, ""))
            if now_s - at_s < LATELY_S:
                return text
        broken_s = self._broken.get(self._leader)
        if broken_s is not None and now_s - broken_s < LATELY_S:
            return f"the link from node {self._leader}, which led, broke"
        if leader == self._leader:
            return f"node {leader} leads again, with ballot {ballot}"
        if leader is None:
            return f"node {self._leader} was not heard for an election time-out"
        return f"node {leader} took over from node {self._leader} with ballot {ballot}"
