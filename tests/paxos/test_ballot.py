"""Ballots are totally ordered, and no two nodes own the same one."""

from hypothesis import given
from hypothesis import strategies as st

from paxos.ballot import ZERO, Ballot

NODES = st.integers(1, 7)
BALLOTS = st.builds(Ballot, st.integers(0, 9), NODES)


@given(BALLOTS, NODES)
def test_the_next_ballot_is_above_and_belongs_to_its_node(ballot: Ballot, node: int) -> None:
    assert ballot.next_for(node) > ballot > ZERO
    assert ballot.next_for(node).node == node


@given(BALLOTS, BALLOTS)
def test_round_decides_before_node(one: Ballot, other: Ballot) -> None:
    by_hand = one.round < other.round or (one.round == other.round and one.node < other.node)
    assert (one < other) == by_hand


def test_text() -> None:
    assert str(Ballot(12, 3)) == "12.3"
