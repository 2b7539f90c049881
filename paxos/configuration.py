"""Configurations: who votes on which slot.

A change of the members is a command in the log. Chosen in slot s, it governs the slots from
s + distance on (Lamport, "Paxos Made Simple", section 3; Lamport, Malkhi, Zhou, "Reconfiguring a
State Machine", 2010, the method R-alpha). So one configuration governs each slot, and whoever has
applied the log up to slot t - distance knows which one governs slot t. The argument for its safety
is docs/decisions/0021-configurations.md.
"""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from paxos.ballot import NodeId, Slot
from paxos.quorum import QuorumSystem

DISTANCE = 32
"""From the slot of a change to the first slot that it governs, unless the configuration says
otherwise. No more slots can be in flight."""


class Configuration(NamedTuple):
    """`quorums` governs the slots from `first_slot` on, until the next configuration does."""

    first_slot: Slot
    quorums: QuorumSystem
    distance: int = DISTANCE


class Governance:
    """What one node knows of configurations: all that govern slots it has not applied yet.

    `members` are all who take part, learners included; nobody is a member before the first
    configuration is known, and then no slot may be proposed.
    """

    def __init__(
        self, node: NodeId, quorums: QuorumSystem | None = None, distance: int = DISTANCE
    ) -> None:
        self.node = node
        self.applied_through: Slot = 0
        self.known_through: Slot = 0
        self.members: frozenset[NodeId] = frozenset()
        self.peers: tuple[NodeId, ...] = ()
        self._configurations: tuple[Configuration, ...] = ()
        self._distance = 0
        if quorums is not None:
            self.configure((Configuration(1, quorums, distance),), quorums.members)

    def configure(self, configurations: Sequence[Configuration], members: Iterable[NodeId]) -> None:
        """These govern what is not applied, in the order of their first slots."""
        self._configurations = tuple(configurations)
        self.members = frozenset(members).union(*(c.quorums.members for c in configurations))
        self.peers = tuple(sorted(self.members - {self.node}))
        self._distance = min((c.distance for c in configurations), default=0)
        self.applied(self.applied_through)

    def applied(self, through: Slot) -> None:
        """The caller has applied the log up to `through`, and said what it found there.

        A change in a later slot governs at least `distance` slots after it, so what governs is
        known so far.
        """
        self.applied_through = through
        self.known_through = through + self._distance if self._distance else 0

    def at(self, slot: Slot) -> QuorumSystem | None:
        """What governs `slot`, as far as it is known."""
        for configuration in reversed(self._configurations):
            if slot >= configuration.first_slot:
                return configuration.quorums
        return None

    def after(self, through: Slot) -> list[QuorumSystem]:
        """All that may govern a slot after `through`."""
        return [configuration.quorums for configuration in self.configurations_after(through)]

    def configurations_after(self, through: Slot) -> list[Configuration]:
        """`after`, with their first slots."""
        known = self._configurations
        return [
            configuration
            for configuration, following in zip_longest(known, known[1:])
            if following is None or following.first_slot > through + 1
        ]

    @property
    def last(self) -> Configuration | None:
        """The newest, which may not govern yet."""
        return self._configurations[-1] if self._configurations else None

    def voters_after(self, through: Slot) -> frozenset[NodeId]:
        """Who has a vote on some slot after `through`."""
        return frozenset().union(*(quorums.members for quorums in self.after(through)))

    def is_phase1(self, nodes: Iterable[NodeId], through: Slot) -> bool:
        """Whether promises of `nodes` are a phase 1 quorum of all that govern after `through`."""
        promised, systems = frozenset(nodes), self.after(through)
        return bool(systems) and all(quorums.is_phase1(promised) for quorums in systems)

    def is_phase2(self, nodes: Iterable[NodeId], through: Slot) -> bool:
        """Whether `nodes` are a phase 2 quorum of all that govern after `through`."""
        answered, systems = frozenset(nodes), self.after(through)
        return bool(systems) and all(quorums.is_phase2(answered) for quorums in systems)
