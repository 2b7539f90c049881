"""Changes of who belongs to the cluster, as they are replicated (the command `Reconfigure`).

A *member* is a node id and an incarnation; neither is ever used twice. Voters decide, learners only
follow. What a change comes to is decided where it is applied (`kvstore.state.members`).
"""

from enum import StrEnum

import msgspec

MEMBERS_MAX = 32
"""Voters and learners together."""
VOTERS_MAX = 15
ADDRESS_BYTES_MAX = 300
MEMBER_NAME_BYTES_MAX = 64
TOKENS_MAX = 256
TOKEN_HASH_BYTES = 32


class MemberRecord(msgspec.Struct, frozen=True, array_like=True):
    """One member. `incarnation` is "" until it has come for the first time; then only `name` says
    who it is. `promote`: it becomes a voter by itself once it is close. `replaces`: the member that
    goes when this one votes, 0 for none. Addresses are those at which others reach it.
    """

    id: int
    incarnation: str
    name: str
    peer_address: str
    client_address: str
    promote: bool = False
    replaces: int = 0
    since_ms: int = 0
    """The log's clock when it became a member."""


class Founding(msgspec.Struct, frozen=True, array_like=True):
    """What a cluster began with. It travels with the first change, because the state of those who
    were there from the beginning does not hold it, and others cannot know it."""

    cluster_id: str
    members: tuple[MemberRecord, ...]
    phase1: int
    phase2: int
    distance: int


class NewMember(msgspec.Struct, frozen=True, array_like=True):
    """Who is to be taken in, always as a learner first."""

    name: str
    peer_address: str
    client_address: str = ""
    incarnation: str = ""
    promote: bool = True
    replaces: int = 0


class AddMember(msgspec.Struct, frozen=True, array_like=True, tag="m+"):
    """`token` is the hash of the one that was shown, b"" if an administrator asks."""

    member: NewMember
    token: bytes = b""


class BindMember(msgspec.Struct, frozen=True, array_like=True, tag="m!"):
    """The member `id`, which has not come yet, has: it is the incarnation given."""

    id: int
    incarnation: str
    peer_address: str = ""
    client_address: str = ""


class RemoveMember(msgspec.Struct, frozen=True, array_like=True, tag="m-"):
    id: int


class PromoteMember(msgspec.Struct, frozen=True, array_like=True, tag="m^"):
    """A learner becomes a voter, and who it replaces goes. Leaders propose it once the learner is
    close behind; whoever else wants it asks by UpdateMember."""

    id: int


class UpdateMember(msgspec.Struct, frozen=True, array_like=True, tag="m="):
    """What is "" stays as it is. `promote`: a learner becomes a voter once it is close."""

    id: int
    name: str = ""
    peer_address: str = ""
    client_address: str = ""
    promote: bool = False


class SetConfiguration(msgspec.Struct, frozen=True, array_like=True, tag="c="):
    """From any voters and quorum sizes to any others. The other members become learners, or leave
    if they are not in `learners` either. A size of 0 is the usual one. `force` replaces a change
    that is under way and cannot be completed."""

    voters: tuple[int, ...]
    learners: tuple[int, ...]
    phase1: int = 0
    phase2: int = 0
    force: bool = False


class NextStep(msgspec.Struct, frozen=True, array_like=True, tag="c>"):
    """The change under way takes its next step. Leaders propose it."""


class IssueToken(msgspec.Struct, frozen=True, array_like=True, tag="t+"):
    """Whoever shows a token with this hash (BLAKE2b-256) may join, `uses` times in all, until the
    log's clock says `expires_ms`."""

    token: bytes
    expires_ms: int
    uses: int


class RevokeToken(msgspec.Struct, frozen=True, array_like=True, tag="t-"):
    token: bytes


MemberChange = (
    AddMember
    | BindMember
    | RemoveMember
    | PromoteMember
    | UpdateMember
    | SetConfiguration
    | NextStep
    | IssueToken
    | RevokeToken
)


class Reconfigure(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """Change the members. `expected` is the number of the configuration that the change is made
    from, -1 for any. `founding` is there until the state holds a configuration."""

    change: MemberChange
    expected: int = -1
    founding: Founding | None = None


class MembershipRefusal(StrEnum):
    """Why a change is not made; the text is what the operator reads."""

    CHANGED_MEANWHILE = "the members were changed meanwhile: look again"
    UNDER_WAY = "another change of the members is under way"
    UNKNOWN_MEMBER = "there is no such member"
    NAME_TAKEN = "there is a member of this name already"
    ADDRESS_TAKEN = "there is a member with this peer address already"
    INCARNATION_USED = "this incarnation was a member before: its data directory is not to be used"
    NOT_LEARNER = "this member votes already"
    NOT_THERE_YET = "this member has not come yet"
    NOT_IN_STEP = "this member is not close enough behind the leader"
    TOO_MANY = "the cluster has as many members as it may have"
    LAST_VOTER = "a cluster needs at least one voter"
    BAD_SIZES = "these quorum sizes do not meet, or nobody can reach them"
    BAD_TOKEN = "the token is unknown, was used up, or has expired"
    NOTHING_TO_DO = "this changes nothing"
    BOUND_ALREADY = "this member has come already"
    MINORITY = "too few of the voters that there would be are there now; go step by step"
