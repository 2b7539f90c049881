"""Marks: what happens inside a node, told to whoever tests it. Nothing depends on them.

A test or the simulation passes its own `Marks`; the one that does nothing is the default.
"""

from collections.abc import Mapping

from paxos.ballot import Ballot, NodeId, Slot
from paxos.messages import Accept, LogEntry


class Marks:
    """One method for each thing that only the inside of a node shows."""

    def campaigning(self, ballot: Ballot) -> None:
        """Phase 1 begins with `ballot`."""

    def rivalled(self, rival: NodeId) -> None:
        """Another candidate's Prepare comes while this node prepares too."""

    def preempted(self, ballot: Ballot) -> None:
        """An acceptor refuses `ballot`, with which this node leads or prepares."""

    def leading(self, first_slot: Slot, accepted: Mapping[Slot, LogEntry]) -> None:
        """Phase 1 is complete. `accepted` is what it found, the highest ballot of each slot from
        `first_slot` on."""

    def stepped_down(self, lost_quorum: bool) -> None:
        """A leader stops: no quorum answered it for a whole time-out, or it was preempted."""

    def proposed(self, accept: Accept) -> None:
        """As leader: a value goes into a slot."""

    def fetched(self, news: bool) -> None:
        """A piece of a peer's log came; `news`: with a slot that is not known as chosen here."""


NO_MARKS = Marks()
"""Nobody listens."""
