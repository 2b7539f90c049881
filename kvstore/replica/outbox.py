"""Bundles on their way to a slot: into the next batch on the leader, over a relay on a follower.

Every unanswered bundle is sent again when the leader changes, or when a relay seems lost; sessions
see to it that one copy is applied.
"""

from collections import deque
from collections.abc import Callable

import msgspec

from kvstore.commands.batches import Batch
from kvstore.commands.binary import decode_bundle, encode
from kvstore.commands.sound import UnsoundCommand, check_sound
from kvstore.peers.frames import Relay
from kvstore.replica.metrics import Counters
from kvstore.replica.pending import WORK_MAX, PendingWrites, Sealed
from paxos.ballot import ZERO, NodeId, Slot
from paxos.errors import PeerError
from paxos.node import Node

RELAYS_MAX = 4
"""Bundles a follower has under way to the leader; more would only make them smaller."""
RETRY_TICKS = 40
"""A relayed bundle that was not applied for so long is sent again: the leader may have dropped
it."""


class Outbox:
    """This node's bundles, and those that followers relayed to it while it leads."""

    def __init__(
        self,
        node: Node,
        writes: PendingWrites,
        counters: Counters,
        *,
        batch_bytes_max: int,
        relayed_bytes_max: int,
    ) -> None:
        self._node = node
        self._writes = writes
        self._counters = counters
        self._batch_bytes_max = batch_bytes_max
        self._relayed_bytes_max = relayed_bytes_max
        self._relayed: deque[tuple[bytes, int]] = deque()
        self._relayed_bytes = 0
        self._unsent: deque[Sealed] = deque()
        self._leases_ended = False
        self._tick = 0

    def take_relay(self, sender: NodeId, bundle: bytes, work: int = 0) -> None:
        """A follower's bundle; dropped at the bound, or if this node does not lead.

        Raises PeerError if it is not one, or holds what no door for clients lets in: once chosen,
        it would stop every replica.
        """
        fits = self._relayed_bytes + len(bundle) <= self._relayed_bytes_max
        if fits and self._node.proposer.leading:
            try:
                decoded = decode_bundle(bundle)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise PeerError(f"node {sender} relays what is no bundle: {error}") from None
            if decoded.origin != sender:
                raise PeerError(f"node {sender} relays a bundle of node {decoded.origin}")
            try:
                for command in decoded.commands:
                    check_sound(command)
            except UnsoundCommand as error:
                raise PeerError(f"node {sender} relays what no client may ask: {error}") from None
            self._relayed.append((bundle, work))
            self._relayed_bytes += len(bundle)

    def propose(
        self,
        clock_ms: Callable[[], int],
        expired: Callable[[], tuple[int, ...] | None],
        applied_through: Slot,
    ) -> None:
        """As leader: fill the window with batches stamped by `clock_ms()`, which also say what
        leases have `expired()`, as of `applied_through`; None if no batch is needed for them."""
        ballot = self._node.proposer.ballot
        while self._node.can_propose:
            # Ends of leases have slots of their own, and every other one is for who waits.
            bundles = self._take_bundles() if self._leases_ended else []
            ended = None if bundles else expired()
            self._leases_ended = bool(ended)
            if not ended and not bundles:
                bundles = self._take_bundles()
            if not bundles and ended is None:
                return
            batch = Batch(clock_ms(), tuple(bundles), ended or (), ballot, applied_through)
            self._node.propose(encode(batch))
            self._counters.slots_proposed += 1

    def relay(self, send: Callable[[Relay], None]) -> None:
        """As follower: send what waits to the leader, a few bundles at a time."""
        writes = self._writes
        while self._unsent or (writes.open and len(writes.sealed) < RELAYS_MAX):
            sealed = self._next_sealed()
            if sealed is not None:
                send(Relay(sealed.encoded, sealed.work))
                self._counters.bundles_relayed += 1

    def leader_changed(self) -> None:
        """Whatever was not sent under the present leader's ballot is to be sent again."""
        ballot = self._node.leader_ballot
        self._unsent = deque(
            sealed for sealed in self._writes.sealed.values() if sealed.sent_in != ballot
        )
        if not self._node.proposer.leading:
            self._relayed.clear()
            self._relayed_bytes = 0

    def tick(self) -> None:
        """Send relayed bundles again that seem lost."""
        self._tick += 1
        if self._node.proposer.leading:
            return
        for sealed in self._writes.sealed.values():
            if sealed.sent_in != ZERO and self._tick - sealed.sent_tick >= RETRY_TICKS:
                sealed.sent_tick = self._tick
                self._unsent.append(sealed)

    def _take_bundles(self) -> list[bytes]:
        """What goes into the next slot, relayed bundles and own ones, up to a batch's size, and
        until applying it costs enough."""
        bundles: list[bytes] = []
        size = total = 0
        while size < self._batch_bytes_max and total < WORK_MAX:
            if self._relayed:
                encoded, work = self._relayed.popleft()
                self._relayed_bytes -= len(encoded)
            elif (sealed := self._next_sealed()) is not None:
                encoded, work = sealed.encoded, sealed.work
            elif not self._unsent and not self._writes.open:
                break
            else:
                continue
            bundles.append(encoded)
            size += len(encoded)
            total += work
        return bundles

    def _next_sealed(self) -> Sealed | None:
        """The next own bundle to send, marked as sent under the present leader.

        None if there is none, or if the next one has been answered meanwhile.
        """
        sealed = self._unsent.popleft() if self._unsent else self._writes.seal()
        if sealed is None or sealed.number not in self._writes.sealed:
            return None
        sealed.sent_in = self._node.leader_ballot
        sealed.sent_tick = self._tick
        return sealed


def present_leader(node: Node, connected: Callable[[NodeId], bool]) -> NodeId | None:
    """Whom a follower can relay to now."""
    leader = node.leader
    return leader if leader is not None and connected(leader) else None
