"""Replicas compare their state digests at agreed slots; one that differs must stop (D5)."""

from kvstore.errors import DivergedState
from paxos.ballot import NodeId, Slot

SLOTS_KEPT = 16
"""How many compared slots are remembered: enough for peers that lag a little."""


class DigestCheck:
    """Own and peers' digests of the last few agreed slots."""

    def __init__(self, node: NodeId, members: int) -> None:
        self._node = node
        self.members = members
        """How many take part now."""
        self._digests: dict[Slot, dict[NodeId, bytes]] = {}

    def add(self, node: NodeId, slot: Slot, digest: bytes) -> NodeId | None:
        """A digest, own or a peer's. Returns a peer that differs from this node, or None.

        Raises DivergedState once so many differ that this node cannot be with a majority. With
        fewer it cannot know who is wrong, and the one that is will find out itself.
        """
        known = self._digests.setdefault(slot, {})
        known[node] = digest
        while len(self._digests) > SLOTS_KEPT:
            del self._digests[min(self._digests)]
        own = known.get(self._node)
        if own is None:
            return None
        different = [peer for peer, theirs in known.items() if theirs != own]
        if self.members - len(different) < self.members // 2 + 1:
            raise DivergedState(
                f"the state after slot {slot} differs from that of nodes {sorted(different)}: "
                "this node's data is wrong; keep it for inspection and replace the member"
            )
        return different[0] if different else None
