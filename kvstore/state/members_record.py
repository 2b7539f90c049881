"""What is kept of the members: who they are, who votes from which slot on, what is under way."""

import msgspec

from kvstore.commands.members import MemberRecord
from paxos.ballot import Slot
from paxos.quorum import QuorumSystem


class Governs(msgspec.Struct, frozen=True, array_like=True):
    """A configuration, from its first slot on."""

    first_slot: Slot
    voters: tuple[int, ...]
    phase1: int
    phase2: int
    distance: int

    @property
    def quorums(self) -> QuorumSystem:
        return QuorumSystem(frozenset(self.voters), self.phase1, self.phase2)


class ChangeTarget(msgspec.Struct, frozen=True, array_like=True):
    """Where a change under way leads: these voters and sizes, and then these members go."""

    voters: tuple[int, ...]
    phase1: int
    phase2: int
    leaving: tuple[int, ...]

    @property
    def quorums(self) -> QuorumSystem:
        return QuorumSystem(frozenset(self.voters), self.phase1, self.phase2)


class JoinToken(msgspec.Struct, frozen=True, array_like=True):
    """`token` is a hash; a token that was used up is remembered for a while."""

    token: bytes
    expires_ms: int
    uses: int


class MembersRecord(msgspec.Struct, frozen=True, array_like=True):
    """All of it, as it is checkpointed. `number` counts the changes; at 0 the state knows nothing
    of the members, because nothing was ever changed."""

    number: int = 0
    cluster_id: str = ""
    last_id: int = 0
    members: tuple[MemberRecord, ...] = ()
    configurations: tuple[Governs, ...] = ()
    target: ChangeTarget | None = None
    tokens: tuple[JoinToken, ...] = ()
    incarnations: tuple[str, ...] = ()
