"""Faults that never give a wrong answer: they give none."""

from paxos.election import Election
from paxos.learner import Learner
from paxos.node import Node
from paxos.proposer import Proposer
from simulation.mutations.edit import edit, mutation

MUTATIONS = (
    mutation(
        "never send a proposal again",
        "Messages may be lost: an Accept is sent again until its slot is chosen.",
        edit(
            Proposer,
            "tick",
            ("if waiting.ticks % self._resend_ticks == 0:", "if False:"),
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
        "try again at once",
        "Two proposers that preempt each other must draw apart: without back-off they duel.",
        edit(
            Election,
            "_rearm",
            (
                "self._ticks_left = self._election_ticks + self._jitter(spread)",
                "self._ticks_left = 2",
            ),
        ),
    ),
    mutation(
        "draw no time-outs at random",
        "Time-outs are drawn at random, so that candidates do not meet for ever.",
        edit(Election, "_rearm", (" + self._jitter(spread)", "")),
    ),
    mutation(
        "keep what was chosen in an earlier leadership",
        "Votes and slots chosen beyond a gap are of the ballot that is over: the next one proposes "
        "those slots again and must count them.",
        edit(Learner, "forget_votes", ("self._ahead.clear()", "pass")),
    ),
    mutation(
        "keep settled slots in the window",
        "A slot that a peer reports as chosen must leave the window, or the window stays full.",
        edit(Proposer, "settle_through", ("del self._in_flight[slot]", "pass")),
    ),
    mutation(
        "learn nothing from followers",
        "A leader that lags must learn what is chosen from its followers, which have truncated it.",
        edit(
            Node,
            "_on_heartbeat_reply",
            ("self.learner.hear_of(sender, message.chosen_through)", "pass"),
        ),
    ),
    mutation(
        "hand over to one that cannot lead",
        "One that lags behind the log cannot lead, but its campaign unseats the leader.",
        edit(
            Node,
            "hand_over",
            ("if self._progress.get(target, 0) + 1 < self.acceptor.first_slot:", "if False:"),
        ),
    ),
    mutation(
        "lead without heartbeats",
        "A leader that is silent is taken for dead.",
        edit(Node, "_tick_leader", ("if self._heartbeat_left <= 0:", "if False:")),
    ),
)
