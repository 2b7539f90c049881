"""Breadth first through all states of a model."""

import time
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from paxos.ballot import NodeId
from paxos.messages import Accept, Accepted, AnyMessage, Prepare, Promise
from paxos.synod import ProposerState, describe
from proof.simulation.exhaustive.model import (
    ACCEPTORS,
    VALUES,
    AcceptorState,
    Lane,
    ModelStep,
    State,
    SynodModel,
    chosen_values,
    lane_step,
    learned_ballots,
    proposer_step,
)

STATES_MAX = 5_000_000
"""The search gives up with RuntimeError beyond this: it is meant to end, not to fill memory."""


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
