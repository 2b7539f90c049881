"""What is chosen reaches the state, its results reach who waits, and digests are compared."""

from collections import deque
from collections.abc import Sequence

from kvstore.event_log import EventLog
from kvstore.peers.frames import DigestAt
from kvstore.replica.digests import DigestCheck
from kvstore.replica.feed import Feed
from kvstore.replica.log_clock import WallClocks
from kvstore.replica.metrics import Counters
from kvstore.replica.pending import PendingReads, PendingWrites
from kvstore.replica.ports import Clock, PeerLinks, Wake
from kvstore.replica.probe import Probe
from kvstore.replica.stages import Stages
from kvstore.state.state_machine import StateMachine
from paxos.ballot import NodeId, Slot
from paxos.node import Node

TURN_S = 0.005
"""In one turn of the loop no further slot is begun after this long: others have work, too."""
WAITING_SLOTS_MAX = 16_384
"""So many chosen slots wait for a later turn; more are applied at once, whatever it takes. Until
they are applied the log keeps them anyway."""
WAITING_BYTES_MAX = 32 << 20
"""And so many bytes of them."""
BEHIND_SLOTS_MAX = 8
"""A leader proposes nothing more while so many wait here: nobody need fall behind further."""


class Applier:
    """Applies chosen slots in order, over several turns of the loop if need be, and goes on behind
    a snapshot.

    Digests are compared at each slot that `digest_slots` divides.
    """

    def __init__(
        self,
        node: Node,
        state: StateMachine,
        feed: Feed,
        writes: PendingWrites,
        reads: PendingReads,
        links: PeerLinks,
        events: EventLog,
        counters: Counters,
        probe: Probe,
        walls: WallClocks,
        *,
        clock: Clock,
        stages: Stages,
        wake: Wake,
        digest_slots: int,
    ) -> None:
        self._node = node
        self._state = state
        self._feed = feed
        self._writes = writes
        self._reads = reads
        self._links = links
        self._events = events
        self._counters = counters
        self._probe = probe
        self._walls = walls
        self._clock = clock
        self._stages = stages
        self._wake = wake
        self._chosen: deque[tuple[Slot, bytes, float]] = deque()
        self._chosen_bytes = 0
        self._until_s = 0.0
        self._digest_slots = digest_slots
        self._digests = DigestCheck(node.id, 1)

    def begin_turn(self) -> None:
        """A turn of the loop begins."""
        self._until_s = self._clock.monotonic() + TURN_S

    @property
    def behind(self) -> bool:
        """Whether so much waits that nothing more should be proposed."""
        return len(self._chosen) >= BEHIND_SLOTS_MAX

    def take(self, chosen: Sequence[tuple[Slot, bytes]]) -> None:
        """These slots, in order, are to be applied."""
        if not chosen:
            return
        now_s = self._stages.chosen(slot for slot, _ in chosen)
        for slot, value in chosen:
            self._chosen.append((slot, value, now_s))
            self._chosen_bytes += len(value)

    def run(self) -> bool:
        """Apply what was taken, for as long as this turn may last, and ask for another turn if
        something is left; whether anything was applied.

        Raises DivergedState if this node's state cannot be right.
        """
        chosen = self._chosen
        if not chosen:
            return False
        while chosen:
            slot, value, chosen_s = self._next()
            self._apply(slot, value)
            self._stages.apply.observe(self._stages.now() - chosen_s)
            many = len(chosen) > WAITING_SLOTS_MAX or self._chosen_bytes > WAITING_BYTES_MAX
            if not many and self._clock.monotonic() >= self._until_s:
                break
        if chosen:
            self._wake()
        return True

    def _next(self) -> tuple[Slot, bytes, float]:
        """The first that waits, and since when, taken out."""
        first = self._chosen.popleft()
        self._chosen_bytes -= len(first[1])
        return first

    def _apply(self, slot: Slot, value: bytes) -> None:
        counters, writes = self._counters, self._writes
        applied = self._state.apply(slot, value)
        self._probe.applied(self._state, slot, value, applied)
        for bundle, results in applied:
            counters.commands_applied += len(results)
            if bundle.origin == writes.origin and bundle.starts == writes.start:
                writes.resolve(bundle.number, results)
        counters.slots_applied += 1
        if slot % self._digest_slots == 0:
            digest = self._state.digest
            message = DigestAt(slot, digest, self._walls.now_ms())
            for peer in self._node.governance.peers:
                self._links.send(peer, message)
            self.compare(self._node.id, slot, digest)

    def on_digest(self, sender: NodeId, message: DigestAt) -> None:
        """A peer's digest. Raises DivergedState."""
        self._walls.heard(sender, message.wall_ms)
        self.compare(sender, message.slot, message.digest)

    def compare(self, node: NodeId, slot: Slot, digest: bytes) -> None:
        """`node`, this one or a peer, had `digest` after `slot`. Raises DivergedState."""
        self._digests.members = len(self._node.governance.members | {self._node.id})
        different = self._digests.add(node, slot, digest)
        if different is not None:
            self._events.event("state differs", peer=different, slot=slot)

    def snapshot_installed(self) -> None:
        """A snapshot has replaced the state: the other parts go on from there."""
        self._counters.snapshots_installed += 1
        through = self._state.applied_through
        self._events.event("snapshot installed", through=through, revision=self._state.revision)
        self._node.restart_from_snapshot(through)
        while self._chosen and self._chosen[0][0] <= through:
            self._next()
        self._feed.reset()
        self._writes.covered(self._state.bundle_over)
        self._reads.applied(through)
        self._wake()
