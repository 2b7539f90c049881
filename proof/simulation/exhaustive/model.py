"""The model: states, and what one step of the real classes does to them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from paxos.acceptor import Acceptor
from paxos.ballot import ZERO, Ballot, NodeId
from paxos.effects import Effects
from paxos.messages import Accept, Accepted, AnyMessage, LogEntry, Nack, Prepare, Promise
from paxos.quorum import QuorumSystem
from paxos.records import Restored, fold
from paxos.synod import SLOT, PendingEffects, ProposerState, SynodLearner, SynodProposer

ACCEPTORS = (1, 2, 3)
VALUES = {1: b"x", 2: b"y"}


class AcceptorState(NamedTuple):
    """What an acceptor has in memory, and what its records add up to."""

    promised: Ballot = ZERO
    accepted: LogEntry | None = None
    promised_durably: Ballot = ZERO
    accepted_durably: LogEntry | None = None


class Lane(NamedTuple):
    """One acceptor and everything that concerns it alone.

    `network` holds every message ever sent to it or by it; the proposer at the other end is the one
    whose ballot it is. `votes` is history: what it has ever recorded as accepted.
    """

    acceptor: AcceptorState = AcceptorState()
    network: frozenset[AnyMessage] = frozenset()
    votes: frozenset[LogEntry] = frozenset()


class ModelStep(NamedTuple):
    """Acceptor `acceptor` or proposer `proposer` takes `message`, which went between these two.

    Without a message: the acceptor restarts, or the proposer begins its next ballot.
    """

    acceptor: NodeId | None
    proposer: NodeId | None
    message: AnyMessage | None


State = tuple[int, ...]
"""The numbers of the states of the two proposers and of the three lanes."""


@dataclass(frozen=True)
class SynodModel:
    """What is checked: quorums, the ballots each proposer may use in turn, and the classes."""

    quorums: QuorumSystem
    ballots: Mapping[NodeId, Sequence[Ballot]]
    acceptor: type[Acceptor] = Acceptor
    proposer: type[SynodProposer] = SynodProposer


def lane_step(model: SynodModel, lane: Lane, message: AnyMessage | None) -> Lane:
    """Rebuild the real acceptor, give it the message (None: restart it), take it apart again."""
    memory = lane.acceptor
    promised = memory.promised_durably if message is None else memory.promised
    accepted = memory.accepted_durably if message is None else memory.accepted
    entries = () if accepted is None else (accepted,)
    outbox = PendingEffects()
    acceptor = model.acceptor(outbox, Restored(promised, entries, SLOT, 0))
    if message is not None:
        # Restoring infers a promise from the entries; an acceptor that runs on must not be healed.
        acceptor.promised = promised
    match message:
        case Prepare():
            acceptor.on_prepare(message.ballot.node, message)
        case Accept():
            acceptor.on_accept(message.ballot.node, message)
    return obey(lane, acceptor, outbox.take())


def obey(lane: Lane, acceptor: Acceptor, effects: Effects) -> Lane:
    """The caller's half of the contract of `Effects`: commit `persist`, then send."""
    memory, accepted = lane.acceptor, [r for r in effects.persist if isinstance(r, LogEntry)]
    before = (memory.accepted_durably,) if memory.accepted_durably is not None else ()
    durable = fold(effects.persist, Restored(memory.promised_durably, before, SLOT, 0))
    held = durable.entries[0] if durable.entries else None
    answers = [message for _, message in [*effects.send_first, *effects.send]]
    network = lane.network.union(m for m in answers if not isinstance(m, Nack))
    state = AcceptorState(acceptor.promised, acceptor.log.get(SLOT), durable.promised, held)
    return Lane(state, network, lane.votes.union(accepted))


def proposer_step(
    model: SynodModel, node: NodeId, before: ProposerState, sender: NodeId, message: Promise | None
) -> tuple[ProposerState, Prepare | Accept | None]:
    """The same for the proposer (None: it begins its next ballot), and what it sends to all."""
    proposer = model.proposer(node, model.quorums, VALUES[node], before)
    sent: Prepare | Accept | None = None
    if message is not None:
        sent = proposer.on_promise(sender, message)
    else:
        ballot = next((b for b in model.ballots[node] if b > before.ballot), None)
        sent = None if ballot is None else proposer.prepare(ballot)
    return proposer.state, sent


def chosen_values(quorums: QuorumSystem, lanes: Sequence[Lane]) -> dict[Ballot, set[bytes]]:
    """The definition of chosen: a phase 2 quorum accepted the value in one ballot."""
    votes = Counter((vote.ballot, vote.value) for lane in lanes for vote in lane.votes)
    chosen: dict[Ballot, set[bytes]] = {}
    for (ballot, value), count in votes.items():
        if count >= quorums.phase2:
            chosen.setdefault(ballot, set()).add(value)
    return chosen


def learned_ballots(quorums: QuorumSystem, lanes: Sequence[Lane]) -> set[Ballot]:
    """What the real learner concludes once every acceptance sent has reached it."""
    learner = SynodLearner(quorums)
    return {
        message.ballot
        for node, lane in zip(ACCEPTORS, lanes, strict=True)
        for message in lane.network
        if isinstance(message, Accepted) and learner.on_accepted(node, message)
    }
