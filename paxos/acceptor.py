"""The acceptor: the memory of Paxos. It promises, accepts, and never forgets what it answered.

Source: Lamport, "Paxos Made Simple" (2001), section 2.2, P1a; one promise covers all slots, as in
section 3 ("a newly elected leader executes phase 1 for infinitely many instances").
"""

from collections.abc import Callable

from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.effects import Effects
from paxos.errors import ProtocolError
from paxos.messages import (
    PIECE_BYTES_MAX,
    Accept,
    Accepted,
    AnyMessage,
    Fetch,
    Fetched,
    LogEntry,
    Nack,
    Prepare,
    Promise,
    Truncated,
)
from paxos.records import Promised, Restored, Truncation

ENTRY_BYTES = 32
"""What an entry costs beside its value: a piece of no-ops is bounded too."""


class Acceptor:
    """One node's acceptor for all slots.

    Contract: whatever an answer claims is in `out.persist` before the answer is in `out.send`.
    `log` holds the accepted entry of each slot from `first_slot` on, in memory as on disk.
    """

    def __init__(
        self,
        out: Callable[[], Effects],
        restored: Restored | None = None,
        piece_bytes_max: int = PIECE_BYTES_MAX,
    ) -> None:
        self._out = out
        self._piece_bytes_max = piece_bytes_max
        self.promised: Ballot = ZERO
        self.first_slot: Slot = 1
        self.log: dict[Slot, LogEntry] = {}
        self.log_bytes = 0
        self.last_slot: Slot = 0
        if restored is not None:
            self.first_slot = restored.first_slot
            self.promised = max([restored.promised, *(entry.ballot for entry in restored.entries)])
            for entry in restored.entries:
                if entry.slot >= self.first_slot:
                    self._store(entry)
        self.last_slot = max(self.last_slot, self.first_slot - 1)

    def on_prepare(self, sender: NodeId, message: Prepare) -> None:
        """Phase 1b. An answer of Truncated promises nothing: the asker cannot lead from there."""
        out = self._out()
        if message.ballot < self.promised:
            out.send_first.append((sender, Nack(message.ballot, self.promised)))
            return
        if message.first_slot < self.first_slot:
            out.send_first.append((sender, Truncated(self.first_slot)))
            return
        if message.ballot > self.promised:
            self.promised = message.ballot
            out.persist.append(Promised(message.ballot))
        entries, next_slot = self.piece(message.first_slot, self.last_slot)
        out.send.append((sender, Promise(message.ballot, message.first_slot, entries, next_slot)))

    def on_accept(self, sender: NodeId, message: Accept) -> bool:
        """Phase 2b. Returns whether the value was accepted. Raises ProtocolError on a second value
        in the same ballot: a ballot was used twice, and agreement is lost already.

        A slot below `first_slot` is chosen and applied already; the answer is silence, because
        the entry that Accepted would vouch for is gone. The proposer learns by Fetch.
        """
        out = self._out()
        if message.ballot < self.promised:
            out.send_first.append((sender, Nack(message.ballot, self.promised)))
            return False
        if message.slot < self.first_slot:
            return False
        if message.ballot > self.promised:
            # The entry says so too, but entries are truncated one day and a promise is not.
            self.promised = message.ballot
            out.persist.append(Promised(message.ballot))
        held = self.log.get(message.slot)
        if held is None or held.ballot != message.ballot:
            entry = LogEntry(message.slot, message.ballot, message.value)
            self._store(entry)
            out.persist.append(entry)
        elif held.value != message.value:
            raise ProtocolError(f"two values for slot {message.slot} in ballot {message.ballot}")
        # A repeated Accept is answered again: the first answer may have been lost. It still waits
        # its turn behind the commit that makes it true, because `send` keeps its order.
        out.send.append((sender, Accepted(message.ballot, message.slot)))
        return True

    def on_fetch(self, sender: NodeId, message: Fetch, chosen_through: Slot) -> None:
        """Answer a laggard with chosen entries only, or with where the log begins."""
        answer: AnyMessage
        if message.first_slot < self.first_slot:
            answer = Truncated(self.first_slot)
        else:
            answer = Fetched(self.piece(message.first_slot, chosen_through)[0], chosen_through)
        self._out().send_first.append((sender, answer))

    def adopt_chosen(self, entry: LogEntry) -> None:
        """Record the chosen value of a slot learned from a peer.

        The ballot kept is the higher of the two: if this acceptor voted for the value in a higher
        ballot than the peer's copy shows, lowering it would take back that vote.
        """
        if entry.slot < self.first_slot:
            return
        held = self.log.get(entry.slot)
        if held is not None and held.ballot > entry.ballot:
            entry = LogEntry(entry.slot, held.ballot, entry.value)
        if entry.ballot > self.promised:
            # Nothing held is above the promise. Failing schedule otherwise: a deposed leader's
            # delayed Accept, of a ballot in between, replaces the chosen value.
            self.promised = entry.ballot
            self._out().persist.append(Promised(entry.ballot))
        if held != entry:
            self._store(entry)
            self._out().persist.append(entry)

    def truncate(self, first_slot: Slot) -> None:
        """Drop the entries before `first_slot`. The caller has them chosen and applied durably."""
        if first_slot <= self.first_slot:
            return
        for slot in range(self.first_slot, min(first_slot, self.last_slot + 1)):
            dropped = self.log.pop(slot, None)
            if dropped is not None:
                self.log_bytes -= len(dropped.value)
        self.first_slot = first_slot
        self.last_slot = max(self.last_slot, first_slot - 1)
        self._out().persist.append(Truncation(first_slot))

    def piece(self, first: Slot, last: Slot) -> tuple[tuple[LogEntry, ...], Slot | None]:
        """Entries of the slots `first` to `last`, at most a piece, and the slot to go on from."""
        entries: list[LogEntry] = []
        size = 0
        for slot in range(first, last + 1):
            entry = self.log.get(slot)
            if entry is None:
                continue
            entry_bytes = len(entry.value) + ENTRY_BYTES
            if entries and size + entry_bytes > self._piece_bytes_max:
                return tuple(entries), slot
            entries.append(entry)
            size += entry_bytes
        return tuple(entries), None

    def _store(self, entry: LogEntry) -> None:
        held = self.log.get(entry.slot)
        self.log_bytes += len(entry.value) - (len(held.value) if held is not None else 0)
        self.log[entry.slot] = entry
        self.last_slot = max(self.last_slot, entry.slot)
