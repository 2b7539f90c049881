"""Faults that never give a wrong answer: they give none."""

from kvstore.peers.incoming import Incoming
from kvstore.peers.outgoing import OutgoingLink
from paxos.learner import Learner
from paxos.node import Node
from paxos.proposer import Proposer
from proof.simulation.mutations.edit import edit, mutation

MUTATIONS = (
    mutation(
        "never send a proposal again",
        "Messages may be lost: an Accept is sent again until its slot is chosen.",
        edit(
            Proposer,
            "tick",
            ("if in_flight.ticks % self._resend_ticks == 0:", "if False:"),
        ),
    ),
    mutation(
        "never fetch",
        "A learner that missed a slot asks for it: nobody tells it by itself.",
        edit(Learner, "_fetch", ("self._out().send_first.append(", "str(")),
    ),
    mutation(
        "never fetch again",
        "A Fetch or its answer may be lost: a learner asks again.",
        edit(Learner, "tick", ("if self._asked_ticks < self._resend_ticks:", "if True:")),
    ),
    mutation(
        "lead without heartbeats",
        "A leader that is silent is taken for dead.",
        edit(Node, "_tick_leader", ("if self._heartbeat_left <= 0:", "if False:")),
    ),
    mutation(
        "never give up a link",
        "A link may be dead without a sign: one on which nothing is heard is dialled anew.",
        edit(OutgoingLink, "watch", ("if now_s - protocol.heard_s >= silence_s:", "if False:")),
        edit(
            Incoming,
            "watch",
            ("if now_s - self.heard_s >= self._door.patience.silence_s:", "if False:"),
        ),
    ),
)
