"""The roles of a node, and what a caller may see of them. `paxos.node` lets them work together."""

from collections.abc import Callable
from enum import StrEnum

from paxos.acceptor import Acceptor
from paxos.ballot import Ballot, NodeId, Slot
from paxos.configuration import Governance
from paxos.effects import Effects
from paxos.election import Election
from paxos.learner import Learner
from paxos.marks import NO_MARKS, Marks
from paxos.node_config import NodeConfig
from paxos.proposer import Proposer
from paxos.reads import Reads
from paxos.records import Restored
from paxos.succession import Succession


class Role(StrEnum):
    """What a node is doing, for people to read."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class NodeRoles:
    """One of each role, with one place for their effects.

    `jitter(n)` must return an integer in [0, n); it is the only source of randomness.
    """

    def __init__(
        self,
        config: NodeConfig,
        jitter: Callable[[int], int],
        restored: Restored | None = None,
        marks: Marks = NO_MARKS,
    ) -> None:
        if config.quorums is not None and config.node not in config.quorums.members:
            raise ValueError(f"node {config.node} is not one of the members")
        self.config = config
        self.id = config.node
        self._marks = marks
        self._effects = Effects()
        self.governance = Governance(self.id, config.quorums, config.distance)
        governance, resend = self.governance, config.resend_ticks
        self.acceptor = Acceptor(self._out, restored, config.piece_bytes_max)
        self.proposer = Proposer(
            self.id, governance, self._out, window=config.window, resend_ticks=resend, marks=marks
        )
        chosen_through = self._restored_prefix(restored)
        self.learner = Learner(
            governance, self._out, chosen_through=chosen_through, resend_ticks=resend
        )
        self.election = Election(
            self.id, governance, election_ticks=config.election_ticks, jitter=jitter
        )
        self.election.saw(self.acceptor.promised)
        self.reads = Reads(
            self.id, governance, self._out, resend_ticks=resend, first_request=config.start << 32
        )
        self._announced_through: Slot = chosen_through
        self._recorded_through: Slot = chosen_through
        self._heartbeat_left = 0
        self._progress: dict[NodeId, Slot] = {}
        self._succession = Succession(
            self.id,
            governance,
            self._out,
            election_ticks=config.election_ticks,
            resend_ticks=resend,
        )
        self.fit_to_lead = True
        """The caller's: whether this node may try to lead."""

    @staticmethod
    def _restored_prefix(restored: Restored | None) -> Slot:
        if restored is None:
            return 0
        return max(restored.chosen_through, restored.first_slot - 1)

    def _out(self) -> Effects:
        return self._effects

    # -- what the caller may ask ------------------------------------------------------------

    @property
    def role(self) -> Role:
        if self.proposer.leading:
            return Role.LEADER
        return Role.CANDIDATE if self.proposer.preparing else Role.FOLLOWER

    @property
    def leading(self) -> bool:
        """Whether this node leads."""
        return self.proposer.leading

    @property
    def own_ballot(self) -> Ballot:
        """The ballot that this node leads, or last tried to lead."""
        return self.proposer.ballot

    @property
    def barrier(self) -> Slot:
        """As leader: the last slot that earlier leaders may have got chosen."""
        return self.proposer.barrier

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        return self.election.leader

    @property
    def leader_ballot(self) -> Ballot:
        """The ballot of the last leader heard of, or of this node's own leadership."""
        return self.election.leader_ballot

    @property
    def serves_reads(self) -> bool:
        """As leader: whether everything that earlier leaders got chosen is chosen here too.

        What governs the next slot must be known, and have promised: until then an earlier leader
        may have got something chosen there that this one has not heard of.
        """
        next_slot = self.chosen_through + 1
        return (
            self.proposer.leading
            and self.chosen_through >= self.proposer.barrier
            and next_slot <= self.governance.known_through
            and next_slot <= self.proposer.promised_through
        )

    @property
    def ballot(self) -> Ballot:
        """The ballot of the leader followed, or the highest one promised."""
        return max(self.election.leader_ballot, self.acceptor.promised)

    @property
    def chosen_through(self) -> Slot:
        return self.learner.chosen_through

    @property
    def can_propose(self) -> bool:
        """Whether `propose` may be called: leading, not handing over, room in the window."""
        return self.proposer.can_propose and not self._succession.under_way

    @property
    def progress(self) -> dict[NodeId, Slot]:
        """As leader: how far each follower said its log is chosen."""
        return self._progress

    def progress_of(self, peer: NodeId) -> Slot | None:
        """As leader: how far `peer` said its log is chosen; None if this node cannot know."""
        return self._progress.get(peer) if self.proposer.leading else None

    @property
    def votes(self) -> bool:
        """Whether this node has a vote on some slot that is not chosen yet."""
        return self.id in self.governance.voters_after(self.chosen_through)
