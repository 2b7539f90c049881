"""Ballots and slots: the two numbers that everything in Paxos is about."""

from typing import NamedTuple

NodeId = int
"""A member of the cluster, 1 or more."""

Slot = int
"""A position in the log, 1 or more. Each slot is one instance of Paxos."""


class Ballot(NamedTuple):
    """One attempt to lead. Ballots are totally ordered: by round, then by node.

    The node is part of the ballot, so two nodes can never own the same one. A node raises the
    round above every ballot it has seen, and its own promise of the new ballot is durable before
    anyone hears of it, so a ballot is never used again after a restart.

    Source: Lamport, "Paxos Made Simple" (2001), section 2.4: "each proposer uses proposal numbers
    from a disjoint set, and remembers in stable storage the highest one it has tried".
    """

    round: int
    node: NodeId

    def next_for(self, node: NodeId) -> "Ballot":
        """The lowest ballot of `node` that is above this one."""
        return Ballot(self.round + 1, node)

    def __str__(self) -> str:
        return f"{self.round}.{self.node}"


ZERO = Ballot(0, 0)
"""Below every ballot that a node can own: "nothing promised, nothing accepted"."""
