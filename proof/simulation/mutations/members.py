"""Faults of changing the members: docs/decisions/0021-configurations.md."""

from kvstore.peers.membership import Membership
from kvstore.replica.steward import Steward
from kvstore.state.member_changes import MembersChange
from kvstore.state.state_machine import StateMachine
from paxos.configuration import Governance
from paxos.learner import Learner
from paxos.proposer import Proposer
from proof.simulation.mutations.edit import edit, mutation

_GOVERNANCE = (
    mutation(
        "vote under the old configuration",
        "Votes for a slot are counted by the configuration that governs it, not by the one before.",
        edit(Governance, "at", ("in reversed(self._configurations)", "in self._configurations")),
    ),
    mutation(
        "count a learner",
        "A learner has no vote: what it has accepted may be forgotten when it goes.",
        edit(
            Learner,
            "vote",
            ("not quorums.is_phase2(counted[1])", "len(counted[1]) < quorums.phase2"),
        ),
    ),
    mutation(
        "take effect at once",
        "A change governs from a distance after its own slot on: slots in between may be proposed "
        "already, under the configuration before.",
        edit(MembersChange, "_next_step", ("self._slot + newest.distance", "self._slot + 1")),
    ),
    mutation(
        "forget the old configuration in phase 1",
        "A candidate needs a quorum of every configuration that may govern a slot which it does "
        "not know as chosen.",
        edit(Governance, "is_phase1", ("self.after(through)", "self.after(through)[-1:]")),
    ),
    mutation(
        "propose beyond the distance",
        "Who has not applied the log up to a distance before a slot cannot know what governs it.",
        edit(
            Proposer,
            "_may_accept",
            ("and self.next_slot <= self._governance.known_through", ""),
        ),
    ),
    mutation(
        "lead under a configuration that has not promised",
        "A leader that comes to know another configuration needs promises of its voters, before it "
        "proposes what that governs.",
        edit(
            Proposer,
            "_look_at_promises",
            ("min(self._unpromised(phase1), default=math.inf) - 1", "math.inf"),
        ),
    ),
    mutation(
        "skip the configuration between",
        "Where quorums of the old and the new configuration need not meet, one lies between them "
        "that meets both.",
        edit(
            MembersChange,
            "_next_step",
            ("if not always_meet(newest.quorums, step):", "if False:"),
        ),
    ),
)

_IDENTITIES = (
    mutation(
        "reuse an id",
        "An id is given once: of two members with one id none would know the other's promises.",
        edit(
            MembersChange,
            "_add",
            ("record.last_id + 1", "max(one.id for one in record.members) + 1"),
        ),
    ),
    mutation(
        "accept the old disk back",
        "A member that was replaced is none any more, though its disk comes back.",
        edit(Membership, "_check_as_member", ("if made_up or not (newer and both):", "if False:")),
    ),
    mutation(
        "forget the members in a checkpoint",
        "Who the members are is part of the state, and of every snapshot.",
        edit(StateMachine, "freeze", ("self.members.encode(),", 'b"",')),
    ),
)

_STEWARD = (
    mutation(
        "promote a laggard",
        "A learner votes once it is close: else a write may wait for one that loads a snapshot.",
        edit(
            Steward,
            "_is_close",
            ("lag is None or lag > self._close_slots or not self._is_there(member)", "False"),
        ),
    ),
    mutation(
        "heal two at once",
        "Lost disks are replaced one after the other.",
        edit(Steward, "_is_lost", ("not learning and ", "")),
    ),
    mutation(
        "leave a change halfway",
        "A change that goes over a configuration between is completed, whoever leads meanwhile.",
        edit(Steward, "_wanted", ("yield NextStep()", "pass")),
    ),
    mutation(
        "take nobody in again",
        "A member that comes back without its disk is replaced without a command.",
        edit(Steward, "_taken_in", ("if self._is_lost(member):", "if False:")),
    ),
)

MUTATIONS = (*_GOVERNANCE, *_IDENTITIES, *_STEWARD)
