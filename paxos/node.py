"""The node: composes the roles, and is the only thing that knows them all.

Inputs are `receive`, `tick`, `propose`, `read`, `applied`, `configure`, `hand_over`, `suspect`,
`reached`, `truncate` and `restart_from_snapshot`; they mutate. `take_effects` drains what must now
happen.
Feeding many inputs and draining once is the batching.
"""

from collections.abc import Iterable, Sequence

from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.configuration import Configuration
from paxos.effects import Effects
from paxos.errors import PeerError, ProtocolError
from paxos.messages import (
    Accept,
    Accepted,
    AnyMessage,
    Chosen,
    Fetch,
    Fetched,
    HandOver,
    Heartbeat,
    HeartbeatReply,
    Nack,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    ReadIndex,
    ReadIndexReply,
    Truncated,
)
from paxos.node_roles import NodeRoles
from paxos.records import ChosenThrough

_OWN_BALLOT = (PreVote, Prepare, Accept, Chosen, Heartbeat, HandOver)
"""Only the ballot's own node sends these."""


class Node(NodeRoles):
    """One member of the cluster, without disk, network or clock."""

    # -- inputs -----------------------------------------------------------------------------

    def applied(self, through: Slot) -> None:
        """The caller has applied the log up to `through`, and has called `configure` if that
        changed the configuration."""
        self.governance.applied(through)

    def configure(self, configurations: Sequence[Configuration], members: Iterable[NodeId]) -> None:
        """These govern the slots that are not applied yet, and these take part, learners
        included."""
        self.governance.configure(configurations, members)
        for peer in self._progress.keys() - self.governance.members:
            del self._progress[peer]
        self._succession.reconfigured()
        self.proposer.reconfigured(self.chosen_through)
        self.reads.reconfigured()

    def propose(self, value: bytes) -> Slot:
        """Propose `value` (not empty: that is the no-op). Requires `can_propose`."""
        if not value:
            raise ProtocolError("an empty value was proposed: that is the no-op")
        accept = self.proposer.propose(value, self.chosen_through)
        self._accept_own(accept)
        return accept.slot

    def read(self, token: int) -> None:
        """Ask for a linearizable read; `effects.reads` will name the slot to wait for."""
        self.reads.add(token)

    def hand_over(self, to: NodeId | None = None) -> NodeId | None:
        """As leader, make `to` (default: the follower that is furthest) lead. Who was chosen.

        Proposals pause until it leads, or until an election time-out has passed in vain.
        """
        if not self.proposer.leading:
            return None
        first_slot = self.acceptor.first_slot
        return self._succession.begin(to, self.proposer.ballot, self._progress, first_slot)

    @property
    def successors(self) -> list[NodeId]:
        """Who may lead after this node."""
        return self._succession.successors

    def suspect(self, peer: NodeId) -> None:
        """The caller saw the link to `peer` break: a hint that it may have died."""
        if self.election.suspect(peer):
            self.reads.leader_changed()

    def reached(self, peer: NodeId) -> None:
        """The caller saw a link to `peer` come up: a hint that an attempt may succeed now."""
        if peer in self.governance.members and not self.proposer.busy:
            self.election.reached()

    def truncate(self, first_slot: Slot) -> None:
        """Drop the log before `first_slot`: the caller has it applied durably."""
        if first_slot > self.chosen_through + 1:
            raise ProtocolError(
                f"the log was to be dropped before slot {first_slot}, and is chosen through "
                f"{self.chosen_through} only"
            )
        self.acceptor.truncate(first_slot)

    def restart_from_snapshot(self, through: Slot) -> None:
        """The caller installed a snapshot of the state as of `through`.

        What was chosen up to there and is not drained yet is part of it. Failing schedule
        otherwise: slots 5 to 9 become chosen and a snapshot as of 9 is installed in the same turn
        of the caller's loop; the next drain has slot 5 applied to the state of slot 9.
        """
        self._effects.chosen = [one for one in self._effects.chosen if one[0] > through]
        if through > self.chosen_through:
            self.learner.restart_from(through)
            self.acceptor.truncate(through + 1)
            if self.proposer.busy:
                self._step_down()

    def record_chosen(self) -> Slot:
        """Make the chosen prefix durable with the next drain; how far it reaches."""
        if self.chosen_through > self._recorded_through:
            self._recorded_through = self.chosen_through
            self._effects.persist.append(ChosenThrough(self.chosen_through))
        return self.chosen_through

    def tick(self) -> None:
        """One tick of the caller's clock."""
        if self.proposer.leading:
            self._tick_leader()
        elif self.election.tick() and self.fit_to_lead and self.votes:
            self.proposer.stop()
            self._start_pre_vote()
        self.proposer.tick(self.chosen_through)
        self.learner.tick()
        self.reads.tick(self.leader)

    def receive(self, sender: NodeId, message: AnyMessage) -> None:
        """Take a message of a member, in any order, any number of times.

        Raises PeerError on a message that no correct member sends, ProtocolError on a state that
        cannot be.
        """
        if isinstance(message, _OWN_BALLOT) and message.ballot.node != sender:
            raise PeerError(f"node {sender} uses the ballot of another: {message.ballot}")
        match message:
            case Accept():
                self._on_accept(sender, message)
            case Accepted():
                self._on_accepted(sender, message)
            case Chosen() | Heartbeat():
                self._on_leader(sender, message)
            case HeartbeatReply():
                self._on_heartbeat_reply(sender, message)
            case ReadIndex():
                if self.proposer.leading:
                    self.reads.on_read_index(sender, message.request)
            case ReadIndexReply():
                self.reads.on_read_index_reply(message)
            case PreVote():
                self._on_pre_vote(sender, message)
            case PreVoteReply():
                self._on_pre_vote_reply(sender, message)
            case Prepare():
                self._on_prepare(sender, message)
            case Promise():
                self._on_promise(sender, message)
            case Nack():
                self._on_nack(message)
            case Fetch():
                self.acceptor.on_fetch(sender, message, self.chosen_through)
            case Fetched():
                self._on_fetched(sender, message)
            case Truncated():
                self._on_truncated(sender, message)
            case HandOver():
                self._on_hand_over(sender, message)

    def take_effects(self) -> Effects:
        """Drain what must now happen. The caller obeys it before it feeds the node's answers."""
        if self.proposer.leading:
            for accept in self.proposer.pump(self.chosen_through):
                self._accept_own(accept)
            self._announce()
            if self.serves_reads and self.reads.start_probe(self.chosen_through):
                self._broadcast_heartbeat()
        elif self.leader is not None:
            self.reads.ask_leader(self.leader)
        if self._effects.persist and self.chosen_through > self._recorded_through:
            self.record_chosen()
        drained, self._effects = self._effects, Effects()
        return drained

    # -- phase 2 ----------------------------------------------------------------------------

    def _accept_own(self, accept: Accept) -> None:
        """The leader's own vote; a refusal means that a higher ballot was promised meanwhile."""
        self._marks.proposed(accept)
        self._announced_through = accept.chosen_through
        if not self.acceptor.on_accept(self.id, accept):
            raise ProtocolError(f"own accept of {accept.ballot} refused: {self.acceptor.promised}")

    def _on_accept(self, sender: NodeId, message: Accept) -> None:
        if message.ballot >= self.ballot:
            self._follow(message.ballot)
        if message.slot <= self.chosen_through + self.config.ahead_max:
            self.acceptor.on_accept(sender, message)
        if message.ballot >= self.acceptor.promised:
            self.learner.follow(sender, message.ballot, message.chosen_through, self.acceptor.log)

    def _on_accepted(self, sender: NodeId, message: Accepted) -> None:
        if not self.proposer.leading or message.ballot != self.proposer.ballot:
            return
        if self.learner.vote(sender, message.ballot, message.slot):
            value = self.proposer.settle(message.slot)
            if value is None:
                raise ProtocolError(f"slot {message.slot} chosen in {message.ballot} unproposed")
            self.learner.choose(message.slot, value)

    def _announce(self) -> None:
        """Followers hear what is chosen with the next Accept; if there is none, at once."""
        if self.chosen_through > self._announced_through:
            self._announced_through = self.chosen_through
            message = Chosen(self.proposer.ballot, self.chosen_through)
            self._effects.send_first.extend((peer, message) for peer in self.governance.peers)

    def _on_leader(self, sender: NodeId, message: Chosen | Heartbeat) -> None:
        if message.ballot < self.ballot:
            self._send_first(sender, Nack(message.ballot, self.ballot))
            return
        self._follow(message.ballot)
        self.learner.follow(sender, message.ballot, message.chosen_through, self.acceptor.log)
        if isinstance(message, Heartbeat):
            reply = HeartbeatReply(message.ballot, message.probe, self.chosen_through)
            self._send_first(sender, reply)

    def _on_heartbeat_reply(self, sender: NodeId, message: HeartbeatReply) -> None:
        if not self.proposer.leading or message.ballot != self.proposer.ballot:
            return
        self._progress[sender] = max(message.chosen_through, self._progress.get(sender, 0))
        self.election.heard_follower(sender)
        # A laggard may lead. Failing schedule otherwise: the followers truncate the slots that it
        # proposes again, answer nothing to its Accepts, and it leads for ever without progress.
        self.learner.hear_of(sender, message.chosen_through)
        self.reads.on_heartbeat_reply(sender, message.probe)

    def _follow(self, ballot: Ballot) -> None:
        """The leader of `ballot`, not below what was promised, is at work."""
        if ballot > self.proposer.ballot and (self.proposer.leading or self.proposer.preparing):
            self._step_down()
        if self.election.heard(ballot):
            self.reads.leader_changed()

    # -- phase 1 ----------------------------------------------------------------------------

    def _start_pre_vote(self) -> None:
        self.reads.leader_changed()
        ballot = self.election.start_pre_vote()
        message = PreVote(ballot, self.chosen_through + 1)
        voters = sorted(self.governance.voters_after(self.chosen_through) - {self.id})
        self._effects.send_first.extend((peer, message) for peer in voters)
        self._campaign_if_wanted()

    def _on_pre_vote(self, sender: NodeId, message: PreVote) -> None:
        if message.first_slot < self.acceptor.first_slot:
            self._send_first(sender, Truncated(self.acceptor.first_slot))
            return
        # Granting costs this node none of its own time. Failing schedule otherwise: only this one
        # reaches a quorum, the others ask it in turn, and it is always just giving somebody time.
        granted = (
            message.ballot > self.acceptor.promised
            and not self.proposer.leading
            and self.election.would_promise()
        )
        self._send_first(sender, PreVoteReply(message.ballot, granted, self.ballot))

    def _on_pre_vote_reply(self, sender: NodeId, message: PreVoteReply) -> None:
        self.election.saw(message.promised)
        self.election.on_pre_vote_reply(sender, message.ballot, message.granted)
        self._campaign_if_wanted()

    def _campaign_if_wanted(self) -> None:
        ballot = self.election.take_won_pre_vote(self.chosen_through)
        if ballot is not None and ballot > self.acceptor.promised:
            self._campaign(ballot)

    def _campaign(self, ballot: Ballot) -> None:
        self._marks.campaigning(ballot)
        self.reads.leader_changed()
        self.election.campaign(ballot)
        first_slot = self.chosen_through + 1
        self.proposer.prepare(ballot, first_slot)
        self.acceptor.on_prepare(self.id, Prepare(ballot, first_slot))

    def _on_prepare(self, sender: NodeId, message: Prepare) -> None:
        if self.proposer.preparing and sender != self.id:
            self._marks.rivalled(sender)
        self.election.saw(message.ballot)
        before = self.acceptor.promised
        self.acceptor.on_prepare(sender, message)
        if self.acceptor.promised > before:
            if self.proposer.leading or self.proposer.preparing:
                self._step_down()
            self.election.wait()

    def _on_promise(self, sender: NodeId, message: Promise) -> None:
        if self.proposer.leading:
            self.proposer.on_promise(sender, message)
            return
        if self.proposer.on_promise(sender, message) is None:
            if self.proposer.preparing and message.ballot == self.proposer.ballot:
                self.election.wait()
            return
        self.reads.leader_changed()
        self.learner.forget_votes()
        self.election.lead(self.proposer.ballot)
        self._progress.clear()
        self._heartbeat_left = self.config.heartbeat_ticks
        self._broadcast_heartbeat()

    def _on_nack(self, message: Nack) -> None:
        self.election.saw(message.promised)
        if self.proposer.busy and message.ballot == self.proposer.ballot:
            self._marks.preempted(message.ballot)
            if message.promised > message.ballot:
                self._step_down()

    def _step_down(self) -> None:
        """Preempted, or cut off from a quorum."""
        if self.proposer.leading:
            self._marks.stepped_down(self.election.out_of_reach)
        self.proposer.stop()
        self.learner.forget_votes()
        self.election.step_down()
        self.reads.leader_changed()
        self._succession.stop()

    # -- leading ----------------------------------------------------------------------------

    def _tick_leader(self) -> None:
        if self.election.lost_quorum(self.chosen_through):
            self._step_down()
            return
        self._leave_if_removed()
        self._heartbeat_left -= 1
        if self._heartbeat_left <= 0:
            self._heartbeat_left = self.config.heartbeat_ticks
            self._broadcast_heartbeat()
        self._succession.tick(self.proposer.ballot)

    def _leave_if_removed(self) -> None:
        """A leader that has no vote any more makes another lead, or at least stops."""
        ask, stop = self._succession.leave(self.votes)
        if ask:
            self.hand_over()
        if stop:
            self._step_down()

    def _broadcast_heartbeat(self) -> None:
        message = Heartbeat(self.proposer.ballot, self.reads.probe, self.chosen_through)
        self._announced_through = self.chosen_through
        self._effects.send_first.extend((peer, message) for peer in self.governance.peers)

    def _on_hand_over(self, sender: NodeId, message: HandOver) -> None:
        asked = message.ballot == self.election.leader_ballot and sender == self.leader
        if asked and self.fit_to_lead and self.votes:
            self._campaign(max(self.ballot, self.election.ballot_seen).next_for(self.id))

    # -- catching up ------------------------------------------------------------------------

    def _on_fetched(self, sender: NodeId, message: Fetched) -> None:
        self._marks.fetched(any(entry.slot > self.chosen_through for entry in message.entries))
        highest = max((entry.ballot for entry in message.entries), default=ZERO)
        self.election.saw(highest)
        if highest > self.proposer.ballot and self.proposer.busy:
            # Preempted without having heard of it. Failing schedule otherwise: this leader says
            # that the slot is chosen, and a follower takes the value it accepted in this ballot.
            self._step_down()
        for entry in message.entries:
            if entry.slot > self.chosen_through:
                self.acceptor.adopt_chosen(entry)
        self.learner.on_fetched(sender, message.entries, message.chosen_through)

    def _on_truncated(self, sender: NodeId, message: Truncated) -> None:
        """What this node lacks is gone from the sender's log; without it, it cannot lead."""
        if message.first_slot <= self.chosen_through + 1:
            return
        if self.proposer.preparing:
            self._step_down()
        self._effects.fetch_snapshot_from = sender

    def _send_first(self, to: NodeId, message: AnyMessage) -> None:
        self._effects.send_first.append((to, message))
