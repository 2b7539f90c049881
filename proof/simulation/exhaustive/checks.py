"""Which models are searched, and what is expected of each."""

from paxos.ballot import Ballot
from paxos.quorum import flexible, majority
from proof.simulation.exhaustive.broken import (
    BreaksPromise,
    ForgetsPromise,
    InsistsOnOwnValue,
    TakesLowestValue,
    UncheckedQuorums,
)
from proof.simulation.exhaustive.model import ACCEPTORS, VALUES, SynodModel
from proof.simulation.exhaustive.search import Search

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
