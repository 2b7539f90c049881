"""Quorum arithmetic against a naive twin that enumerates every subset."""

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos.quorum import QuorumError, QuorumSystem, always_meet, flexible, joint, majority

SIZES = st.sampled_from([1, 2, 3, 4, 5, 7])


def subsets(n: int) -> list[frozenset[int]]:
    members = range(1, n + 1)
    sets = (combinations(members, size) for size in range(n + 1))
    return [frozenset(nodes) for nodes in chain.from_iterable(sets)]


def sizes_meet(n: int, phase1: int, phase2: int) -> bool:
    """Whether every set of `phase1` members meets every set of `phase2` members."""
    all_sets = subsets(n)
    first = [nodes for nodes in all_sets if len(nodes) == phase1]
    second = [nodes for nodes in all_sets if len(nodes) == phase2]
    return all(a & b for a in first for b in second)


@given(SIZES, st.integers(-1, 8), st.integers(-1, 8))
def test_exactly_the_safe_and_reachable_sizes_are_taken(n: int, phase1: int, phase2: int) -> None:
    members = frozenset(range(1, n + 1))
    possible = 1 <= phase1 <= n and 1 <= phase2 <= n
    if possible and sizes_meet(n, phase1, phase2):
        QuorumSystem(members, phase1, phase2)
    else:
        with pytest.raises(QuorumError):
            QuorumSystem(members, phase1, phase2)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7])
def test_majority_is_the_smallest_size_that_meets_itself(n: int) -> None:
    size = next(k for k in range(1, n + 1) if sizes_meet(n, k, k))
    quorums = majority(range(1, n + 1))
    assert (quorums.phase1, quorums.phase2) == (size, size)


@given(SIZES, st.data())
def test_every_quorum_of_phase_1_meets_every_quorum_of_phase_2(n: int, data: st.DataObject) -> None:
    quorums = flexible(range(1, n + 1), phase2=data.draw(st.integers(1, n)))
    first = [nodes for nodes in subsets(n) if quorums.is_phase1(nodes)]
    second = [nodes for nodes in subsets(n) if quorums.is_phase2(nodes)]
    assert first and second
    assert all(a & b for a in first for b in second)
    if quorums.phase1 > 1:  # and a smaller phase 1 would not do
        assert not sizes_meet(n, quorums.phase1 - 1, quorums.phase2)


def test_strangers_and_repeats_do_not_count() -> None:
    quorums = majority([1, 2, 3])
    assert not quorums.is_phase1([1, 1, 1])
    assert not quorums.is_phase2([1, 8, 9])
    assert quorums.is_phase2([1, 3, 3])


def test_flexible_with_both_sizes() -> None:
    assert flexible([1, 2, 3, 4], phase2=2, phase1=4).phase1 == 4
    with pytest.raises(QuorumError, match="need not meet"):
        flexible([1, 2, 3, 4], phase2=2, phase1=2)


def test_an_empty_cluster_is_refused() -> None:
    with pytest.raises(QuorumError, match="at least one"):
        majority([])


systems = st.builds(
    lambda members, phase2, more: QuorumSystem(
        frozenset(members),
        min(len(members), len(members) + 1 - min(phase2, len(members)) + more),
        min(phase2, len(members)),
    ),
    st.sets(st.integers(1, 7), min_size=1, max_size=5),
    st.integers(1, 5),
    st.integers(0, 1),
)


def meet_by_trying(one: QuorumSystem, other: QuorumSystem) -> bool:
    return all(
        set(few) & set(others)
        for first, second in ((one, other), (other, one))
        for few in combinations(first.members, first.phase1)
        for others in combinations(second.members, second.phase2)
    )


@given(systems, systems)
def test_whether_two_systems_always_meet(one: QuorumSystem, other: QuorumSystem) -> None:
    assert always_meet(one, other) == meet_by_trying(one, other)


@given(systems, systems)
def test_the_joint_system_meets_both_and_is_one(one: QuorumSystem, other: QuorumSystem) -> None:
    between = joint(one, other)
    assert between.members == one.members | other.members
    assert meet_by_trying(one, between) and meet_by_trying(between, other)


def test_the_example_of_five_nodes_that_become_six() -> None:
    five, six = (
        QuorumSystem(frozenset(range(1, 6)), 4, 2),
        QuorumSystem(frozenset(range(1, 7)), 5, 2),
    )
    assert not always_meet(five, six)
    between = joint(five, six)
    assert (between.phase1, between.phase2) == (5, 3)
