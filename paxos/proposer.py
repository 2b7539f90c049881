"""The proposer: phase 1 once for all slots, then phase 2 for slot after slot.

Sources: Lamport, "Paxos Made Simple" (2001), sections 2.2 and 3; van Renesse and Altinbuken,
"Paxos Made Moderately Complex" (2015), for the reduction to the highest ballot per slot.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from paxos.ballot import ZERO, Ballot, NodeId, Slot
from paxos.configuration import Governance
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
    """Where the candidate, or the leader, stands with each acceptor.

    `next_slot` is where an acceptor's promise goes on. `entries` are what was accepted, as far as
    it is not proposed again; `asked` are those whom a leader asks for a later configuration.
    """

    first_slot: Slot
    next_slot: dict[NodeId, Slot] = field(default_factory=dict)
    promised: set[NodeId] = field(default_factory=set)
    entries: dict[Slot, LogEntry] = field(default_factory=dict)
    asked: set[NodeId] = field(default_factory=set)
    ticks: int = 0


@dataclass(slots=True)
class _InFlight:
    """A value proposed and not yet chosen."""

    value: bytes
    ticks: int = 0


class Proposer:
    """One node's proposer: idle, preparing, or leading.

    At most `window` slots are in flight, none of them further from what is applied than the
    configurations allow, and each with promises of a phase 1 quorum of its configuration. What
    phase 1 recovered goes first. Values beyond that are the caller's to keep: `propose` is refused
    unless `can_propose` is true.
    """

    def __init__(
        self,
        node: NodeId,
        governance: Governance,
        out: Callable[[], Effects],
        *,
        window: int,
        resend_ticks: int,
        marks: Marks = NO_MARKS,
    ) -> None:
        self._marks = marks
        self.node = node
        self._governance = governance
        self._out = out
        self._window = window
        self._resend_ticks = resend_ticks
        self.ballot: Ballot = ZERO
        self.leading = False
        self.barrier: Slot = 0
        self.next_slot: Slot = 1
        self.promised_through: float = 0
        """As leader: the last slot whose configuration has promised, infinite if all have."""
        self._phase1: _Phase1 | None = None
        self._recovered: dict[Slot, bytes] = {}
        self._in_flight: dict[Slot, _InFlight] = {}

    @property
    def busy(self) -> bool:
        """Whether it leads, or tries to."""
        return self.leading or self.preparing

    @property
    def preparing(self) -> bool:
        return self._phase1 is not None and not self.leading

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def can_propose(self) -> bool:
        return self.next_slot > self.barrier and self._may_accept

    @property
    def _may_accept(self) -> bool:
        """Whether anything may be proposed in the next slot."""
        return (
            self.leading
            and len(self._in_flight) < self._window
            and self.next_slot <= self._governance.known_through
            and self.next_slot <= self.promised_through
        )

    # -- phase 1 ----------------------------------------------------------------------------

    def prepare(self, ballot: Ballot, first_slot: Slot) -> None:
        """Phase 1a. `send`, not `send_first`: the node's own promise must be durable before."""
        self.stop()
        self.ballot = ballot
        self._phase1 = _Phase1(first_slot)
        voters = sorted(self._governance.voters_after(first_slot - 1) - {self.node})
        self._out().send.extend((peer, Prepare(ballot, first_slot)) for peer in voters)

    def on_promise(self, sender: NodeId, message: Promise) -> list[tuple[Slot, bytes]] | None:
        """A piece of a promise. What must be proposed again, once this node leads by it.

        That takes a phase 1 quorum of every configuration that may govern a slot from the first
        one on, as far as this node knows them.
        """
        phase1 = self._phase1
        if phase1 is None or message.ballot != self.ballot or sender in phase1.promised:
            return None
        if self.leading and sender not in phase1.asked:
            return None  # it came too late to be needed
        if message.first_slot != phase1.next_slot.get(sender, phase1.first_slot):
            return None
        phase1.ticks = 0
        lowest = self.next_slot if self.leading else phase1.first_slot
        for entry in message.accepted:
            held = phase1.entries.get(entry.slot)
            if entry.slot >= lowest and (held is None or held.ballot < entry.ballot):
                phase1.entries[entry.slot] = entry
        if message.next_slot is not None:
            phase1.next_slot[sender] = message.next_slot
            self._out().send.append((sender, Prepare(self.ballot, message.next_slot)))
            return None
        phase1.promised.add(sender)
        if self.leading:
            self._recover(phase1)
            self._look_at_promises(phase1)
            return None
        if not self._governance.is_phase1(phase1.promised, phase1.first_slot - 1):
            return None
        return self._lead(phase1)

    def _lead(self, phase1: _Phase1) -> list[tuple[Slot, bytes]]:
        """Phase 2 may begin. At least one slot of this ballot is proposed, as a barrier: once it
        is chosen, everything that earlier leaders got chosen is chosen here too."""
        self._marks.leading(phase1.first_slot, phase1.entries)
        self.leading = True
        self.promised_through = math.inf
        self.next_slot = self.barrier = phase1.first_slot
        self._recover(phase1)
        return [
            (slot, self._recovered.get(slot, NOOP))
            for slot in range(phase1.first_slot, self.barrier + 1)
        ]

    def _recover(self, phase1: _Phase1) -> None:
        """What was accepted in slots that this leader has not proposed yet goes first."""
        self._recovered = dict(safe_values(self.next_slot, phase1.entries.values()))
        self.barrier = max(self.barrier, *self._recovered, 0)

    def reconfigured(self, chosen_through: Slot) -> None:
        """Other configurations govern. As leader: ask the voters of each that has not promised.

        This node leads with the promises of those configurations that it knew then. Failing
        schedule otherwise: under a configuration that it did not know an earlier leader got a
        value chosen, and this one proposes another there.
        """
        phase1 = self._phase1
        if phase1 is None or not self.leading:
            return
        self._look_at_promises(phase1)
        for quorums in self._unpromised(phase1).values():
            # This node too: it may lead by the promises of others.
            for peer in sorted(quorums.members - phase1.promised - phase1.asked):
                phase1.asked.add(peer)
                self._ask_on(phase1, peer, chosen_through)

    def _unpromised(self, phase1: _Phase1) -> dict[Slot, QuorumSystem]:
        """Configurations that lack promises, by their first slots."""
        return {
            configuration.first_slot: configuration.quorums
            for configuration in self._governance.configurations_after(self.next_slot - 1)
            if not configuration.quorums.is_phase1(phase1.promised)
        }

    def _look_at_promises(self, phase1: _Phase1) -> None:
        """How far this leader may propose."""
        self.promised_through = min(self._unpromised(phase1), default=math.inf) - 1

    def _ask_on(self, phase1: _Phase1, peer: NodeId, chosen_through: Slot) -> None:
        """As leader: what is chosen need not be reported, and may be truncated there."""
        first = max(phase1.next_slot.get(peer, phase1.first_slot), chosen_through + 1)
        phase1.next_slot[peer] = first
        self._out().send.append((peer, Prepare(self.ballot, first)))

    # -- phase 2 ----------------------------------------------------------------------------

    def propose(self, value: bytes, chosen_through: Slot) -> Accept:
        """Phase 2a for a new value in the next free slot. Requires `can_propose`."""
        if not self.can_propose:
            raise ProtocolError("a value was proposed without a ballot that leads, or a free slot")
        return self._accept_next(value, chosen_through)

    def pump(self, chosen_through: Slot) -> list[Accept]:
        """Move recovered values into the window, and no-ops up to the newest configuration's first
        slot, which must not wait for clients; the Accepts for this node's own acceptor."""
        accepts: list[Accept] = []
        phase1 = self._phase1
        if phase1 is None or not self.leading:
            return accepts
        self.settle_through(chosen_through)
        # Learned by Fetch since phase 1 began: nobody would count the votes.
        self.next_slot = max(self.next_slot, chosen_through + 1)
        for slot in [slot for slot in phase1.entries if slot < self.next_slot]:
            del phase1.entries[slot]
        newest = self._governance.last
        fill_through = max(self.barrier, 0 if newest is None else newest.first_slot - 1)
        while self.next_slot <= fill_through and self._may_accept:
            value = self._recovered.pop(self.next_slot, NOOP)
            phase1.entries.pop(self.next_slot, None)
            accepts.append(self._accept_next(value, chosen_through))
        return accepts

    def _accept_next(self, value: bytes, chosen_through: Slot) -> Accept:
        slot = self.next_slot
        self.next_slot += 1
        return self._accept(slot, value, chosen_through)

    def _accept(self, slot: Slot, value: bytes, chosen_through: Slot) -> Accept:
        # `send_first`: an Accept claims nothing about this node's disk. The leader's own vote is
        # an Accepted to itself behind its commit, so writing and shipping overlap.
        self._in_flight[slot] = _InFlight(value)
        message = Accept(self.ballot, slot, value, chosen_through)
        send = self._out().send_first
        send.extend((peer, message) for peer in self._governance.peers)
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
        if phase1 is not None and (waiting := self._waited_for(phase1)):
            phase1.ticks += 1
            if phase1.ticks % self._resend_ticks == 0:
                for peer in waiting:
                    if self.leading:
                        self._ask_on(phase1, peer, chosen_through)
                    else:
                        first = phase1.next_slot.get(peer, phase1.first_slot)
                        self._out().send.append((peer, Prepare(self.ballot, first)))
        for slot, in_flight in self._in_flight.items():
            in_flight.ticks += 1
            if in_flight.ticks % self._resend_ticks == 0:
                message = Accept(self.ballot, slot, in_flight.value, chosen_through)
                self._out().send_first.extend((peer, message) for peer in self._governance.peers)

    def _waited_for(self, phase1: _Phase1) -> list[NodeId]:
        """Who has not promised, and should."""
        if self.leading:
            return sorted(phase1.asked - phase1.promised) if phase1.asked else []
        voters = self._governance.voters_after(phase1.first_slot - 1)
        return sorted(voters - phase1.promised - {self.node})

    def stop(self) -> None:
        """Preempted, or out of reach of a quorum: propose nothing more in this ballot.

        What was in flight may still be chosen; whoever leads next will find out.
        """
        self.leading = False
        self._phase1 = None
        self._recovered.clear()
        self._in_flight.clear()
