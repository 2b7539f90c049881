"""The trace: what happened, in order, in virtual microseconds.

Every run hashes its events as they come, so two runs are the same if their digests are. The events
themselves are kept only when somebody wants to see them: `tell.page` draws them, and
`tell.story` tells the part that matters.
"""

import hashlib
from collections.abc import Callable

import msgspec

from paxos.ballot import NodeId


class Sent(msgspec.Struct, frozen=True, tag_field="kind", tag="sent"):
    """A message left. `text` is for people; `slot` and `ballot` are what it is about, if any."""

    at_us: int
    id: int
    sender: NodeId
    to: NodeId
    name: str
    text: str
    slot: int | None = None
    ballot: str | None = None


class Delivered(msgspec.Struct, frozen=True, tag_field="kind", tag="delivered"):
    """Message `id` arrived (perhaps a second time)."""

    at_us: int
    id: int


class Lost(msgspec.Struct, frozen=True, tag_field="kind", tag="lost"):
    """Message `id`, or one copy of it, will not arrive: `reason`."""

    at_us: int
    id: int
    reason: str


class Happened(msgspec.Struct, frozen=True, tag_field="kind", tag="happened"):
    """Something befell `node`. Names drawn as states: "started", "crashed", "failed", "paused",
    "resumed", "leader", "candidate", "follower"; all others are marks with a text."""

    at_us: int
    node: NodeId
    name: str
    text: str = ""


class SlotIs(msgspec.Struct, frozen=True, tag_field="kind", tag="slot"):
    """On `node`, `slot` is now "accepted" (in `ballot`), "chosen" or "applied"; "" is a no-op."""

    at_us: int
    node: NodeId
    slot: int
    state: str
    ballot: str
    value: str


class FaultBegan(msgspec.Struct, frozen=True, tag_field="kind", tag="fault_began"):
    """Fault `id` on these nodes; `cut` lists the one-way links that carry nothing meanwhile."""

    at_us: int
    id: int
    name: str
    text: str
    nodes: tuple[NodeId, ...] = ()
    cut: tuple[tuple[NodeId, NodeId], ...] = ()


class FaultEnded(msgspec.Struct, frozen=True, tag_field="kind", tag="fault_ended"):
    """Fault `id` is over."""

    at_us: int
    id: int


class Asked(msgspec.Struct, frozen=True, tag_field="kind", tag="asked"):
    """A client's request `id` to `node`."""

    at_us: int
    id: int
    client: int
    node: NodeId
    text: str
    key: str = ""


class Answered(msgspec.Struct, frozen=True, tag_field="kind", tag="answered"):
    """What request `id` came to. `outcome` is "ok", "refused" or "unknown"."""

    at_us: int
    id: int
    outcome: str
    text: str


class Note(msgspec.Struct, frozen=True, tag_field="kind", tag="note"):
    """A sentence of a lesson, or a milestone of a run; `node` says whom it is about, if anyone."""

    at_us: int
    text: str
    node: NodeId | None = None


TraceEvent = (
    Sent | Delivered | Lost | Happened | SlotIs | FaultBegan | FaultEnded | Asked | Answered | Note
)

_encode = msgspec.msgpack.Encoder().encode


class Trace:
    """Collects events; `keep=False` only hashes them."""

    def __init__(self, keep: bool = True) -> None:
        self.events: list[TraceEvent] = []
        self.count = 0
        self._keep = keep
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, event: TraceEvent) -> None:
        """Events come in the order of time."""
        self.count += 1
        self._hash.update(_encode(event))
        if self._keep:
            self.events.append(event)

    def add_raw(self, raw: bytes, make: Callable[[], TraceEvent]) -> None:
        """The same where making the event costs: `raw` is hashed, and must determine it."""
        self.count += 1
        self._hash.update(raw)
        if self._keep:
            self.events.append(make())

    @property
    def digest(self) -> str:
        """32 hex digits over everything that happened so far."""
        return self._hash.hexdigest()


class Recording(msgspec.Struct, frozen=True):
    """A whole trace with its head, as the page shows it and as JSON carries it.

    `command` is what to type to see the same again; `facts` are shown as a list of name and value.
    """

    title: str
    summary: str
    command: str
    nodes: tuple[NodeId, ...]
    clients: tuple[int, ...]
    facts: tuple[tuple[str, str], ...]
    events: tuple[TraceEvent, ...]
