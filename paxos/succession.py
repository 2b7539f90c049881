"""The succession: a leader makes another one lead, because it is asked to or must go."""

from collections.abc import Callable, Mapping

from paxos.ballot import Ballot, NodeId, Slot
from paxos.configuration import Governance
from paxos.effects import Effects
from paxos.messages import HandOver

LEAVING_TIMEOUTS = 3
"""So many election time-outs a leader without a vote waits for its successor."""


class Succession:
    """One leader's. While it hands over, nothing new is proposed, for at most an election time-out:
    then it leads on."""

    def __init__(
        self,
        node: NodeId,
        governance: Governance,
        out: Callable[[], Effects],
        *,
        election_ticks: int,
        resend_ticks: int,
    ) -> None:
        self._node = node
        self._governance = governance
        self._out = out
        self._election_ticks = election_ticks
        self._resend_ticks = resend_ticks
        self._to: tuple[NodeId, int] | None = None
        self._leaving_ticks = 0

    @property
    def under_way(self) -> bool:
        """Whether another was asked to lead, and may yet."""
        return self._to is not None

    @property
    def successors(self) -> list[NodeId]:
        """Who may lead after this node: the others with a vote by the newest configuration."""
        newest = self._governance.last
        return [] if newest is None else sorted(newest.quorums.members - {self._node})

    def begin(
        self,
        to: NodeId | None,
        ballot: Ballot,
        progress: Mapping[NodeId, Slot],
        first_slot: Slot,
    ) -> NodeId | None:
        """Ask `to` (default: the one that is furthest) to lead after `ballot`; who was asked.

        `progress` is how far each log is chosen, and `first_slot` where this node's log begins.
        """
        successors = self.successors
        if not successors:
            return None
        target = max(successors, key=lambda n: progress.get(n, 0)) if to is None else to
        if target not in successors:
            return None
        if progress.get(target, 0) + 1 < first_slot:
            # It would promise itself a higher ballot, be told Truncated, and then refuse the
            # heartbeats of this leader: nobody would lead.
            return None
        self._to = (target, self._election_ticks)
        self._out().send_first.append((target, HandOver(ballot)))
        return target

    def reconfigured(self) -> None:
        """Other members vote: who was asked may be none of them."""
        if self._to is not None and self._to[0] not in self.successors:
            self._to = None

    def tick(self, ballot: Ballot) -> None:
        """Ask again now and then; give up in the end."""
        if self._to is None:
            return
        target, ticks = self._to
        self._to = (target, ticks - 1) if ticks > 1 else None
        if ticks % self._resend_ticks == 0:
            self._out().send_first.append((target, HandOver(ballot)))

    def leave(self, votes: bool) -> tuple[bool, bool]:
        """A tick of a leader: whether it should hand over now, and whether it must stop, because it
        has no vote any more."""
        if votes:
            self._leaving_ticks = 0
            return False, False
        ask = self._leaving_ticks % self._election_ticks == 0
        self._leaving_ticks += 1
        return ask, self._leaving_ticks > LEAVING_TIMEOUTS * self._election_ticks

    def stop(self) -> None:
        """This node leads no longer."""
        self._to = None
        self._leaving_ticks = 0
