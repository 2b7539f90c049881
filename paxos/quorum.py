"""Quorum systems as pure functions: which sets of nodes may decide.

Paxos does not need majorities. It needs every phase 1 quorum to meet every phase 2 quorum, so that
a new leader hears of whatever an older one may have got chosen. Two phase 2 quorums need not meet.
With simple counting quorums over n nodes that is `phase1 + phase2 > n`.

Source: Howard, "Distributed Consensus Revised" (2019), chapter 4; Howard, Malkhi, Spiegelman,
"Flexible Paxos: Quorum Intersection Revisited" (2016).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from paxos.ballot import NodeId


class QuorumError(ValueError):
    """Quorum sizes that would let two different values be chosen, or that nobody can reach."""


@dataclass(frozen=True)
class QuorumSystem:
    """The members that vote, and how many of them each phase needs.

    Raises QuorumError if a phase 1 quorum could miss a phase 2 quorum, or on sizes out of range.
    """

    members: frozenset[NodeId]
    phase1: int
    phase2: int

    def __post_init__(self) -> None:
        n = len(self.members)
        if n == 0:
            raise QuorumError("a cluster needs at least one member")
        for name, size in (("phase 1", self.phase1), ("phase 2", self.phase2)):
            if not 1 <= size <= n:
                raise QuorumError(f"a {name} quorum of {size} is impossible with {n} members")
        if self.phase1 + self.phase2 <= n:
            raise QuorumError(
                f"a phase 1 quorum of {self.phase1} and a phase 2 quorum of {self.phase2} need not "
                f"meet among {n} members: their sum must be at least {n + 1}"
            )

    def is_phase1(self, nodes: Collection[NodeId]) -> bool:
        """Whether promises from `nodes` let a leader start phase 2."""
        return len(self.members.intersection(nodes)) >= self.phase1

    def is_phase2(self, nodes: Collection[NodeId]) -> bool:
        """Whether acceptances from `nodes` make a value chosen."""
        return len(self.members.intersection(nodes)) >= self.phase2


def majority(members: Iterable[NodeId]) -> QuorumSystem:
    """Both phases need more than half of the members."""
    nodes = frozenset(members)
    size = len(nodes) // 2 + 1
    return QuorumSystem(nodes, size, size)


def flexible(members: Iterable[NodeId], phase2: int, phase1: int | None = None) -> QuorumSystem:
    """A chosen phase 2 size; phase 1 defaults to the smallest that always meets it."""
    nodes = frozenset(members)
    return QuorumSystem(nodes, len(nodes) + 1 - phase2 if phase1 is None else phase1, phase2)


def always_meet(one: QuorumSystem, other: QuorumSystem) -> bool:
    """Whether each phase 1 quorum of either meets each phase 2 quorum of the other."""
    return _meets(one, other) and _meets(other, one)


def _meets(first: QuorumSystem, second: QuorumSystem) -> bool:
    """Whether each phase 1 quorum of `first` meets each phase 2 quorum of `second`.

    To miss each other they first take members that the other system does not have.
    """
    shared = len(first.members & second.members)
    from_shared = max(0, first.phase1 - len(first.members - second.members))
    return from_shared + max(0, second.phase2 - len(second.members - first.members)) > shared


def joint(one: QuorumSystem, other: QuorumSystem) -> QuorumSystem:
    """All members of both, and the smallest quorums that always meet those of both."""
    members = one.members | other.members
    n = len(members)
    phase2 = n + 1 - min(one.phase1, other.phase1)
    phase1 = n + 1 - min(one.phase2, other.phase2, phase2)
    return QuorumSystem(members, phase1, phase2)
