"""What calls of the client take and answer, and how the API's JSON becomes that."""

import base64
import binascii
from typing import TypedDict, TypeVar

import msgspec

from kvstore.errors import KvError, OutcomeUnknown, Unavailable

_T = TypeVar("_T")


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


class DeleteResult(msgspec.Struct, frozen=True):
    """`deleted` is the number of keys that went: 0 if there was none."""

    revision: int
    deleted: int


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


class NodeStatus(msgspec.Struct, frozen=True):
    """What a node says of itself. `ready`: it serves linearizable requests; if not, `reason`."""

    id: int
    role: str
    ready: bool = True
    reason: str = ""


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


class _WireEntry(msgspec.Struct):
    create_revision: int
    mod_revision: int
    version: int
    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    value_base64: str | None = None


class _WirePage(msgspec.Struct):
    items: list[_WireEntry]
    revision: int
    cursor: str | None = None
    more: bool | None = None


def decode(body: bytes, kind: type[_T], error: type[KvError] = OutcomeUnknown) -> _T:
    """The JSON `body` as `kind`; raises `error` if it is something else.

    A write that was answered unreadably may have happened; for a read give Unavailable.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as cause:
        raise error(f"the endpoint answered what this client cannot read: {cause}") from None


def decode_page(body: bytes) -> Page:
    """A page of `GET /v1/kv`."""
    wire = decode(body, _WirePage, Unavailable)
    if wire.more and wire.cursor is None:
        # To end here would pass a part of the keys off as all of them.
        raise Unavailable("the endpoint says that there is more, and not how to go on")
    items = tuple(
        Entry(
            _octets(item.key, item.key_base64),
            _octets(item.value, item.value_base64),
            item.create_revision,
            item.mod_revision,
            item.version,
        )
        for item in wire.items
    )
    return Page(items, wire.revision, wire.cursor)


def _octets(text: str | None, encoded: str | None) -> bytes:
    if text is not None:
        return text.encode()
    try:
        return base64.b64decode(encoded or "", validate=True)
    except binascii.Error:
        raise Unavailable("the endpoint answered with damaged base64") from None
