"""Faults of the consensus core: acceptors, proposers, quorums, learners."""

from paxos.acceptor import Acceptor
from paxos.learner import Learner
from paxos.node import Node
from paxos.proposer import Proposer
from paxos.quorum import QuorumSystem
from proof.simulation.mutations.edit import edit, mutation

_ACCEPTORS = (
    mutation(
        "accept below the promise",
        "P1a: an acceptor accepts a ballot only if it has not promised a higher one.",
        edit(
            Acceptor,
            "on_accept",
            ("if message.ballot < self.promised:", "if False:"),
            ("if message.ballot > self.promised:", "if message.ballot != self.promised:"),
        ),
    ),
    mutation(
        "keep the promise in memory only",
        "A promise must be durable before it is answered: after a crash nobody remembers it.",
        edit(Acceptor, "on_prepare", ("out.persist.append(Promised(message.ballot))", "pass")),
    ),
    mutation(
        "keep accepted values in memory only",
        "An accepted value must be durable before it is answered: phase 1 relies on its report.",
        edit(Acceptor, "on_accept", ("out.persist.append(entry)", "pass")),
    ),
    mutation(
        "report no accepted values",
        "Phase 1b: a promise reports what was accepted; a new leader hears of it in no other way.",
        edit(
            Acceptor,
            "on_prepare",
            ("message.first_slot, entries, next_slot)", "message.first_slot, (), next_slot)"),
        ),
    ),
    mutation(
        "promise what is truncated",
        "An acceptor may promise only for slots it can report: the asker would take a chosen slot "
        "whose entry was truncated for a free one.",
        edit(Acceptor, "on_prepare", ("if message.first_slot < self.first_slot:", "if False:")),
    ),
    mutation(
        "hand out what is merely accepted",
        "A laggard applies what it fetches, so only chosen entries may be handed out.",
        edit(
            Acceptor,
            "on_fetch",
            ("message.first_slot, chosen_through)[0]", "message.first_slot, self.last_slot)[0]"),
        ),
    ),
)

_PROPOSERS = (
    mutation(
        "pick the value of the lowest ballot",
        "P2c: of several accepted values a new leader proposes that of the highest ballot.",
        edit(Proposer, "on_promise", ("held.ballot < entry.ballot", "held.ballot > entry.ballot")),
    ),
    mutation(
        "ignore the values of phase 1",
        "P2c: a value that may be chosen already must be proposed again.",
        edit(Proposer, "_recover", ("phase1.entries.values()", "()")),
    ),
    mutation(
        "leave gaps unfilled",
        "Slots below the highest reported one must get a no-op: the log is applied without gaps, "
        "so one that nobody proposes stops it for ever.",
        edit(
            Proposer,
            "pump",
            (
                "    value = self._recovered.pop(self.next_slot, NOOP)",
                "    value = self._recovered.pop(self.next_slot, NOOP)\n"
                "        if not value and self.next_slot < self.barrier:\n"
                "            self.next_slot += 1\n"
                "            continue",
            ),
        ),
    ),
    mutation(
        "use a slot twice in one ballot",
        "A ballot proposes at most one value in a slot: votes name the ballot, not the value.",
        edit(
            Proposer,
            "propose",
            (
                "return self._accept_next(value, chosen_through)",
                "self.next_slot -= self.next_slot == self.barrier + 1\n"
                "    return self._accept_next(value, chosen_through)",
            ),
        ),
    ),
    mutation(
        "count a promise before its last piece",
        "Long promises travel in pieces, and bind the asker to all that they report.",
        edit(Proposer, "on_promise", ("if message.next_slot is not None:", "if False:")),
    ),
)

_QUORUMS = (
    mutation(
        "count phase 1 with one less",
        "Every phase 1 quorum meets every phase 2 quorum; with one member less it may miss it.",
        edit(QuorumSystem, "is_phase1", (">= self.phase1", ">= max(1, self.phase1 - 1)")),
    ),
    mutation(
        "count phase 2 with one less",
        "A value is chosen by a phase 2 quorum; with one member less, phase 1 may not hear of it.",
        edit(QuorumSystem, "is_phase2", (">= self.phase2", ">= max(1, self.phase2 - 1)")),
    ),
    mutation(
        "choose on the first vote",
        "A value is chosen by a quorum; a leader alone may be the only one that ever knew it.",
        edit(Learner, "vote", ("not quorums.is_phase2(counted[1])", "not counted[1]")),
    ),
)

_LEARNERS = (
    mutation(
        "believe an entry of another ballot",
        "That a slot is chosen says which value only for the leader's own ballot: an entry of "
        "another ballot may hold a value that lost.",
        edit(Learner, "follow", ("entry is None or entry.ballot != ballot", "entry is None")),
    ),
    mutation(
        "announce before it is chosen",
        "A leader may announce a slot once a quorum has accepted it, not with the proposal itself.",
        edit(
            Proposer,
            "_accept",
            (
                "Accept(self.ballot, slot, value, chosen_through)",
                "Accept(self.ballot, slot, value, slot)",
            ),
        ),
    ),
    mutation(
        "serve the log from before a snapshot",
        "A snapshot says that its slots are chosen, not with which values: entries held from "
        "before may have lost, and must not be handed out as chosen.",
        edit(Node, "restart_from_snapshot", ("self.acceptor.truncate(through + 1)", "pass")),
    ),
)

MUTATIONS = (*_ACCEPTORS, *_PROPOSERS, *_QUORUMS, *_LEARNERS)
