"""The roster: who the members of a cluster are, and where they are, as links need to know it.

It follows the replicated state, and travels with every handshake: whoever was away learns from any
member of it where the others are now. It decides whose links are taken up, never whose votes count.
"""

from collections.abc import Mapping

import msgspec

from paxos.ballot import NodeId


class RosterMember(msgspec.Struct, frozen=True, array_like=True):
    """`incarnation` is "" for a member that has not come yet; an address may be "" if it is not
    known."""

    id: NodeId
    incarnation: str
    name: str
    peer_address: str
    client_address: str
    voter: bool


class Roster(msgspec.Struct, frozen=True, array_like=True):
    """As of change `number` of the members; every id up to `last_id` was given to somebody.

    A member that was removed goes once `tellers` voters have told it so: among as many is one of
    each phase 1 quorum. 0: a release before did not say; then a majority.
    """

    cluster_id: str
    number: int
    last_id: NodeId
    members: tuple[RosterMember, ...]
    tellers: int = 0

    @property
    def tellers_needed(self) -> int:
        """See above; at least one."""
        voters = sum(one.voter for one in self.members)
        return self.tellers or max(1, voters // 2 + 1)

    def find(self, id: NodeId) -> RosterMember | None:
        return next((one for one in self.members if one.id == id), None)

    def has_gone(self, id: NodeId) -> bool:
        """Whether it was a member's, and is none's any more: ids are never used again."""
        return 0 < id <= self.last_id and self.find(id) is None

    def named(self, name: str) -> RosterMember | None:
        """The newest of that name: one that is being replaced has it, too."""
        return next((one for one in reversed(self.members) if one.name == name), None)

    def at(self, peer_address: str) -> RosterMember | None:
        """The newest at that place: who was renamed is still where it was."""
        found = (one for one in reversed(self.members) if one.peer_address == peer_address)
        return next(found, None) if peer_address else None

    def of_incarnation(self, incarnation: str) -> RosterMember | None:
        found = (one for one in self.members if one.incarnation == incarnation)
        return next(found, None) if incarnation else None

    @property
    def places(self) -> str:
        """Where the members are, for people."""
        told = (f"{one.name} at {one.peer_address or 'an unknown address'}" for one in self.members)
        return ", ".join(told)


def founding_roster(
    cluster_id: str, incarnations: Mapping[NodeId, str], addresses: Mapping[NodeId, str]
) -> Roster:
    """That of a cluster whose members were never changed: all vote."""
    members = tuple(
        RosterMember(id, incarnation, f"node{id}", addresses.get(id, ""), "", True)
        for id, incarnation in sorted(incarnations.items())
    )
    return Roster(cluster_id, 0, max(incarnations, default=0), members)
