"""What calls of the client take and answer."""

from typing import TypedDict

import msgspec

from kvstore.errors import KvError


class Selection(TypedDict, total=False):
    """Which keys `page` and `list` answer. Everything is optional."""

    prefix: str | bytes
    """Only keys that begin with it."""
    start: str | bytes
    """The first key, included."""
    end: str | bytes
    """Where to end, excluded."""
    descending: bool
    """From the last key to the first."""
    keys_only: bool
    """Leave values out; they come as b""."""
    revision: int
    """As the store was at this revision."""
    serializable: bool
    """From the node's own state, perhaps stale, but answered without a quorum."""


class Entry(msgspec.Struct, frozen=True):
    """A key with its value. `mod_revision` is what `if_revision=` compares with."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0
    """The lease that holds the key, 0 for none."""


class Page(msgspec.Struct, frozen=True):
    """A piece of a listing. `cursor` continues it; it is None on the last page."""

    items: tuple[Entry, ...]
    revision: int
    cursor: str | None

    @property
    def more(self) -> bool:
        """Whether there are further pages."""
        return self.cursor is not None


class PutResult(msgspec.Struct, frozen=True):
    """The store's revision after the write, and how often the key was written since it exists."""

    revision: int
    version: int
    lease: int = 0
    """The lease that `ttl_s=` granted."""
    previous: Entry | None = None
    """What was there before, if the operation asked for it."""


class DeleteResult(msgspec.Struct, frozen=True):
    """`deleted` is the number of keys that went: 0 if there was none."""

    revision: int
    deleted: int
    previous: tuple[Entry, ...] = ()
    """What was there before, if the operation asked for it."""


class GetResult(msgspec.Struct, frozen=True):
    """What a get of a transaction or batch found. `count`: keys in the range, before `limit`."""

    items: tuple[Entry, ...]
    count: int
    more: bool = False

    @property
    def entry(self) -> Entry | None:
        """The first of them: the one, if one key was read."""
        return self.items[0] if self.items else None


class TxnResult(msgspec.Struct, frozen=True):
    """`succeeded`: all compares held, and the `then` branch ran. One result per operation."""

    succeeded: bool
    revision: int
    results: "tuple[OperationResult, ...]"

    def __bool__(self) -> bool:
        """Whether it succeeded."""
        return self.succeeded


OperationResult = PutResult | GetResult | DeleteResult | TxnResult

BatchResult = PutResult | GetResult | DeleteResult | KvError
"""Of one operation of a batch; a refused one has its error, not raised."""


class Event(msgspec.Struct, frozen=True):
    """One key's change. A deleted key has its name and `mod_revision`, the rest is empty."""

    deleted: bool
    entry: Entry
    previous: Entry | None = None
    """The key before the change, if the watch asked for it."""

    @property
    def key(self) -> bytes:
        """The key that changed."""
        return self.entry.key

    @property
    def value(self) -> bytes:
        """Its value now, b"" if it was deleted."""
        return self.entry.value

    @property
    def revision(self) -> int:
        """The revision of the change; those of one transaction have the same."""
        return self.entry.mod_revision


class Change(msgspec.Struct, frozen=True):
    """Everything watched that one revision changed."""

    revision: int
    events: tuple[Event, ...]


class History(msgspec.Struct, frozen=True):
    """A key's changes, newest first. `more`: older ones are there, beyond the limit.

    What is older than `compacted_revision` is gone.
    """

    key: bytes
    events: tuple[Event, ...]
    more: bool
    compacted_revision: int


class LeaseStatus(msgspec.Struct, frozen=True):
    """A lease: seconds granted; and, if that was asked, seconds left, and the keys it holds."""

    id: int
    ttl_s: int
    left_s: float | None = None
    keys: tuple[bytes, ...] | None = None


class CompactResult(msgspec.Struct, frozen=True):
    """The oldest revision that is readable now."""

    compacted_revision: int


class Leader(msgspec.Struct, frozen=True):
    """The node that leads, as the answering node knows."""

    id: int
    client_address: str | None = None


class HandOverResult(msgspec.Struct, frozen=True):
    """The node that leads after a handover."""

    leader: int


class Member(msgspec.Struct, frozen=True):
    """One member as the answering node sees it; None where it does not know."""

    id: int
    role: str | None = None
    peer_address: str | None = None
    client_address: str | None = None
    connected: bool = False
    chosen_through: int | None = None
    lag: int | None = None
    link: str = ""
    silent_s: float | None = None
    name: str = ""
    kind: str = "voter"
    """Or "learner", or "expected": it was added, and has not come yet."""
    incarnation: str = ""
    replaces: int = 0
    """The member that goes when this one votes, 0 for none."""
    since_ms: int = 0
    """When it became a member, by the log's clock; 0: with the cluster."""
    member_s: int = 0
    """Seconds since then."""


class ClusterConfiguration(msgspec.Struct, frozen=True):
    """Who votes, and how many make a quorum. `number` counts the changes of the members;
    `under_way` says where one leads, "" if there is none."""

    number: int = 0
    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    phase1: int = 0
    phase2: int = 0
    distance: int = 0
    under_way: str = ""


class ClusterMembers(msgspec.Struct, frozen=True):
    """The members as one node sees them. `configuration` is None until the cluster has formed."""

    members: tuple[Member, ...]
    configuration: ClusterConfiguration | None = None


class ConfigurationStep(msgspec.Struct, frozen=True):
    """A configuration on the way of a change."""

    voters: tuple[int, ...]
    phase1: int
    phase2: int


class MembersResult(msgspec.Struct, frozen=True):
    """After a change of the members: whom it was about, None if it is no member any more, and who
    votes now. After a rehearsal `steps` are what it would lead over, and nothing was changed."""

    configuration: ClusterConfiguration
    member: Member | None = None
    steps: tuple[ConfigurationStep, ...] = ()
    dry_run: bool = False


class JoiningToken(msgspec.Struct, frozen=True):
    """With it `uses` more nodes may join in the next `left_s` seconds. `token` is told only once,
    to whoever makes it."""

    id: str
    left_s: float
    uses: int
    token: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    """What a node says of itself. `ready`: it serves linearizable requests; if not, `reason`.
    `warnings`: what an operator must mend although it may still serve."""

    id: int
    role: str
    ready: bool = True
    reason: str = ""
    warnings: tuple[str, ...] = ()
    name: str = ""


class ClusterStatus(msgspec.Struct, frozen=True):
    """The cluster as one node, `node`, sees it."""

    node: NodeStatus
    leader: Leader | None
    ballot: str
    chosen_through: int
    applied_through: int
    members: tuple[Member, ...] = ()
    revision: int = 0
    compacted_revision: int = 0
    cluster_id: str = ""
    configuration: ClusterConfiguration | None = None
