"""The learner: which slots are chosen, how far without a gap, and what to fetch.

The leader counts votes (the "distinguished learner" of "Paxos Made Simple", section 2.3); everyone
else believes the leader's `chosen_through` for values accepted in the leader's own ballot, and
fetches the rest.
"""

from collections.abc import Callable, Mapping

from paxos.ballot import Ballot, NodeId, Slot
from paxos.configuration import Governance
from paxos.effects import Effects
from paxos.messages import Fetch, LogEntry


class Learner:
    """One node's learner. `chosen_through` is the inclusive chosen prefix handed to the caller."""

    def __init__(
        self,
        governance: Governance,
        out: Callable[[], Effects],
        *,
        chosen_through: Slot,
        resend_ticks: int,
    ) -> None:
        self._governance = governance
        self._out = out
        self._resend_ticks = resend_ticks
        self.chosen_through: Slot = chosen_through
        self.wanted_through: Slot = chosen_through
        self._votes: dict[Slot, tuple[Ballot, set[NodeId]]] = {}
        self._ahead: dict[Slot, bytes] = {}
        self._source: NodeId | None = None
        self._asked_ticks: int | None = None

    def vote(self, sender: NodeId, ballot: Ballot, slot: Slot) -> bool:
        """Count an Accepted of the ballot this node leads; whether it makes the slot chosen.

        Only votes of those count who vote on that slot by the configuration that governs it.
        """
        if slot <= self.chosen_through or slot in self._ahead:
            return False
        counted = self._votes.get(slot)
        if counted is None or counted[0] < ballot:
            counted = self._votes[slot] = (ballot, set())
        if counted[0] != ballot:
            return False
        counted[1].add(sender)
        quorums = self._governance.at(slot)
        if quorums is None or not quorums.is_phase2(counted[1]):
            return False
        del self._votes[slot]
        return True

    def forget_votes(self) -> None:
        """The ballot they were cast in is over for this node.

        What they made chosen beyond a gap is learned again. Failing schedule otherwise: the node
        leads once more, proposes those slots again, and nobody counts or settles them.
        """
        self._votes.clear()
        self._ahead.clear()

    def choose(self, slot: Slot, value: bytes) -> None:
        """Learn that `value` is chosen in `slot`, in any order; emit the contiguous prefix."""
        if slot <= self.chosen_through:
            return
        self._ahead[slot] = value
        chosen = self._out().chosen
        while (value_next := self._ahead.pop(self.chosen_through + 1, None)) is not None:
            self.chosen_through += 1
            self._votes.pop(self.chosen_through, None)
            chosen.append((self.chosen_through, value_next))
        self.wanted_through = max(self.wanted_through, self.chosen_through)

    def follow(
        self, leader: NodeId, ballot: Ballot, through: Slot, log: Mapping[Slot, LogEntry]
    ) -> None:
        """The leader of `ballot` says that every slot up to `through` is chosen.

        Only an entry accepted in that same ballot is known to hold the leader's value: an entry of
        an older ballot may be a value that lost. The first one that is missing or older is a gap,
        to be fetched if the next tick still finds it.
        """
        self._source = leader
        self.wanted_through = max(self.wanted_through, through)
        for slot in range(self.chosen_through + 1, through + 1):
            entry = log.get(slot)
            if entry is None or entry.ballot != ballot:
                break
            self.choose(slot, entry.value)

    def hear_of(self, source: NodeId, through: Slot) -> None:
        """`source` has the log chosen up to `through`; what is missing here, a tick fetches."""
        if through > self.chosen_through:
            self._source = source
            self.wanted_through = max(self.wanted_through, through)

    def on_fetched(self, sender: NodeId, entries: tuple[LogEntry, ...], through: Slot) -> None:
        """A piece of the log. Asks for the next one until nothing is missing."""
        self._asked_ticks = None
        self.wanted_through = max(self.wanted_through, through)
        before = self.chosen_through
        for entry in entries:
            if entry.slot == self.chosen_through + 1:
                self.choose(entry.slot, entry.value)
        if self.chosen_through > before and self.chosen_through < self.wanted_through:
            self._source = sender
            self._fetch()

    def restart_from(self, through: Slot) -> None:
        """A snapshot brought the state up to `through`."""
        self._asked_ticks = None
        if through <= self.chosen_through:
            return
        self.chosen_through = through
        self.wanted_through = max(self.wanted_through, through)
        self._ahead = {slot: value for slot, value in self._ahead.items() if slot > through}
        self._votes = {slot: votes for slot, votes in self._votes.items() if slot > through}

    def tick(self) -> None:
        """Fetch what is missing; ask again if the answer did not come."""
        if self.wanted_through <= self.chosen_through or self._source is None:
            self._asked_ticks = None
            return
        if self._asked_ticks is not None:
            self._asked_ticks += 1
            if self._asked_ticks < self._resend_ticks:
                return
        self._fetch()

    def _fetch(self) -> None:
        assert self._source is not None
        self._asked_ticks = 0
        self._out().send_first.append((self._source, Fetch(self.chosen_through + 1)))
