"""The hot calls of etcd's API: `kv/put`, `kv/range` and `kv/deleterange` of one key, and the
plain transaction.

A message is decoded straight from bytes, by a decoder that is stricter than etcd's
(`http_api.etcd.decode`): whatever it does not take is declined, and the other lane says what is
wrong with it, if anything is. So what is taken here means the same there.
"""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from http_api.core.hot import HotCall, HotPlace, HotRead, HotWrite, WantedKey
from http_api.core.problems import refusal
from http_api.core.responses import JSON, Answer, answer
from http_api.core.session import Session
from http_api.etcd.decode import ELEMENTS_MAX
from http_api.etcd.encode import key_value_json
from http_api.etcd.gateway import Gateway
from http_api.etcd.kv import txn_document
from http_api.limits.elements import few_marks
from kvstore.commands.commands import KEY_BYTES_MAX, Delete, Put
from kvstore.commands.operations import (
    Comparison,
    Field,
    Relation,
    Select,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnOperation,
    TxnPut,
    TxnPutDone,
    only,
)
from kvstore.commands.results import Deleted, Result, Written
from kvstore.state.reading import reads_only

T = TypeVar("T")
_CAMEL = {
    f"{name}_camel": camel
    for name, camel in {
        "create_revision": "createRevision",
        "mod_revision": "modRevision",
        "request_put": "requestPut",
        "request_range": "requestRange",
        "request_delete_range": "requestDeleteRange",
    }.items()
}
_Number = (
    Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    | Annotated[str, Meta(pattern=r"^-?(0|[1-9][0-9]{0,17})\Z")]
)
"""An int64 in one of its two forms; as text one that surely fits."""


# -- messages -------------------------------------------------------------------------------


class _PlainPut(msgspec.Struct, forbid_unknown_fields=True):
    key: bytes
    value: bytes = b""
    lease: _Number = 0


class _PlainRange(msgspec.Struct, forbid_unknown_fields=True):
    key: bytes
    serializable: bool = False


class _Compare(msgspec.Struct, forbid_unknown_fields=True, rename=_CAMEL):
    """One key's field and its operand; a field with two names comes under one of them."""

    key: bytes
    target: Literal["VERSION", "CREATE", "MOD", "VALUE"] = "VERSION"
    result: Literal["EQUAL", "GREATER", "LESS", "NOT_EQUAL"] = "EQUAL"
    version: _Number | None = None
    create_revision: _Number | None = None
    create_revision_camel: _Number | None = None
    mod_revision: _Number | None = None
    mod_revision_camel: _Number | None = None
    value: bytes = b""


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    key: bytes


class _Operation(msgspec.Struct, forbid_unknown_fields=True, rename=_CAMEL):
    """One of them."""

    request_put: _PlainPut | None = None
    request_put_camel: _PlainPut | None = None
    request_range: _Key | None = None
    request_range_camel: _Key | None = None
    request_delete_range: _Key | None = None
    request_delete_range_camel: _Key | None = None


_One = Annotated[list[_Operation], Meta(max_length=1)]


class _PlainTxn(msgspec.Struct, forbid_unknown_fields=True):
    """One compare, and at most one operation for either case."""

    compare: Annotated[list[_Compare], Meta(min_length=1, max_length=1)]
    success: _One = []
    failure: _One = []


class _Declined(Exception):
    """The other lane is to see to it."""


_decode_put = msgspec.json.Decoder(_PlainPut).decode
_decode_range = msgspec.json.Decoder(_PlainRange).decode
_decode_key = msgspec.json.Decoder(_Key).decode
_decode_txn = msgspec.json.Decoder(_PlainTxn).decode


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T | None:
    """None if the decoder does not take it, or if it says too much."""
    try:
        return decode(body) if few_marks(body, ELEMENTS_MAX) else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _sound(key: bytes) -> bool:
    return 0 < len(key) <= KEY_BYTES_MAX


# -- transactions ---------------------------------------------------------------------------


def _either(one: T | None, other: T | None) -> T | None:
    """Of a field with two names. Raises _Declined if it comes under both."""
    if one is not None and other is not None:
        raise _Declined
    return other if one is None else one


def _checked(key: bytes) -> bytes:
    if not _sound(key):
        raise _Declined
    return key


def _number(one: int | str | None, other: int | str | None) -> int:
    return int(_either(one, other) or 0)


def _comparison(compare: _Compare) -> Comparison:
    numbers = {
        "VERSION": _number(compare.version, None),
        "CREATE": _number(compare.create_revision, compare.create_revision_camel),
        "MOD": _number(compare.mod_revision, compare.mod_revision_camel),
    }
    operand = compare.value if compare.target == "VALUE" else numbers[compare.target]
    key = _checked(compare.key)
    return Comparison(Field[compare.target], Relation[compare.result], key, only(key), operand)


def _operation(operation: _Operation) -> TxnOperation:
    put = _either(operation.request_put, operation.request_put_camel)
    read = _either(operation.request_range, operation.request_range_camel)
    delete = _either(operation.request_delete_range, operation.request_delete_range_camel)
    if (put is not None) + (read is not None) + (delete is not None) != 1:
        raise _Declined
    if put is not None:
        return TxnPut(_checked(put.key), put.value, int(put.lease))
    if read is not None:
        return Select(_checked(read.key), only(read.key))
    assert delete is not None
    return TxnDelete(_checked(delete.key), only(delete.key))


def _transaction(message: _PlainTxn) -> Transaction | None:
    """None if it is not plain, or only reads."""
    try:
        transaction = Transaction(
            (_comparison(message.compare[0]),),
            tuple(map(_operation, message.success)),
            tuple(map(_operation, message.failure)),
        )
    except _Declined:
        return None
    return None if reads_only(transaction) else transaction


# -- calls ----------------------------------------------------------------------------------


class EtcdPut(HotWrite):
    """kv/put."""

    def __init__(self, place: HotPlace, gateway: Gateway) -> None:
        super().__init__(place)
        self._gateway = gateway

    def what(self, key: bytes, body: bytes) -> Put | None:
        message = _decoded(_decode_put, body)
        if message is None or not _sound(message.key):
            return None
        return Put(message.key, message.value, lease=int(message.lease))

    def answer(self, result: Result) -> Answer:
        if not isinstance(result, Written):
            raise refusal(result)
        body = b'{"header":%b}' % self._gateway.header_json(result.revision)
        return answer(200, body, JSON)


class EtcdDelete(HotWrite):
    """kv/deleterange of one key."""

    def __init__(self, place: HotPlace, gateway: Gateway) -> None:
        super().__init__(place)
        self._gateway = gateway

    def what(self, key: bytes, body: bytes) -> Delete | None:
        message = _decoded(_decode_key, body)
        return None if message is None or not _sound(message.key) else Delete(message.key)

    def answer(self, result: Result) -> Answer:
        if not isinstance(result, Deleted):
            raise refusal(result)
        header = self._gateway.header_json(result.revision)
        deleted = b',"deleted":"%d"' % result.deleted if result.deleted else b""
        return answer(200, b'{"header":%b%b}' % (header, deleted), JSON)


class EtcdRange(HotRead):
    """kv/range of one key."""

    def __init__(self, place: HotPlace, gateway: Gateway) -> None:
        super().__init__(place)
        self._gateway = gateway

    def what(self, key: bytes, body: bytes) -> WantedKey | None:
        message = _decoded(_decode_range, body)
        if message is None or not _sound(message.key):
            return None
        return WantedKey(message.key, message.serializable)

    def answer(self, session: Session, key: bytes) -> Answer:
        found = session.get(key)
        header = self._gateway.header_json(session.revision)
        if found is None:
            return answer(200, b'{"header":%b}' % header, JSON)
        body = b'{"header":%b,"kvs":[%b],"count":"1"}' % (header, key_value_json(found))
        return answer(200, body, JSON)


class EtcdTxn(HotWrite):
    """kv/txn with one compare, of single keys, that writes."""

    def __init__(self, place: HotPlace, gateway: Gateway) -> None:
        super().__init__(place)
        self._gateway = gateway

    def what(self, key: bytes, body: bytes) -> Transaction | None:
        message = _decoded(_decode_txn, body)
        return None if message is None else _transaction(message)

    def answer(self, result: Result) -> Answer:
        if not isinstance(result, TransactionDone):
            raise refusal(result)
        put = result.results[0] if result.results else None
        if not isinstance(put, TxnPutDone):
            return self._gateway.reply(txn_document(self._gateway.header(result.revision), result))
        # The same in one step: nothing but a put was asked for, and not what it replaced.
        body = (b'{"header":%b,%b"responses":[{"response_put":{"header":{"revision":"%d"}}}]}') % (
            self._gateway.header_json(result.revision),
            b'"succeeded":true,' if result.succeeded else b"",
            put.revision,
        )
        return answer(200, body, JSON)


def hot_calls(gateway: Gateway, place: Callable[[str], HotPlace]) -> list[HotCall]:
    """`place(name)`: of the row with that name."""
    return [
        EtcdPut(place("kv/put"), gateway),
        EtcdDelete(place("kv/deleterange"), gateway),
        EtcdRange(place("kv/range"), gateway),
        EtcdTxn(place("kv/txn"), gateway),
    ]
