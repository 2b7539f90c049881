"""Records: what an acceptor keeps on disk, and what they add up to at a restart."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from paxos.ballot import ZERO, Ballot, Slot
from paxos.messages import LogEntry


class Promised(msgspec.Struct, frozen=True):
    """Record: nothing below `ballot` is accepted any more."""

    ballot: Ballot


class Truncation(msgspec.Struct, frozen=True):
    """Record: the log begins at `first_slot`; everything before is chosen and applied durably."""

    first_slot: Slot


class ChosenThrough(msgspec.Struct, frozen=True):
    """Record: every entry up to `slot` holds the chosen value. Written only along with others."""

    slot: Slot


Record = Promised | LogEntry | Truncation | ChosenThrough
"""What an acceptor keeps on disk."""


@dataclass(frozen=True)
class Restored:
    """What the records of an earlier start add up to. `entries` are in slot order."""

    promised: Ballot
    entries: tuple[LogEntry, ...]
    first_slot: Slot
    chosen_through: Slot


class RecordFold:
    """Adds up records, one by one, in the order in which they were written.

    A later record of a kind replaces an earlier one, of its slot if it is an entry: nothing is
    healed that an acceptor wrote wrongly.
    """

    def __init__(self, before: Restored | None = None) -> None:
        self.promised = before.promised if before else ZERO
        self.first_slot = before.first_slot if before else 1
        self.chosen_through = before.chosen_through if before else 0
        self.entries = {entry.slot: entry for entry in before.entries} if before else {}
        self._lowest = min(self.entries, default=self.first_slot)  # none is below

    def add(self, record: Record) -> None:
        """`record` was written after all that were added before."""
        match record:
            case LogEntry():
                self.entries[record.slot] = record
                self._lowest = min(self._lowest, record.slot)
            case Promised(ballot):
                self.promised = ballot
            case ChosenThrough(slot):
                self.chosen_through = slot
            case Truncation(first_slot):
                self.first_slot = first_slot
                self._drop_below(first_slot)

    def _drop_below(self, first_slot: Slot) -> None:
        """A log has many truncations, so none looks at all entries unless it goes far."""
        if first_slot - self._lowest > len(self.entries):
            self.entries = {slot: e for slot, e in self.entries.items() if slot >= first_slot}
        else:
            for slot in range(self._lowest, first_slot):
                self.entries.pop(slot, None)
        self._lowest = max(self._lowest, first_slot)

    def restored(self) -> Restored:
        """What a start begins with."""
        entries = tuple(entry for _, entry in sorted(self.entries.items()))
        return Restored(self.promised, entries, self.first_slot, self.chosen_through)


def fold(records: Iterable[Record], before: Restored | None = None) -> Restored:
    """What `records`, written in this order after `before`, add up to."""
    adding = RecordFold(before)
    for record in records:
        adding.add(record)
    return adding.restored()
