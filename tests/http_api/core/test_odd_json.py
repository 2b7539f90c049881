"""JSON that is legal, or nearly, and odd: every call that takes some answers it without a fault."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http_api.core.bodies import parse_json
from http_api.etcd.decode import convert, decode
from http_api.etcd.errors import EtcdError
from http_api.etcd.messages import TxnRequest
from http_api.server import native_calls
from http_api.v1.batch_steps import BatchOperation, steps
from http_api.v1.txn import TxnDocument, transaction
from kvstore.errors import KvError
from tests.http_api.conftest import Server
from tests.support.raw_http import Connection, connect, request

DIGITS = b"1" * 5000
ODD = [
    rb'"\ud800"', rb'"\udfff\ud800"', rb'"a\ud800b"', b'"\xed\xa0\x80"', b'"\xff"', rb'"\u0000"',
    DIGITS, b"-" + DIGITS, DIGITS + b".5", b"1e5000", b"-1e5000", b"1.5e-5000", b'"%s"' % DIGITS,
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"NaN", b"Infinity",
    b"-0", b"0.0", b"01", b"true", b"null", b"[]", b"{}", b"[[]]", b'"=="', b'"a"',
]  # fmt: skip


def names_of(message: Any) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(message)]


async def answer(c: Connection, method: str, path: str, body: bytes, kind: str) -> str:
    await c.send(request(method, path, {"Content-Type": kind, "Connection": "close"}, body))
    return (await c.ended()).decode("latin-1")


async def without_a_fault(
    address: tuple[str, int], method: str, path: str, body: bytes, kind: str = "application/json"
) -> None:
    async with connect(address) as c:
        said = await answer(c, method, path, body, kind)
    assert "unexpected error" not in said and said.startswith("HTTP/1.1 "), (path, body[:60], said)


def test_odd_values_in_every_field_of_every_call(server: Server, tmp_path: Path) -> None:
    (tmp_path / "state.mdb").touch()  # whose size is shown

    async def run() -> None:
        async with server(data_dir=tmp_path) as served:
            etcd = [call for call in served.http._etcd.calls if call.message is not None]
            native = [call for call in native_calls() if call.message is not None]
            waits = {"/v3/lock/lock", "/v3/election/campaign", "/v3/election/observe"}
            for call in [*etcd, *native]:
                if call.path in waits or call.path in ("/v3/watch", "/v3/maintenance/snapshot"):
                    continue
                for odd in ODD:
                    fields = b",".join(
                        b'"%s":%s' % (n.encode(), odd) for n in names_of(call.message)
                    )
                    for body in (odd, b"{%s}" % fields):
                        await without_a_fault(served.address, "POST", call.path, body)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_odd_values_in_batches_and_transactions(server: Server, kind: str) -> None:
    async def run() -> None:
        async with server() as served:
            for odd in ODD:
                for name in (b"key", b"value_base64", b"lease", b"ttl_s"):
                    put = b'{"put":{"key":"k","value":"v","%s":%s}}' % (name, odd)
                    body = put if kind.endswith("ndjson") else b"[%s]" % put
                    await without_a_fault(served.address, "POST", "/v1/batch", body, kind)
                for name in (b"key", b"operand", b"operand_base64", b"field"):
                    compare = b'{"compare":[{"field":"value","%s":%s}]}' % (name, odd)
                    await without_a_fault(served.address, "POST", "/v1/txn", compare)
                    compare = b'{"compare":[{"key":"a","field":"lease","%s":%s}]}' % (name, odd)
                    await without_a_fault(served.address, "POST", "/v1/txn", compare)

    asyncio.run(run())


def test_numbers_and_surrogates_are_told_as_the_callers_fault(server: Server) -> None:
    cases = [
        ("/v1/txn", b'{"compare":[{"key":"a","field":"version","operand":%s}]}' % DIGITS),
        ("/v1/leases", b'{"ttl_s":%s}' % DIGITS[:4050]),
        ("/v1/txn", rb'{"then":[{"put":{"key":"\ud800","value":"v"}}]}'),
        ("/v3/kv/range", b'{"key":"aw==","limit":%s}' % DIGITS),
        ("/v3/kv/range", rb'{"key":"\ud800"}'),
        ("/v3/kv/range", b'{"key":"aw==","sort_order":%s}' % DIGITS),
        ("/v3/kv/range", rb'{"key":"aw==","sort_order":"\ud800"}'),
    ]

    async def run() -> None:
        async with server() as served:
            for path, body in cases:
                async with connect(served.address) as c:
                    assert (await c.call("POST", path, None, body)).status == 400, (path, body[:50])

    asyncio.run(run())


# -- at random ------------------------------------------------------------------------------


def joined(items: list[bytes]) -> bytes:
    return b"[%s]" % b",".join(items)


def documents(names: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """JSON made of these field names and odd values."""

    def larger(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        pairs = st.lists(st.tuples(names, inner), max_size=4)
        return pairs.map(
            lambda found: b"{%s}" % b",".join(b'"%s":%s' % pair for pair in found)
        ) | st.lists(inner, max_size=3).map(joined)

    return st.recursive(st.sampled_from(ODD), larger, max_leaves=12)


ETCD = documents(st.sampled_from([
    b"compare", b"success", b"failure", b"key", b"range_end", b"rangeEnd", b"value", b"lease",
    b"target", b"result", b"version", b"request_put", b"requestRange", b"request_txn", b"limit",
    b"sort_order", b"prev_kv", b"filters",
]))  # fmt: skip
NATIVE = documents(st.sampled_from([
    b"compare", b"then", b"else", b"key", b"key_base64", b"value", b"value_base64", b"lease",
    b"put", b"get", b"delete", b"txn", b"field", b"op", b"operand", b"prefix", b"start", b"end",
    b"ttl_s", b"if_revision", b"revision", b"limit",
]))  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(ETCD)
def test_etcd_messages_at_random(body: bytes) -> None:
    try:
        assert isinstance(decode(TxnRequest, body), TxnRequest)
    except EtcdError as error:
        str(error).encode()


async def never() -> None:
    raise AssertionError("so few operations are one slice")


@settings(max_examples=50, deadline=None)
@given(NATIVE)
def test_native_messages_at_random(body: bytes) -> None:
    for read in (
        lambda: transaction(parse_json(TxnDocument, body)),
        lambda: parse_json(BatchOperation, body),
        lambda: asyncio.run(steps(body, False, None, never)),
        lambda: asyncio.run(steps(body, True, None, never)),
    ):
        try:
            read()
        except KvError as error:
            str(error).encode()


def test_a_deep_document_is_refused() -> None:
    deep: Any = None
    for _ in range(2000):
        deep = {"success": [{"request_txn": deep}]}
    with pytest.raises(EtcdError, match="max depth"):
        convert(TxnRequest, deep)
