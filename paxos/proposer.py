"""The proposer: phase 1 once for all slots, then phase 2 for slot after slot.

Sources: Lamport, "Paxos Made Simple" (2001), sections 2.2 and 3; van Renesse and Altinbuken,
"Paxos Made Moderately Complex" (2015), for the reduction to the highest ballot per slot.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.effects import Effects
from paxos.errors import ProtocolError
from paxos.marks import NO_MARKS, Marks
from paxos.messages import NOOP, Accept, LogEntry, Prepare, Promise
from paxos.quorum import QuorumSystem


def safe_values(first_slot: Slot, entries: Iterable[LogEntry]) -> list[tuple[Slot, bytes]]:
    """What a new leader must propose, slot by slot, given all that a phase 1 quorum accepted.

    For each slot the value of the highest accepted ballot: if any value was or may yet be chosen
    in a lower ballot, it is that one ("Paxos Made Simple", P2c). A slot below the highest reported
    one that nobody reports cannot have been chosen; it gets a no-op, so that the log has no gap.
    """
    best: dict[Slot, LogEntry] = {}
    for entry in entries:
        held = best.get(entry.slot)
        if entry.slot >= first_slot and (held is None or held.ballot < entry.ballot):
            best[entry.slot] = entry
    last = max(best, default=first_slot - 1)
    return [
        (slot, best[slot].value if slot in best else NOOP) for slot in range(first_slot, last + 1)
    ]


@dataclass(slots=True)
class _Phase1:
    """Where the candidate stands with each acceptor."""

    first_slot: Slot
    next_slot: dict[NodeId, Slot] = field(default_factory=dict)
    promised: set[NodeId] = field(default_factory=set)
    entries: dict[Slot, LogEntry] = field(default_factory=dict)
    ticks: int = 0


@dataclass(slots=True)
class _InFlight:
    """A value proposed and not yet chosen."""

    value: bytes
    ticks: int = 0


class Proposer:
    """One node's proposer: idle, preparing, or leading.

    At most `window` slots are in flight; what phase 1 recovered goes first. Values beyond the
    window are the caller's to keep: `propose` is refused unless `can_propose` is true.
    """

    def __init__(
        self,
        node: NodeId,
        quorums: QuorumSystem,
        out: Callable[[], Effects],
        *,
        window: int,
        resend_ticks: int,
        marks: Marks = NO_MARKS,
    ) -> None:
        self._marks = marks
        self.node = node
        self.quorums = quorums
        self._others = sorted(quorums.members - {node})
        self._out = out
        self._window = window
        self._resend_ticks = resend_ticks
        self.ballot: Ballot = ZERO
        self.leading = False
        self.barrier: Slot = 0
        self.next_slot: Slot = 1
        self._phase1: _Phase1 | None = None
        self._recovered: deque[tuple[Slot, bytes]] = deque()
        self._in_flight: dict[Slot, _InFlight] = {}

    @property
    def busy(self) -> bool:
        """Whether it leads, or tries to."""
        return self.leading or self.preparing

    @property
    def preparing(self) -> bool:
        return self._phase1 is not None

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def can_propose(self) -> bool:
        return self.leading and not self._recovered and len(self._in_flight) < self._window

    def prepare(self, ballot: Ballot, first_slot: Slot) -> None:
        """Phase 1a. `send`, not `send_first`: the node's own promise must be durable before."""
        self.stop()
        self.ballot = ballot
        self._phase1 = _Phase1(first_slot)
        send = self._out().send
        send.extend((peer, Prepare(ballot, first_slot)) for peer in self._others)

    def on_promise(self, sender: NodeId, message: Promise) -> list[tuple[Slot, bytes]] | None:
        """A piece of a promise. The recovered values, once a phase 1 quorum is complete."""
        phase1 = self._phase1
        if phase1 is None or message.ballot != self.ballot or sender in phase1.promised:
            return None
        if message.first_slot != phase1.next_slot.get(sender, phase1.first_slot):
            return None
        phase1.ticks = 0
        for entry in message.accepted:
            held = phase1.entries.get(entry.slot)
            if held is None or held.ballot < entry.ballot:
                phase1.entries[entry.slot] = entry
        if message.next_slot is not None:
            phase1.next_slot[sender] = message.next_slot
            self._out().send.append((sender, Prepare(self.ballot, message.next_slot)))
            return None
        phase1.promised.add(sender)
        if not self.quorums.is_phase1(phase1.promised):
            return None
        return self._lead(phase1)

    def _lead(self, phase1: _Phase1) -> list[tuple[Slot, bytes]]:
        """Phase 2 may begin. At least one slot of this ballot is proposed, as a barrier: once it
        is chosen, everything that earlier leaders got chosen is chosen here too."""
        self._marks.leading(phase1.first_slot, phase1.entries)
        recovered = safe_values(phase1.first_slot, phase1.entries.values())
        self._phase1 = None
        self.leading = True
        if not recovered:
            recovered = [(phase1.first_slot, NOOP)]
        self.barrier = recovered[-1][0]
        self.next_slot = self.barrier + 1
        self._recovered = deque(recovered)
        return recovered

    def propose(self, value: bytes, chosen_through: Slot) -> Accept:
        """Phase 2a for a new value in the next free slot. Requires `can_propose`."""
        if not self.can_propose:
            raise ProtocolError("a value was proposed without a ballot that leads, or a free slot")
        slot = self.next_slot
        self.next_slot += 1
        return self._accept(slot, value, chosen_through)

    def pump(self, chosen_through: Slot) -> list[Accept]:
        """Move recovered values into the window; the Accepts for this node's own acceptor."""
        accepts = []
        self.settle_through(chosen_through)
        while self._recovered and self.leading and len(self._in_flight) < self._window:
            slot, value = self._recovered.popleft()
            if slot <= chosen_through:
                continue  # learned by Fetch since phase 1 began: nobody will count its votes
            accepts.append(self._accept(slot, value, chosen_through))
        return accepts

    def _accept(self, slot: Slot, value: bytes, chosen_through: Slot) -> Accept:
        # `send_first`: an Accept claims nothing about this node's disk. The leader's own vote is
        # an Accepted to itself behind its commit, so writing and shipping overlap.
        self._in_flight[slot] = _InFlight(value)
        message = Accept(self.ballot, slot, value, chosen_through)
        send = self._out().send_first
        send.extend((peer, message) for peer in self._others)
        return message

    def settle(self, slot: Slot) -> bytes | None:
        """The slot is chosen: forget it, and return its value."""
        in_flight = self._in_flight.pop(slot, None)
        return None if in_flight is None else in_flight.value

    def settle_through(self, chosen_through: Slot) -> None:
        """Forget what a peer reported as chosen before this node had counted the votes."""
        for slot in [slot for slot in self._in_flight if slot <= chosen_through]:
            del self._in_flight[slot]

    def tick(self, chosen_through: Slot) -> None:
        """Send again what has waited too long: messages may be lost at any time."""
        phase1 = self._phase1
        if phase1 is not None:
            phase1.ticks += 1
            if phase1.ticks % self._resend_ticks == 0:
                for peer in self._others:
                    if peer not in phase1.promised:
                        first = phase1.next_slot.get(peer, phase1.first_slot)
                        self._out().send.append((peer, Prepare(self.ballot, first)))
        for slot, waiting in self._in_flight.items():
            waiting.ticks += 1
            if waiting.ticks % self._resend_ticks == 0:
                message = Accept(self.ballot, slot, waiting.value, chosen_through)
                self._out().send_first.extend((peer, message) for peer in self._others)

    def stop(self) -> None:
        """Preempted, or out of reach of a quorum: propose nothing more in this ballot.

        What was in flight may still be chosen; whoever leads next will find out.
        """
        self.leading = False
        self._phase1 = None
        self._recovered.clear()
        self._in_flight.clear()
