"""Single-decree Paxos: how one value is chosen, and nothing else.

The roles are those of Lamport, "Paxos Made Simple" (2001), section 2. The acceptor is the real one,
used for its first slot only; what `paxos.proposer` adds for a log of many slots (a window, pieces,
sending again, a barrier) is left out here. `proof.simulation.exhaustive` walks every message order
of it.

    python -m paxos.synod        two proposers, three acceptors, a preemption, one chosen value
"""

from collections.abc import Iterable
from typing import NamedTuple

from paxos.acceptor import Acceptor
from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.effects import Effects
from paxos.messages import Accept, Accepted, AnyMessage, LogEntry, Nack, Prepare, Promise
from paxos.proposer import safe_values
from paxos.quorum import QuorumSystem, majority

SLOT: Slot = 1
"""The one instance of Paxos that is run here."""


class PendingEffects:
    """Where a role puts its effects until they are obeyed; pass it to `Acceptor` as `out`."""

    def __init__(self) -> None:
        self._effects = Effects()

    def __call__(self) -> Effects:
        return self._effects

    def take(self) -> Effects:
        """Drain. The caller commits `persist` before it lets `send` go."""
        drained, self._effects = self._effects, Effects()
        return drained


class ProposerState(NamedTuple):
    """All that a proposer remembers. `proposed` is None until phase 2 of `ballot` has begun."""

    ballot: Ballot = ZERO
    promised: frozenset[NodeId] = frozenset()
    reported: frozenset[LogEntry] = frozenset()
    proposed: bytes | None = None


class SynodProposer:
    """A proposer with a value of its own, which it may have to give up for another's.

    "Paxos Made Simple", section 2.2, phases 1 (a) and 2 (a). Every message it returns is for all
    acceptors.
    """

    def __init__(
        self,
        node: NodeId,
        quorums: QuorumSystem,
        value: bytes,
        state: ProposerState | None = None,
    ) -> None:
        self.node = node
        self.quorums = quorums
        self.value = value
        self.state = ProposerState() if state is None else state

    def prepare(self, ballot: Ballot) -> Prepare:
        """Phase 1 (a). Whatever was under way in a lower ballot is abandoned.

        Raises ValueError unless `ballot` belongs to this node and is above all it has used:
        section 2.4 gives each proposer its own numbers, and each number is used once.
        """
        if ballot.node != self.node or ballot <= self.state.ballot:
            raise ValueError(f"proposer {self.node} may not use {ballot} after {self.state.ballot}")
        self.state = ProposerState(ballot)
        return Prepare(ballot, SLOT)

    def on_promise(self, sender: NodeId, message: Promise) -> Accept | None:
        """Count a promise. Phase 2 (a), once, when a phase 1 quorum has promised."""
        ballot, promised, reported, proposed = self.state
        if message.ballot != ballot or proposed is not None:
            return None
        promised |= {sender}
        reported |= frozenset(message.accepted)
        if not self.quorums.is_phase1(promised):
            self.state = ProposerState(ballot, promised, reported)
            return None
        value = self.value_for(reported)
        # The promises have served: forgetting them lets the model checker merge states.
        self.state = ProposerState(ballot, proposed=value)
        return Accept(ballot, SLOT, value, 0)

    def value_for(self, reported: Iterable[LogEntry]) -> bytes:
        """The value of the highest ballot reported, or the own one if nothing was (P2c)."""
        recovered = safe_values(SLOT, reported)
        return recovered[0][1] if recovered else self.value

    def on_nack(self, message: Nack) -> Ballot | None:
        """The ballot to try next if this one is preempted; None if the refusal is an old one."""
        if message.ballot != self.state.ballot or message.promised <= message.ballot:
            return None
        return message.promised.next_for(self.node)


class SynodLearner:
    """Counts acceptances ballot by ballot. "Paxos Made Simple", section 2.3.

    Acceptances of different ballots never add up, not even those of the same value.
    """

    def __init__(self, quorums: QuorumSystem) -> None:
        self.quorums = quorums
        self._votes: dict[Ballot, set[NodeId]] = {}

    def on_accepted(self, sender: NodeId, message: Accepted) -> bool:
        """Whether the value proposed in `message.ballot` is now known to be chosen."""
        votes = self._votes.setdefault(message.ballot, set())
        votes.add(sender)
        return self.quorums.is_phase2(votes)


class LaneTrace:
    """A run of two proposers (1, 2) and three acceptors (1, 2, 3), drawn as it happens."""

    LANES = ("P1", "A1", "A2", "A3", "P2")
    WIDTH = 9

    def __init__(self) -> None:
        quorums = majority([1, 2, 3])
        self.proposers = {1: SynodProposer(1, quorums, b"x"), 2: SynodProposer(2, quorums, b"y")}
        self.outboxes = {node: PendingEffects() for node in (1, 2, 3)}
        self.acceptors = {node: Acceptor(out) for node, out in self.outboxes.items()}
        self.learner = SynodLearner(quorums)
        self.chosen: bytes | None = None
        self.lines = ["".join(lane.ljust(self.WIDTH) for lane in self.LANES).rstrip()]

    def say(self, text: str) -> None:
        self.lines += ["", f"-- {text}"]

    def deliver(self, message: Prepare | Accept, to: Iterable[NodeId]) -> list[Accept | Ballot]:
        """Let the acceptors `to` take the message, and its proposer their answers.

        Returns what these make the proposer do: begin phase 2, or try a higher ballot.
        """
        reactions: list[Accept | Ballot] = []
        proposer = message.ballot.node
        for node in to:
            self._arrow(f"P{proposer}", f"A{node}", message)
            if isinstance(message, Prepare):
                self.acceptors[node].on_prepare(proposer, message)
            else:
                self.acceptors[node].on_accept(proposer, message)
            effects = self.outboxes[node].take()
            for _, answer in [*effects.send_first, *effects.send]:
                self._arrow(f"A{node}", f"P{proposer}", answer)
                reaction = self._answer(proposer, node, answer)
                if reaction is not None:
                    reactions.append(reaction)
        return reactions

    def _answer(
        self, proposer: NodeId, sender: NodeId, answer: AnyMessage
    ) -> Accept | Ballot | None:
        role = self.proposers[proposer]
        match answer:
            case Promise():
                return role.on_promise(sender, answer)
            case Nack():
                return role.on_nack(answer)
            case Accepted() if self.learner.on_accepted(sender, answer):
                self.chosen = role.state.proposed
        return None

    def _arrow(self, source: str, target: str, message: AnyMessage) -> None:
        a, b = self.LANES.index(source), self.LANES.index(target)
        low, high = min(a, b) * self.WIDTH, max(a, b) * self.WIDTH
        row = list("".join("|".ljust(self.WIDTH) for _ in self.LANES))
        row[low + 1 : high] = "-" * (high - low - 1)
        if a < b:
            row[high - 1] = ">"
        else:
            row[low + 1] = "<"
        self.lines.append("".join(row) + describe(message))


def describe(message: AnyMessage) -> str:
    """A message of single-decree Paxos, for people to read."""
    match message:
        case Prepare(ballot):
            return f"Prepare {ballot}"
        case Promise(ballot, _, ()):
            return f"Promise {ballot} (nothing accepted)"
        case Promise(ballot, _, (entry, *_)):
            return f"Promise {ballot} (accepted {entry.value.decode()} in {entry.ballot})"
        case Accept(ballot, _, value):
            return f"Accept {ballot} {value.decode()}"
        case Accepted(ballot):
            return f"Accepted {ballot}"
        case Nack(ballot, promised):
            return f"Nack {ballot}: {promised} is promised"
    return repr(message)


def trace() -> tuple[list[str], bytes | None]:
    """The lines of the example run, and the value chosen in it."""
    run = LaneTrace()
    first, second = run.proposers[1], run.proposers[2]
    run.say("Proposer 1 completes phase 1 with acceptors 1 and 2, and is then slow.")
    (accept_x,) = run.deliver(first.prepare(ZERO.next_for(1)), [1, 2])
    run.say("Proposer 2 overtakes it: a higher ballot, promised by acceptors 2 and 3.")
    (accept_y,) = run.deliver(second.prepare(Ballot(1, 2)), [2, 3])
    run.say("Acceptor 1 still accepts x. Acceptor 2 keeps its promise: proposer 1 is preempted.")
    assert isinstance(accept_x, Accept) and isinstance(accept_y, Accept)
    (higher,) = run.deliver(accept_x, [1, 2])
    run.say("So far y is accepted by acceptor 3 alone: neither x nor y is chosen.")
    run.deliver(accept_y, [3])
    run.say("Proposer 1 tries again. Of the two values reported, y has the higher ballot, so it")
    run.lines.append("   must give up its own x: for all it knows, y may have been chosen already.")
    assert isinstance(higher, Ballot)
    (accept,) = run.deliver(first.prepare(higher), [1, 3])
    assert isinstance(accept, Accept)
    run.say("A phase 2 quorum, acceptors 1 and 3, accepts in the same ballot.")
    run.deliver(accept, [1, 3])
    return run.lines, run.chosen


def main() -> None:
    """Print the example run."""
    lines, chosen = trace()
    print("\n".join(lines))
    print(f"\nchosen: {'nothing' if chosen is None else chosen.decode()}")


if __name__ == "__main__":
    main()
