"""The election: when to try to lead, and when to stop. It says so; `node.py` acts on it.

A member that has not heard of a leader for a random number of ticks asks the others whether they
would promise (pre-vote). They refuse while they hear a leader themselves, so a node that comes
back, or that only some can reach, never unseats a leader that works. Failed attempts widen the
random range, which ends the duel of two proposers that preempt each other for ever ("Paxos Made
Simple", section 2.4).

Source of the pre-vote: Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 9.6.
"""

from collections.abc import Callable

from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.configuration import Governance

BACK_OFF_MAX = 8
"""The random range grows to at most this many times `election_ticks`."""

SUSPECT_TICKS = 3
"""How soon at the latest to try after the link to the leader was seen to break."""


class Election:
    """One node's view of who leads, and its timer.

    `jitter(n)` returns an integer from 0 up to, not including, n; it is the only randomness.
    """

    def __init__(
        self,
        node: NodeId,
        governance: Governance,
        *,
        election_ticks: int,
        jitter: Callable[[int], int],
    ) -> None:
        self.node = node
        self._governance = governance
        self._election_ticks = election_ticks
        self._jitter = jitter
        self.leader: NodeId | None = None
        self.leader_ballot: Ballot = ZERO
        self.ballot_seen: Ballot = ZERO
        self._failures = 0
        self._silent_ticks = election_ticks
        self._pre_vote: tuple[Ballot, set[NodeId]] | None = None
        self._heard_by: set[NodeId] = set()
        self._quorum_ticks = 0
        self._ticks_left = 1 + jitter(election_ticks)

    # -- following --------------------------------------------------------------------------

    def heard(self, ballot: Ballot) -> bool:
        """A message of the leader of `ballot`. Returns whether that is news."""
        self.saw(ballot)
        self._silent_ticks = 0
        self._failures = 0
        self._pre_vote = None
        self._rearm()
        changed = self.leader_ballot != ballot or self.leader != ballot.node
        self.leader, self.leader_ballot = ballot.node, ballot
        return changed

    def saw(self, ballot: Ballot) -> None:
        """Remember the highest ballot, so that the next own one is above it."""
        self.ballot_seen = max(self.ballot_seen, ballot)

    def wait(self) -> None:
        """Someone else is trying: give them a full time-out."""
        self._rearm()

    def suspect(self, peer: NodeId) -> bool:
        """The link to `peer` broke. If it led, do not wait out the whole time-out.

        Only a hint: the pre-vote still has to find a quorum that hears no leader.
        """
        if peer != self.leader or peer == self.node:
            return False
        self.leader = None
        self._silent_ticks = self._election_ticks
        self._ticks_left = min(self._ticks_left, 1 + self._jitter(SUSPECT_TICKS))
        return True

    def reached(self) -> None:
        """A link to a peer came up. Without a leader, what stood in the way may be gone: try soon.

        Failing schedule otherwise: all links were cut for a minute, every member's attempts failed
        and widened its range, and after healing nobody tries for seconds. Only a hint, too: the
        pre-vote is refused by those that hear a leader.
        """
        if self.leader is None:
            self._failures = 0
            self._ticks_left = min(self._ticks_left, 1 + self._jitter(SUSPECT_TICKS))

    def would_promise(self) -> bool:
        """Whether this node hears no leader that works."""
        return self._silent_ticks >= self._election_ticks

    # -- standing ---------------------------------------------------------------------------

    def tick(self) -> bool:
        """One tick as follower or candidate; whether it is time to ask for pre-votes."""
        self._silent_ticks += 1
        if self._silent_ticks >= self._election_ticks:
            self.leader = None
        self._ticks_left -= 1
        if self._ticks_left > 0:
            return False
        self._failures += 1
        self._rearm()
        return True

    def start_pre_vote(self) -> Ballot:
        """The ballot to ask about; the node's own vote is counted at once."""
        ballot = max(self.ballot_seen, self.leader_ballot).next_for(self.node)
        self.leader = None
        self._pre_vote = (ballot, {self.node})
        return ballot

    def on_pre_vote_reply(self, sender: NodeId, ballot: Ballot, granted: bool) -> None:
        if self._pre_vote is not None and self._pre_vote[0] == ballot and granted:
            self._pre_vote[1].add(sender)

    def take_won_pre_vote(self, chosen_through: Slot) -> Ballot | None:
        """The ballot to campaign with, once, if a phase 1 quorum would promise it for all slots
        after `chosen_through`."""
        if self._pre_vote is None:
            return None
        if not self._governance.is_phase1(self._pre_vote[1], chosen_through):
            return None
        ballot, self._pre_vote = self._pre_vote[0], None
        return ballot

    def campaign(self, ballot: Ballot) -> None:
        """Phase 1 begins: whoever wins, it will not be the leader that was."""
        self.saw(ballot)
        self.leader = None
        self._pre_vote = None
        self._rearm()

    # -- leading ----------------------------------------------------------------------------

    def lead(self, ballot: Ballot) -> None:
        self.saw(ballot)
        self.leader, self.leader_ballot = self.node, ballot
        self._failures = 0
        self._pre_vote = None
        self._heard_by.clear()
        self._quorum_ticks = 0

    def heard_follower(self, peer: NodeId) -> None:
        self._heard_by.add(peer)

    def lost_quorum(self, chosen_through: Slot) -> bool:
        """One tick as leader; whether no phase 2 quorum for the slot after `chosen_through` has
        answered for a whole time-out."""
        self._quorum_ticks += 1
        self._heard_by.add(self.node)
        quorums = self._governance.at(chosen_through + 1)
        if quorums is not None and quorums.is_phase2(self._heard_by):
            self._heard_by.clear()
            self._quorum_ticks = 0
        return self.out_of_reach

    @property
    def out_of_reach(self) -> bool:
        """As leader: whether no phase 2 quorum has answered for a whole time-out."""
        return self._quorum_ticks > self._election_ticks

    def step_down(self) -> None:
        """No longer the leader; the next attempt is a random time-out away."""
        self.leader = None
        self._silent_ticks = self._election_ticks
        self._rearm()

    def _rearm(self) -> None:
        spread = min(max(self._failures, 1), BACK_OFF_MAX) * self._election_ticks
        self._ticks_left = self._election_ticks + self._jitter(spread)
