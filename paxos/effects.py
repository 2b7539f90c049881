"""Effects: what the caller must now do. Inputs mutate the node; this one value comes out.

The caller obeys the fields in order:

1. `send_first`: messages that promise nothing about this node's disk. They may leave at once.
2. `persist`: records to commit in one durable write.
3. `send`: messages that are true only once `persist`, *and every earlier persist*, is on disk.
   Messages to the node itself are among them: its own vote takes the same door, so it cannot
   count before it is durable.
4. `chosen`: values to apply, in slot order, without gaps or repeats.
5. `reads`: reads that may be answered once the slot they name is applied.
6. `fetch_snapshot_from`: a peer that has what this node lacks and no longer keeps in its log.

`chosen` and `reads` need not wait for `persist`: they rest on what a quorum already has on disk.
"""

from dataclasses import dataclass, field

from paxos.ballot import NodeId, Slot
from paxos.messages import AnyMessage
from paxos.records import Record


@dataclass(slots=True)
class Effects:
    """See the module's text for the meaning and the order of the fields."""

    send_first: list[tuple[NodeId, AnyMessage]] = field(default_factory=list)
    persist: list[Record] = field(default_factory=list)
    send: list[tuple[NodeId, AnyMessage]] = field(default_factory=list)
    chosen: list[tuple[Slot, bytes]] = field(default_factory=list)
    reads: list[tuple[int, Slot]] = field(default_factory=list)
    fetch_snapshot_from: NodeId | None = None

    def __bool__(self) -> bool:
        return bool(
            self.send_first
            or self.persist
            or self.send
            or self.chosen
            or self.reads
            or self.fetch_snapshot_from is not None
        )
