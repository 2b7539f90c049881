"""The flight recorder: the last minutes of one node's consensus, kept in rings of bounded length.

It is a `Probe` like that of the simulation, so production and simulation are heard at the same
places. A message, a slot or a step costs one tuple; everything else is done when somebody asks.
Values are not kept, only their sizes: the log has them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from operator import itemgetter
from typing import Any, NamedTuple

from kvstore.peers.frames import PeerMessage
from kvstore.replica.leader_history import LeaderChange, LeaderHistory
from kvstore.replica.ports import Clock
from kvstore.replica.probe import Probe
from kvstore.replica.recent_slots import SlotNow, recent_slots
from kvstore.replica.stages import Durations
from kvstore.state.state_machine import AppliedBundle, StateMachine
from paxos.ballot import Ballot, NodeId, Slot
from paxos.messages import (
    Accept,
    Accepted,
    AnyMessage,
    Chosen,
    HandOver,
    Heartbeat,
    HeartbeatReply,
    LogEntry,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
)

BUSY_MAX = 20_000
"""Messages and slots. About two minutes of an idle cluster, and a second or two of a full one."""
RARE_MAX = 4_000
"""Elections, faults and what the log of the process says: hours of them."""
SLOTS_S = 0.5
ASKED_MAX = 256
_AT_S = itemgetter(0)
DIGEST_BYTES = 8
"""Of a state's digest: enough to see that two differ."""


class Recorded(NamedTuple):
    """One thing that happened, at `at_s` of the node's monotonic clock.

    `name`: "sent", "received", "own" (a message to itself, durable by now), "proposed", "applied",
    "leads", "campaigns", "preempted", "stepped down", "leader", "link", "event", "checkpointed",
    "truncated", "snapshot", "opened". `what` is the kind of the message, or a text. `number` is the
    bytes of a value, the probe of a heartbeat, or the commands of a slot.
    """

    at_s: float
    name: str
    what: str = ""
    peer: NodeId = 0
    ballot: Ballot | None = None
    slot: Slot = 0
    number: int = 0
    more: str = ""


_BUSY = (Accept, Accepted, Chosen, Heartbeat, HeartbeatReply, ReadIndex, ReadIndexReply)
_FACTS: dict[type, Callable[[Any], tuple[Ballot | None, Slot, int, str]]] = {
    Accept: lambda m: (m.ballot, m.slot, len(m.value), ""),
    Accepted: lambda m: (m.ballot, m.slot, 0, ""),
    Chosen: lambda m: (m.ballot, m.chosen_through, 0, ""),
    Heartbeat: lambda m: (m.ballot, m.chosen_through, m.probe, ""),
    HeartbeatReply: lambda m: (m.ballot, m.chosen_through, m.probe, ""),
    ReadIndex: lambda m: (None, 0, m.request, ""),
    ReadIndexReply: lambda m: (None, m.slot, m.request, ""),
    PreVote: lambda m: (m.ballot, m.first_slot, 0, ""),
    PreVoteReply: lambda m: (m.ballot, 0, int(m.granted), f"promised {m.promised}"),
}
"""What is kept of a message; of the others `_rare_facts`."""


def _rare_facts(message: Any) -> tuple[Ballot | None, Slot, int, str]:
    ballot = getattr(message, "ballot", None)
    slot = getattr(message, "first_slot", None) or getattr(message, "slot", None) or 0
    more = ""
    entries = getattr(message, "accepted", None) or getattr(message, "entries", None)
    if entries:
        more = " ".join(f"{entry.slot}@{entry.ballot}" for entry in entries[:32])
    if (next_slot := getattr(message, "next_slot", None)) is not None:
        more += f" <{next_slot}"
    if (promised := getattr(message, "promised", None)) is not None:
        more = f"promised {promised}"
    return ballot, slot, len(entries or ()), more


class Recorder(Probe):
    """Hears one node from its start on. `clock` is the node's."""

    def __init__(self, node: NodeId, clock: Clock) -> None:
        self.id = node
        self.clock = clock
        self.leaders = LeaderHistory(node, clock)
        self._now = clock.monotonic
        # Plain tuples of the fields of Recorded, which is six times as costly to make.
        self._busy: deque[tuple[Any, ...]] = deque(maxlen=BUSY_MAX)
        self._rare: deque[tuple[Any, ...]] = deque(maxlen=RARE_MAX)
        self._asked: dict[NodeId, deque[float]] = {}
        self.round_trips_s: dict[NodeId, float] = {}
        """Of the last heartbeat of this node as leader to each peer, the peer's turn included."""
        self.round_trips: dict[NodeId, Durations] = {}
        """All of them since the start."""
        self._slots: list[SlotNow] = []
        self._slots_at_s = float("-inf")
        self.node: Any = None
        """The consensus node, once it is there."""

    # -- what happens -----------------------------------------------------------------------

    def opened(self, node: Any, state: StateMachine, formed: bool) -> None:
        self.node = node
        # Its number may have been found in the data directory.
        self.id = self.leaders.node = node.id
        self._rarely("opened", f"state through slot {state.applied_through}")

    def sent(self, to: NodeId, message: PeerMessage) -> None:
        self._message("sent", to, message)
        if type(message) is Heartbeat:
            self._asked.setdefault(to, deque(maxlen=ASKED_MAX)).append(self._now())

    def received(self, sender: NodeId, message: PeerMessage) -> None:
        self._message("received", sender, message)
        if type(message) is HeartbeatReply and (asked := self._asked.get(sender)):
            # A link keeps the order and loses nothing, so the first answer is to the first.
            took_s = self.round_trips_s[sender] = self._now() - asked.popleft()
            self.round_trips.setdefault(sender, Durations()).observe(took_s)

    def answered_itself(self, message: AnyMessage) -> None:
        self._message("own", self.id, message)

    def _message(self, name: str, peer: NodeId, message: Any) -> None:
        kind = type(message)
        facts = _FACTS.get(kind, _rare_facts)(message)
        ring = self._busy if kind in _BUSY else self._rare
        ring.append((self._now(), name, kind.__name__, peer, *facts))
        if kind is HandOver:
            self.leaders.handed_over(name == "sent", peer)

    def proposed(self, accept: Accept) -> None:
        size = len(accept.value)
        self._busy.append(
            (self._now(), "proposed", "", self.id, accept.ballot, accept.slot, size, "")
        )

    def applied(
        self, state: StateMachine, slot: Slot, value: bytes, results: list[AppliedBundle]
    ) -> None:
        commands = sum(len(of_bundle) for _, of_bundle in results)
        digest = state.digest[:DIGEST_BYTES].hex()
        what = "" if value else "no-op"
        self._busy.append((self._now(), "applied", what, 0, None, slot, commands, digest))

    def campaigning(self, ballot: Ballot) -> None:
        self._rarely("campaigns", ballot=ballot)

    def rivalled(self, rival: NodeId) -> None:
        self._rarely("rivalled", peer=rival)

    def preempted(self, ballot: Ballot) -> None:
        self._rarely("preempted", ballot=ballot)

    def leading(self, first_slot: Slot, accepted: Mapping[Slot, LogEntry]) -> None:
        last = max(accepted, default=first_slot - 1)
        gaps = sum(slot not in accepted for slot in range(first_slot, last + 1))
        text = f"{len(accepted)} values proposed again, {gaps} gaps filled with no-ops"
        self._rarely("leads", text, slot=first_slot)

    def stepped_down(self, lost_quorum: bool) -> None:
        self.leaders.stepped_down(lost_quorum)
        self._asked.clear()
        self.round_trips_s.clear()
        self._rarely("stepped down", "no quorum answered" if lost_quorum else "a higher ballot")

    def leader_noticed(self, leader: NodeId | None, ballot: Ballot, unanswered: int) -> None:
        change = self.leaders.noticed(leader, ballot)
        self._rarely("leader", change.reason, peer=leader or 0, ballot=ballot)

    def linked(self, peer: NodeId, up: bool) -> None:
        self.leaders.linked(peer, up)
        self._asked.pop(peer, None)
        self.round_trips_s.pop(peer, None)
        self._rarely("link", "up" if up else "down", peer=peer)

    def reached(self, peer: NodeId) -> None:
        # What was sent before was dropped. Failing schedule otherwise: nobody ever answers it, each
        # later answer is taken for that to the heartbeat before, and a round trip looks longer by
        # the time between two of them for as long as this node leads.
        self._asked.pop(peer, None)

    def happened(self, name: str, fields: Mapping[str, object]) -> None:
        """The node's log says so."""
        more = " ".join(f"{key}={value}" for key, value in fields.items())
        self._rarely("event", name, more=more[:400])

    def checkpointed(self, through: Slot) -> None:
        self._busy.append(Recorded(self._now(), "checkpointed", slot=through))

    def truncated(self, first_slot: Slot) -> None:
        self._busy.append(Recorded(self._now(), "truncated", slot=first_slot))

    def snapshot_installed(self, before: Slot, state: StateMachine) -> None:
        digest = state.digest[:DIGEST_BYTES].hex()
        self._rarely("snapshot", f"before: {before}", slot=state.applied_through, more=digest)

    def _rarely(self, name: str, what: str = "", **facts: Any) -> None:
        self._rare.append(Recorded(self._now(), name, what, **facts))

    # -- who asks ---------------------------------------------------------------------------

    @property
    def changes(self) -> list[LeaderChange]:
        """Of leaders, as this node saw them, oldest first."""
        return list(self.leaders.changes)

    def slots(self) -> list[SlotNow]:
        """The last slots, as of now or of half a second ago: many may ask."""
        now_s = self._now()
        if now_s - self._slots_at_s >= SLOTS_S:
            through = 0 if self.node is None else self.node.chosen_through
            self._slots = recent_slots(self.id, reversed(self._busy), through)
            self._slots_at_s = now_s
        return self._slots

    def of_slot(self, slot: Slot) -> list[Recorded]:
        """What is kept about one slot, in the order of time."""
        return [Recorded(*kept) for kept in self._busy if kept[5] == slot]

    def everything(self) -> Iterator[Recorded]:
        """All that is kept by now, in the order of time; lazily, for it is a lot."""
        rings = list(self._rare), list(self._busy)
        return (Recorded(*kept) for kept in merge(*rings, key=_AT_S))
