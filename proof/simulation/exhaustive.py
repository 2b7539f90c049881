"""An exhaustive model checker: every message order of single-decree Paxos, over the real classes.

Two proposers, three acceptors, and a network that is the *set* of all messages ever sent. Any of
them may be delivered next, again, or never: order, loss and duplication in one rule. A proposer may
give up and begin its next ballot at any time; an acceptor may crash and restart from its records at
any time. In every state reached, at most one value may be chosen, judged from what the acceptors
put into their records: a phase 2 quorum of them accepted in one ballot. `SynodLearner`, given the
same acceptances, must find the same ballots chosen.

Reduced without losing behaviour: a delivery that changes nothing is no new state; Nacks are not
delivered, since all they may cause, a higher ballot, can happen at any time anyway; an acceptor
handles a message, commits and sends in one step, since a crash in between is a crash before (the
message comes again or never) or after (the answers never come).

Then rules of the algorithm are removed one at a time, and a shortest counter-example must be found:
a checker that finds nothing in a broken algorithm would prove nothing about a sound one.

    python -m proof.simulation.exhaustive       exit code 0 if and only if everything is as expected

Sources: Lamport, "Paxos Made Simple" (2001), section 2; Howard, "Distributed Consensus Revised"
(2019), chapter 4, for the quorums. Breadth first search of explicit states as in TLC (Yu,
Manolios, Lamport, "Model Checking TLA+ Specifications", 1999).
"""

import sys
import time
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, NamedTuple, TypeVar

from paxos.acceptor import Acceptor
from paxos.ballot import ZERO, Ballot, NodeId
from paxos.effects import Effects, Promised, Restored
from paxos.messages import Accept, Accepted, AnyMessage, LogEntry, Nack, Prepare, Promise
from paxos.proposer import safe_values
from paxos.quorum import QuorumSystem, flexible, majority
from paxos.synod import SLOT, PendingEffects, ProposerState, SynodLearner, SynodProposer, describe

ACCEPTORS = (1, 2, 3)
VALUES = {1: b"x", 2: b"y"}
STATES_MAX = 5_000_000
"""The search gives up with RuntimeError beyond this: it is meant to end, not to fill memory."""


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
    promised, accepted = lane.acceptor.promised_durably, lane.acceptor.accepted_durably
    votes = lane.votes
    for record in effects.persist:
        match record:
            case Promised(ballot):
                promised = max(promised, ballot)
            case LogEntry():
                accepted = record
                votes |= {record}
            case _:
                raise TypeError(f"single-decree Paxos keeps no {record!r}")
    answers = [message for _, message in [*effects.send_first, *effects.send]]
    network = lane.network.union(m for m in answers if not isinstance(m, Nack))
    state = AcceptorState(acceptor.promised, acceptor.log.get(SLOT), promised, accepted)
    return Lane(state, network, votes)


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


@dataclass
class SearchOutcome:
    """What a search found. `counter_example` is empty if no state violates agreement."""

    states: int = 0
    transitions: int = 0
    states_chosen: int = 0
    values_chosen: set[bytes] = field(default_factory=set)
    counter_example: list[str] = field(default_factory=list)
    seconds: float = 0.0


T = TypeVar("T", bound=Hashable)


class Numbers(Generic[T]):
    """Gives each distinct value a small number, so that a state is a tuple of integers."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._number: dict[T, int] = {}

    def of(self, value: T) -> int:
        number = self._number.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class Search:
    """Breadth first over all states of a model, so that a violation found is a shortest one.

    The real code runs once per component, state of it and message; the rest is table look-up.
    `symmetric`: states that differ only in which acceptor is which count as one.
    """

    def __init__(self, model: SynodModel, *, symmetric: bool = True) -> None:
        self.model = model
        self.symmetric = symmetric
        self._proposers: Numbers[ProposerState] = Numbers()
        self._lanes: Numbers[Lane] = Numbers()
        self._votes: Numbers[Lane] = Numbers()

        self._lane_moves = cache(self._find_lane_moves)
        self._promises = cache(self._find_promises)
        self._proposer_move = cache(self._find_proposer_move)
        self._lane_with = cache(self._find_lane_with)
        self._counted = cache(self._find_counted)
        self._renamed = cache(self._find_renamed)
        self._ballots_of = cache(self._find_ballots_of)
        self._verdict = cache(self._find_verdict)

    def run(self) -> SearchOutcome:
        """Visit every state, or stop at the first that violates agreement.

        Raises RuntimeError past STATES_MAX, AssertionError if the real learner errs.
        """
        began = time.perf_counter()
        outcome = SearchOutcome()
        state = self._initial()
        came_from: dict[State, State | None] = {state: None}
        queue = deque([state])
        while queue:
            state = queue.popleft()
            values = self._verdict(tuple(self._ballots_of(lane) for lane in state[2:]))
            outcome.states_chosen += bool(values)
            outcome.values_chosen |= values
            if len(values) > 1:
                outcome.counter_example = self._explain(state, came_from)
                break
            for _, after in self._successors(state):
                outcome.transitions += 1
                after = self._canonical(after)
                if after not in came_from:
                    came_from[after] = state
                    queue.append(after)
            if len(came_from) > STATES_MAX:
                raise RuntimeError(f"more than {STATES_MAX} states")
        outcome.states = len(came_from)
        outcome.seconds = time.perf_counter() - began
        return outcome

    def _initial(self) -> State:
        proposers = [self._proposers.of(ProposerState()) for _ in VALUES]
        return (*proposers, *(self._lanes.of(Lane()) for _ in ACCEPTORS))

    def _successors(self, state: State) -> Iterator[tuple[ModelStep, State]]:
        """Each event that changes something, and the state it leads to."""
        for place, acceptor in enumerate(ACCEPTORS, start=2):
            lane = state[place]
            for message, after in self._lane_moves(lane):
                event = ModelStep(acceptor, None, message)
                yield event, (*state[:place], after, *state[place + 1 :])
            for node, promise in self._promises(lane):
                moved = self._proposer_move(node, state[node - 1], acceptor, promise)
                if moved is not None:
                    yield ModelStep(acceptor, node, promise), self._after(state, node, *moved)
        for node in VALUES:
            moved = self._proposer_move(node, state[node - 1], 0, None)
            if moved is not None:
                yield ModelStep(None, node, None), self._after(state, node, *moved)

    def _after(
        self, state: State, node: NodeId, proposer: int, sent: Prepare | Accept | None
    ) -> State:
        """The proposer has changed, and sent something to all acceptors, or nothing."""
        lanes = state[2:] if sent is None else [self._lane_with(lane, sent) for lane in state[2:]]
        return (*state[: node - 1], proposer, *state[node:2], *lanes)

    def _canonical(self, state: State) -> State:
        """The representative of all states that differ only in which acceptor is which.

        Sound because quorums only count, so no rule tells acceptors apart.
        """
        first, second, a, b, c = state
        if not self.symmetric:
            return state
        in_first, in_second = self._counted(first), self._counted(second)
        keys = [4 * lane + 2 * in_first[i] + in_second[i] for i, lane in enumerate((a, b, c))]
        if keys[0] <= keys[1] <= keys[2]:
            return state
        order = tuple(sorted(range(3), key=keys.__getitem__))
        lanes = (state[2 + order[0]], state[2 + order[1]], state[2 + order[2]])
        return (self._renamed(first, order), self._renamed(second, order), *lanes)

    # Each of the following runs once per distinct arguments.

    def _find_lane_moves(self, lane: int) -> list[tuple[AnyMessage | None, int]]:
        """What the acceptor may take, duplicates included, if it changes its lane."""
        before = self._lanes.values[lane]
        requests = [m for m in before.network if isinstance(m, Prepare | Accept)]
        requests.sort(key=repr)
        moves = ((m, self._lanes.of(lane_step(self.model, before, m))) for m in [None, *requests])
        return [(message, after) for message, after in moves if after != lane]

    def _find_promises(self, lane: int) -> list[tuple[NodeId, Promise]]:
        network = self._lanes.values[lane].network
        promises = sorted((m for m in network if isinstance(m, Promise)), key=repr)
        return [(message.ballot.node, message) for message in promises]

    def _find_proposer_move(
        self, node: NodeId, before: int, sender: NodeId, message: Promise | None
    ) -> tuple[int, Prepare | Accept | None] | None:
        state = self._proposers.values[before]
        after, sent = proposer_step(self.model, node, state, sender, message)
        return None if after == state and sent is None else (self._proposers.of(after), sent)

    def _find_lane_with(self, lane: int, message: AnyMessage) -> int:
        before = self._lanes.values[lane]
        return self._lanes.of(before._replace(network=before.network | {message}))

    def _find_counted(self, proposer: int) -> tuple[bool, ...]:
        promised = self._proposers.values[proposer].promised
        return tuple(node in promised for node in ACCEPTORS)

    def _find_renamed(self, proposer: int, order: tuple[int, ...]) -> int:
        state = self._proposers.values[proposer]
        new_name = {ACCEPTORS[old]: ACCEPTORS[new] for new, old in enumerate(order)}
        promised = frozenset(new_name[node] for node in state.promised)
        return self._proposers.of(state._replace(promised=promised))

    def _find_ballots_of(self, lane: int) -> int:
        """A number for all that a verdict depends on in this lane."""
        _, network, votes = self._lanes.values[lane]
        accepted = frozenset(m for m in network if isinstance(m, Accepted))
        return self._votes.of(Lane(AcceptorState(), accepted, votes))

    def _find_verdict(self, votes: tuple[int, ...]) -> frozenset[bytes]:
        """The values chosen; checks the real learner against the definition."""
        lanes = [self._votes.values[number] for number in votes]
        chosen = chosen_values(self.model.quorums, lanes)
        learned = learned_ballots(self.model.quorums, lanes)
        assert learned == chosen.keys(), f"the learner finds {learned} chosen, not {chosen}"
        return frozenset().union(*chosen.values())

    def _explain(self, state: State, came_from: Mapping[State, State | None]) -> list[str]:
        """The steps that lead to the state, for people to read."""
        path = [state]
        while (before := came_from[path[-1]]) is not None:
            path.append(before)
        lines = []
        # The path goes through representatives; walk it again with the acceptors' own names.
        state = path.pop()
        for target in reversed(path):
            moves = self._successors(state)
            event, after = next((e, s) for e, s in moves if self._canonical(s) == target)
            lines.append(self._describe(event, state, after))
            state = after
        chosen = chosen_values(self.model.quorums, [self._lanes.values[n] for n in state[2:]])
        told = [f"{v.decode()} in {b}" for b, values in sorted(chosen.items()) for v in values]
        lines.append(f"two values are chosen: {', '.join(told)}")
        return [f"{number:2}. {line}" for number, line in enumerate(lines, start=1)]

    def _describe(self, event: ModelStep, before: State, after: State) -> str:
        """One line of a counter-example."""
        place = 2 if event.acceptor is None else event.acceptor + 1
        old, new = self._lanes.values[before[place]], self._lanes.values[after[place]]
        sent = "".join(f" -> {describe(m)}" for m in new.network - old.network)
        if event.proposer is not None:
            if event.message is None:
                return f"proposer {event.proposer} begins{sent}"
            source = f"acceptor {event.acceptor}"
            taken = describe(event.message)
            return f"proposer {event.proposer} takes {taken} from {source}{sent}"
        if event.message is not None:
            return f"acceptor {event.acceptor} takes {describe(event.message)}{sent}"
        forgotten = old.acceptor.promised if new.acceptor.promised < old.acceptor.promised else None
        lost = "" if forgotten is None else f", and has forgotten its promise {forgotten}"
        return f"acceptor {event.acceptor} restarts from its records{lost}"


# -- rules removed ------------------------------------------------------------------------------


class BreaksPromise(Acceptor):
    """Without P1a: accepts in a ballot below its promise."""

    def on_accept(self, sender: NodeId, message: Accept) -> bool:
        promised, self.promised = self.promised, min(self.promised, message.ballot)
        accepted = super().on_accept(sender, message)
        self.promised = max(promised, self.promised)
        return accepted


class ForgetsPromise(Acceptor):
    """Without durability: answers Prepare without recording the promise."""

    def on_prepare(self, sender: NodeId, message: Prepare) -> None:
        super().on_prepare(sender, message)
        self._out().persist.clear()


class InsistsOnOwnValue(SynodProposer):
    """Without P2c: ignores what the promises report."""

    def value_for(self, reported: Iterable[LogEntry]) -> bytes:
        return self.value


class TakesLowestValue(SynodProposer):
    """With half of P2c: takes a value reported, but not that of the highest ballot."""

    def value_for(self, reported: Iterable[LogEntry]) -> bytes:
        lowest = sorted(reported, key=lambda entry: entry.ballot)[:1]
        recovered = safe_values(SLOT, lowest)
        return recovered[0][1] if recovered else self.value


class UncheckedQuorums(QuorumSystem):
    """Quorum sizes that `QuorumSystem` would refuse."""

    def __post_init__(self) -> None:
        pass


# -- what is run --------------------------------------------------------------------------------

ONE_BALLOT_EACH = {1: (Ballot(1, 1),), 2: (Ballot(1, 2),)}
ONE_RETRY = {1: (Ballot(1, 1), Ballot(2, 1)), 2: (Ballot(1, 2),)}
"""Proposer 1 may try again above proposer 2: three ballots, so that two may be reported."""

MAJORITY = majority(ACCEPTORS)
DISJOINT = UncheckedQuorums(frozenset(ACCEPTORS), 1, 2)

SOUND = {
    "majorities, one retry": SynodModel(MAJORITY, ONE_RETRY),
    "phase 1 of 3, phase 2 of 1": SynodModel(flexible(ACCEPTORS, phase2=1), ONE_RETRY),
    # A retry as well would be 1.8 million states, also sound, in 20 seconds.
    "phase 1 of 1, phase 2 of 3": SynodModel(flexible(ACCEPTORS, phase2=3), ONE_BALLOT_EACH),
}

BROKEN = {
    "promise: an acceptor accepts below its promise": SynodModel(
        MAJORITY, ONE_BALLOT_EACH, acceptor=BreaksPromise
    ),
    "reported values: a proposer ignores them": SynodModel(
        MAJORITY, ONE_BALLOT_EACH, proposer=InsistsOnOwnValue
    ),
    "highest ballot: a proposer takes the lowest value reported": SynodModel(
        MAJORITY, ONE_RETRY, proposer=TakesLowestValue
    ),
    "intersection: phase 1 quorums of 1 miss phase 2 quorums of 2": SynodModel(
        DISJOINT, ONE_BALLOT_EACH
    ),
    "durability: an acceptor forgets its promise when it restarts": SynodModel(
        MAJORITY, ONE_BALLOT_EACH, acceptor=ForgetsPromise
    ),
}


def check_sound(name: str, model: SynodModel) -> bool:
    """Print what the search of a sound model found; whether that is as expected."""
    outcome = Search(model).run()
    print(
        f"{name}: {outcome.states:,} states, {outcome.transitions:,} transitions,"
        f" {outcome.states_chosen:,} states with a value chosen,"
        f" {1 if outcome.counter_example else 0} violations ({outcome.seconds:.1f} s)"
    )
    print("\n".join(outcome.counter_example), end="\n" if outcome.counter_example else "")
    # If only one value could ever be chosen, agreement would hold for the wrong reason.
    return not outcome.counter_example and outcome.values_chosen == set(VALUES.values())


def check_broken(name: str, model: SynodModel) -> bool:
    """Print the counter-example of a model without a rule; whether there is one."""
    outcome = Search(model).run()
    print(f"\nwithout {name} ({outcome.states:,} states, {outcome.seconds:.1f} s)")
    print("\n".join(outcome.counter_example) or "no counter-example: the checker is blind to this")
    return bool(outcome.counter_example)


def main() -> int:
    """Check everything; the exit code."""
    as_expected = [check_sound(name, model) for name, model in SOUND.items()]
    as_expected += [check_broken(name, model) for name, model in BROKEN.items()]
    print("\neverything is as expected" if all(as_expected) else "\nNOT as expected")
    return 0 if all(as_expected) else 1


if __name__ == "__main__":
    sys.exit(main())
