"""How the API's JSON becomes results."""

import base64
import binascii
from typing import TypeVar

import msgspec

from kvstore.client.results import (
    BatchResult,
    Change,
    DeleteResult,
    Entry,
    Event,
    GetResult,
    History,
    LeaseStatus,
    OperationResult,
    Page,
    PermissionStatus,
    PutResult,
    RoleStatus,
    TxnResult,
    UserStatus,
)
from kvstore.client.verdict import HttpReply, error_of, says_key_not_found
from kvstore.errors import KvError, OutcomeUnknown, Unavailable

_T = TypeVar("_T")


class _Entry(msgspec.Struct):
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    value_base64: str | None = None
    lease: str = "0"


class _Page(msgspec.Struct):
    items: list[_Entry]
    revision: int
    cursor: str | None = None
    more: bool | None = None


class _Put(msgspec.Struct):
    revision: int
    version: int
    lease: str = "0"
    previous: _Entry | None = None


class _Get(msgspec.Struct):
    items: list[_Entry] = []
    count: int = 0
    more: bool = False


class _Delete(msgspec.Struct):
    deleted: int
    revision: int | None = None
    previous: list[_Entry] = []


class _Txn(msgspec.Struct):
    succeeded: bool
    results: "list[_Result]"
    revision: int | None = None


class _Result(msgspec.Struct):
    """Of an operation of a transaction."""

    put: _Put | None = None
    get: _Get | None = None
    delete: _Delete | None = None
    txn: _Txn | None = None


class _BatchResult(msgspec.Struct):
    """Of an operation of a batch: a result, or the problem."""

    status: int
    put: _Put | None = None
    get: _Entry | None = None
    delete: _Delete | None = None
    problem: msgspec.Raw = msgspec.Raw(b"{}")


class _Event(_Entry):
    type: str = "put"
    previous: _Entry | None = None


class _Change(msgspec.Struct):
    revision: int
    events: list[_Event]


class _History(msgspec.Struct):
    items: list[_Event]
    more: bool = False
    compacted_revision: int = 0


class _Lease(msgspec.Struct):
    id: str
    ttl_s: int
    left_s: float | None = None
    keys: list[_Entry] | None = None


class _Leases(msgspec.Struct):
    leases: list[_Lease]
    cursor: str | None = None


def decode(body: bytes, kind: type[_T], error: type[KvError] = OutcomeUnknown) -> _T:
    """The JSON `body` as `kind`; raises `error` if it is something else.

    A write that was answered unreadably may have happened; for a read give Unavailable.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as cause:
        raise error(f"the endpoint answered what this client cannot read: {cause}") from None


def decode_page(body: bytes) -> Page:
    """A page of `GET /v1/kv`."""
    wire = decode(body, _Page, Unavailable)
    if wire.more and wire.cursor is None:
        # To end here would pass a part of the keys off as all of them.
        raise Unavailable("the endpoint says that there is more, and not how to go on")
    return Page(_entries(wire.items), wire.revision, wire.cursor)


class _Permission(msgspec.Struct):
    right: str
    key: str | None = None
    key_base64: str | None = None
    prefix: str | None = None
    prefix_base64: str | None = None
    start: str | None = None
    start_base64: str | None = None
    end: str | None = None
    end_base64: str | None = None

    def known(self) -> PermissionStatus:
        """As the client shows it."""
        bounds: dict[str, bytes] = {}
        for name in ("key", "prefix", "start", "end"):
            text, encoded = getattr(self, name), getattr(self, f"{name}_base64")
            if text is not None or encoded is not None:
                bounds[name] = _octets(text, encoded)
        return PermissionStatus(self.right, **bounds)


class _Role(msgspec.Struct):
    name: str
    permissions: list[_Permission] = []
    scopes: tuple[str, ...] = ()


def decode_role(body: bytes) -> RoleStatus:
    """The answer to `GET /v1/roles/{name}`."""
    role = decode(body, _Role, Unavailable)
    return RoleStatus(role.name, tuple(each.known() for each in role.permissions), role.scopes)


def decode_roles(body: bytes) -> tuple[str, ...]:
    """The answer to `GET /v1/roles`."""
    return decode(body, dict[str, tuple[str, ...]], Unavailable).get("roles", ())


def decode_users(body: bytes) -> tuple[UserStatus, ...]:
    """The answer to `GET /v1/users`."""
    return decode(body, dict[str, tuple[UserStatus, ...]], Unavailable).get("users", ())


def decode_put(body: bytes) -> PutResult:
    """The answer to a put."""
    return _put(decode(body, _Put))


def decode_txn(body: bytes, error: type[KvError]) -> TxnResult:
    """The answer to `POST /v1/txn`."""
    wire = decode(body, _Txn, error)
    return _txn(wire, wire.revision or 0)


def decode_batch(body: bytes, count: int) -> tuple[BatchResult, ...]:
    """The answer to `POST /v1/batch` of `count` operations. Raises OutcomeUnknown."""
    wires = decode(body, list[_BatchResult])
    if len(wires) != count:
        raise OutcomeUnknown(f"the endpoint answered {len(wires)} of {count} operations")
    return tuple(map(_batch_result, wires))


def decode_change(data: bytes) -> Change:
    """The data of a watch's `change`. Raises Unavailable."""
    wire = decode(data, _Change, Unavailable)
    return Change(wire.revision, tuple(_event(event) for event in wire.events))


def decode_history(body: bytes, key: bytes) -> History:
    """The answer to `GET /v1/kv/{key}?history`."""
    wire = decode(body, _History, Unavailable)
    events = tuple(_event(event, key) for event in wire.items)
    return History(key, events, wire.more, wire.compacted_revision)


def decode_lease(body: bytes, error: type[KvError] = Unavailable) -> LeaseStatus:
    """One lease."""
    return _lease(decode(body, _Lease, error))


def decode_leases(body: bytes) -> tuple[list[LeaseStatus], str | None]:
    """A page of `GET /v1/leases`, without time left and keys; and how to get the next."""
    wire = decode(body, _Leases, Unavailable)
    return list(map(_lease, wire.leases)), wire.cursor


def _entry(wire: _Entry, key: bytes | None = None) -> Entry:
    return Entry(
        _octets(wire.key, wire.key_base64) if key is None else key,
        _octets(wire.value, wire.value_base64),
        wire.create_revision,
        wire.mod_revision,
        wire.version,
        _number(wire.lease),
    )


def _entries(wires: list[_Entry]) -> tuple[Entry, ...]:
    return tuple(map(_entry, wires))


def _event(wire: _Event, key: bytes | None = None) -> Event:
    previous = None if wire.previous is None else _entry(wire.previous)
    return Event(wire.type == "delete", _entry(wire, key), previous)


def _lease(wire: _Lease) -> LeaseStatus:
    keys = wire.keys
    names = None if keys is None else tuple(_octets(key.key, key.key_base64) for key in keys)
    return LeaseStatus(_number(wire.id), wire.ttl_s, wire.left_s, names)


def _put(wire: _Put) -> PutResult:
    previous = None if wire.previous is None else _entry(wire.previous)
    return PutResult(wire.revision, wire.version, _number(wire.lease), previous)


def _txn(wire: _Txn, revision: int) -> TxnResult:
    return TxnResult(wire.succeeded, revision, tuple(_result(r, revision) for r in wire.results))


def _result(wire: _Result, revision: int) -> OperationResult:
    if wire.put is not None:
        return _put(wire.put)
    if wire.get is not None:
        return GetResult(_entries(wire.get.items), wire.get.count, wire.get.more)
    if wire.delete is not None:
        own, previous = wire.delete.revision, _entries(wire.delete.previous)
        return DeleteResult(revision if own is None else own, wire.delete.deleted, previous)
    if wire.txn is not None:
        return _txn(wire.txn, revision)
    raise OutcomeUnknown("the endpoint answered an operation with nothing that is known")


def _batch_result(wire: _BatchResult) -> BatchResult:
    if wire.put is not None:
        return _put(wire.put)
    if wire.get is not None:
        return GetResult((_entry(wire.get),), 1)
    if wire.delete is not None:
        previous = _entries(wire.delete.previous)
        return DeleteResult(wire.delete.revision or 0, wire.delete.deleted, previous)
    headers = {"Content-Type": "application/problem+json"}
    answer = HttpReply(wire.status, headers, bytes(wire.problem))
    return GetResult((), 0) if says_key_not_found(answer) else error_of(answer)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Unavailable(f"the endpoint answered with the lease id {text!r}") from None


def _octets(text: str | None, encoded: str | None) -> bytes:
    if text is not None:
        return text.encode()
    try:
        return base64.b64decode(encoded or "", validate=True)
    except binascii.Error:
        raise Unavailable("the endpoint answered with damaged base64") from None
