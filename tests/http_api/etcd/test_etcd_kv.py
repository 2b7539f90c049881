"""kv/... of etcd's API on a real replica, besides kv/txn: what etcd answers, row by row."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_api.core import growing
from http_api.etcd.kv import bounds
from http_api.etcd.messages import (
    CompareMessage,
    CompareTarget,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from http_api.etcd.sizes import message_bytes
from kvstore.commands.commands import KEY_BYTES_MAX, Put
from kvstore.state import budget
from tests.support.etcd_node import (
    COMPACTED,
    IN_FUTURE,
    KEY_MISSING,
    KEY_UNKNOWN,
    NO_LEASE,
    EtcdNode,
    b64,
    encoded,
    error_of,
    kv,
    on_node,
    put_op,
    range_op,
    revision,
    without_header,
)

# -- put ------------------------------------------------------------------------------------


def test_put(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        first = await node.ok("kv/put", key=b"k", value=b"1")
        assert first.keys() == {"header"} and revision(first) == 2
        assert first["header"].keys() == {"cluster_id", "member_id", "revision", "raft_term"}
        new = await node.ok("kv/put", key=b"other", value=b"1", prev_kv=True)
        assert new.keys() == {"header"}
        old = await node.ok("kv/put", key=b"k", value=b"2", prev_kv=True)
        assert old["prev_kv"] == kv(b"k", b"1", 2, 2, 1) and revision(old) == 4
        await node.ok("kv/put", key=b"k", ignore_value=True)
        found = await node.ok("kv/range", key=b"k")
        assert found["kvs"] == [kv(b"k", b"2", 2, 5, 3)]
        await node.ok("kv/put", key=b"k")
        found = await node.ok("kv/range", key=b"k")
        assert "value" not in found["kvs"][0]

    on_node(tmp_path, test)


def test_put_with_leases(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=777)
        await node.ok("kv/put", key=b"k", value=b"1", lease="777")
        await node.ok("kv/put", key=b"k", value=b"2", ignore_lease=True)
        found = await node.ok("kv/range", key=b"k")
        assert found["kvs"] == [kv(b"k", b"2", 2, 3, 2, lease=777)]
        await node.ok("kv/put", key=b"k", value=b"3")
        assert "lease" not in (await node.ok("kv/range", key=b"k"))["kvs"][0]
        for fields in ({"lease": 123456}, {"lease": 123456, "prev_kv": True}):
            assert await node.refused("kv/put", key=b"k", **fields) == NO_LEASE
        assert revision(await node.ok("kv/range", key=b"k")) == 4

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"value": b"v"}, KEY_MISSING),
        ({}, KEY_MISSING),
        ({"key": ""}, KEY_MISSING),
        ({"key": None}, KEY_MISSING),
        ({"key": b"k", "value": b"v", "ignore_value": True}, "value is provided"),
        ({"key": b"k", "lease": "5", "ignore_lease": True}, "lease is provided"),
        ({"key": b"k", "ignore_value": True}, KEY_UNKNOWN),
        ({"key": b"k", "value": b"v", "ignore_lease": True}, KEY_UNKNOWN),
        ({"key": b"k" * 961}, "key is longer than 960 bytes"),
    ],
)
def test_put_refused(tmp_path: Path, fields: dict[str, Any], error: Any) -> None:
    async def test(node: EtcdNode) -> None:
        wanted = (400, 3, f"etcdserver: {error}") if isinstance(error, str) else error
        assert await node.refused("kv/put", **fields) == wanted
        assert revision(await node.ok("kv/range", key=b"k")) == 1

    on_node(tmp_path, test)


# -- range ----------------------------------------------------------------------------------


async def fill(node: EtcdNode) -> None:
    """a=3 (rev 2), b=2 (3), c=1 (4, and again 5)."""
    for key, value in ((b"a", b"3"), (b"b", b"2"), (b"c", b"0"), (b"c", b"1")):
        await node.ok("kv/put", key=key, value=value)


async def keys(node: EtcdNode, **fields: Any) -> tuple[str, int, bool]:
    """Keys found, count and more."""
    request = {"key": b"a", "range_end": b"\0", **fields}
    found = await node.ok("kv/range", **request)
    names = [item["key"] for item in found.get("kvs", [])]
    shown = "".join({b64(b"a"): "a", b64(b"b"): "b", b64(b"c"): "c"}[name] for name in names)
    return shown, int(found.get("count", 0)), found.get("more", False)


def test_range_bounds(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await fill(node)
        assert await keys(node, range_end="") == ("a", 1, False)
        assert await keys(node, range_end=b"c") == ("ab", 2, False)
        assert await keys(node, range_end=b"\0") == ("abc", 3, False)
        assert await keys(node, key=b"\0", range_end=b"\0") == ("abc", 3, False)
        assert await keys(node, key=b"b", range_end=b"a") == ("", 0, False)
        assert await keys(node, key=b"b", range_end=b"b") == ("", 0, False)
        assert await keys(node, key=b"a" + b"\0" * 2000, range_end=b"c") == ("b", 1, False)
        assert await keys(node, key=b"a", range_end=b"b" + b"\0" * 2000) == ("ab", 2, False)
        assert await keys(node, key=b"a" * 1500, range_end="") == ("", 0, False)
        assert (await node.ok("kv/range", key=b"zz")).keys() == {"header"}
        assert await node.refused("kv/range", range_end=b"z") == KEY_MISSING

    on_node(tmp_path, test)


def test_range_options(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await fill(node)
        assert await keys(node, limit=2) == ("ab", 3, True)
        assert await keys(node, limit=3) == ("abc", 3, False)
        assert await keys(node, limit=-1) == ("abc", 3, False)
        assert await keys(node, count_only=True, limit=1) == ("", 3, False)
        assert await keys(node, sort_order="DESCEND") == ("cba", 3, False)
        assert await keys(node, sort_target="VALUE") == ("cba", 3, False)
        assert await keys(node, sort_target="VALUE", sort_order=2, limit=1) == ("a", 3, True)
        assert await keys(node, sort_target="VERSION", sort_order="DESCEND") == ("cab", 3, False)
        assert await keys(node, sort_target="MOD", sort_order=1) == ("abc", 3, False)
        assert await keys(node, sort_target="CREATE", sort_order=2) == ("cba", 3, False)
        assert await keys(node, min_mod_revision=3) == ("bc", 3, False)
        assert await keys(node, max_mod_revision=3, limit=1) == ("a", 3, True)
        assert await keys(node, max_mod_revision=2, limit=1) == ("a", 3, False)
        assert await keys(node, min_create_revision=4) == ("c", 3, False)
        assert await keys(node, max_create_revision=2) == ("a", 3, False)
        assert await keys(node, revision=3) == ("ab", 2, False)
        assert await keys(node, revision=-1, serializable=True) == ("abc", 3, False)
        only = (await node.ok("kv/range", key=b"a", keys_only=True))["kvs"]
        assert only == [kv(b"a", b"", 2, 2, 1)]
        then = await node.ok("kv/range", key=b"c", revision=4)
        assert then["kvs"] == [kv(b"c", b"0", 4, 4, 1)] and revision(then) == 5
        assert await node.refused("kv/range", key=b"a", revision=6) == IN_FUTURE

    on_node(tmp_path, test)


# -- deleterange ----------------------------------------------------------------------------


def test_delete(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await fill(node)
        gone = await node.ok("kv/deleterange", key=b"a")
        assert gone["deleted"] == "1" and revision(gone) == 6
        nothing = await node.ok("kv/deleterange", key=b"a")
        assert nothing.keys() == {"header"} and revision(nothing) == 6
        gone = await node.ok("kv/deleterange", key=b"b", range_end=b"\0", prev_kv=True)
        assert revision(gone) == 7
        assert without_header(gone) == {
            "deleted": "2",
            "prev_kvs": [kv(b"b", b"2", 3, 3, 1), kv(b"c", b"1", 4, 5, 2)],
        }
        for fields in ({"key": b"z", "range_end": b"a"}, {"key": b"k" * 5000}):
            assert (await node.ok("kv/deleterange", **fields)).keys() == {"header"}
        assert await node.refused("kv/deleterange", range_end=b"z") == KEY_MISSING
        await node.ok("kv/put", key=b"a", value=b"new")
        found = await node.ok("kv/range", key=b"a")
        assert found["kvs"] == [kv(b"a", b"new", 8, 8, 1)]

    on_node(tmp_path, test)


# -- compaction, sizes ----------------------------------------------------------------------


def test_compaction(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await fill(node)
        assert (await node.ok("kv/compaction", revision="4", physical=True)).keys() == {"header"}
        for refused in ({"revision": "4"}, {"revision": 3}, {"revision": 0}, {"revision": -1}, {}):
            assert await node.refused("kv/compaction", **refused) == COMPACTED
        assert await node.refused("kv/compaction", revision=6) == IN_FUTURE
        assert await node.refused("kv/range", key=b"c", revision=3) == COMPACTED
        then = await node.ok("kv/range", key=b"c", revision=4)
        assert then["kvs"] == [kv(b"c", b"0", 4, 4, 1)]
        old = [put_op(b"z"), range_op(b"c", revision=3)]
        assert await node.refused("kv/txn", success=old) == COMPACTED
        assert revision(await node.ok("kv/range", key=b"z")) == 5

    on_node(tmp_path, test)


def test_encoded_sizes() -> None:
    """By hand, from protobuf's encoding."""
    put = PutRequest(b"k" * 200, b"v" * 20_000, lease=-1, prev_kv=True)
    assert message_bytes(put) == (1 + 2 + 200) + (1 + 3 + 20_000) + (1 + 10) + 2
    compare = CompareMessage(key=b"k", range_end=b"l", version=127, target=CompareTarget.MOD)
    assert message_bytes(compare) == 3 + (2 + 1 + 1) + 2 + 2
    txn = TxnRequest([compare], [RequestOp(request_put=put), RequestOp()])
    size = message_bytes(put)
    assert message_bytes(txn) == (1 + 1 + 11) + (1 + 3 + 1 + 3 + size) + 2
    assert message_bytes(RangeRequest(limit=128)) == 1 + 2


SHORT = st.binary(min_size=1, max_size=3).map(lambda tail: b"a" * 958 + tail)


@given(st.lists(SHORT.map(lambda key: key[:KEY_BYTES_MAX])), SHORT, SHORT)
def test_long_bounds_mean_the_same_when_shortened(
    keys_: list[bytes], start: bytes, end: bytes
) -> None:
    for tail in (b"", b"\0", b"b" * 3000):
        found = bounds(start + tail, end + tail)
        assert found[1] is not None and max(map(len, found)) <= KEY_BYTES_MAX + 1
        for key in keys_:
            assert (start + tail <= key < end + tail) == (found[0] <= key < found[1])


def test_sizes(tmp_path: Path) -> None:
    """The bounds to the byte, as found by bisection on etcd 3.5.1."""

    async def test(node: EtcdNode) -> None:
        too_large = (400, 3, "etcdserver: request is too large")
        assert revision(await node.ok("kv/put", key=b"a", value=b"x" * 1_572_839)) == 2
        assert await node.refused("kv/put", key=b"a", value=b"x" * 1_572_840) == too_large
        await node.ok("kv/txn", success=[put_op(b"a", b"x" * 1_572_831)])
        larger = [put_op(b"a", b"x" * 1_572_832)]
        assert await node.refused("kv/txn", success=larger) == too_large
        assert await node.refused("kv/deleterange", key=b"a" * 1_800_000) == too_large
        assert (await node.ok("kv/range", key=b"a" * 1_800_000)).keys() == {"header"}
        assert await node.refused("kv/put", key=b"a", value=b"x" * 2_097_145) == too_large
        reply = await node.post("kv/put", {"key": b64(b"a"), "value": b64(b"x" * 2_097_146)})
        message = "grpc: received message larger than max (2097153 vs. 2097152)"
        assert error_of(reply) == (429, 8, message)
        reply = await node.raw("/v3/kv/put", b" " * (4 << 20) + b"{}")
        assert reply.status == 429 and reply.json()["code"] == 8

    on_node(tmp_path, test)


async def unchunked(node: EtcdNode) -> bytes:
    """The body whose head was read, put together from its chunks."""
    body = b""
    async with asyncio.timeout(10):
        while size := int(await node.connection.until(b"\r\n"), 16):
            body += (await node.connection._reader.readexactly(size + 2))[:-2]
        await node.connection.until(b"\r\n")
    return body


async def fill_many(node: EtcdNode, count: int, value: bytes) -> None:
    for some in range(0, count, 1000):
        keys = (b"k%05d" % at for at in range(some, min(count, some + 1000)))
        await asyncio.gather(*(node.replica.submit(Put(key, value), 9) for key in keys))


def test_long_ranges_are_streamed_at_one_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "WHOLE_BYTES_MAX", 40_000)
    monkeypatch.setattr(growing, "BYTES_PER_WRITE", 10_000)

    async def test(node: EtcdNode) -> None:
        await fill_many(node, 1000, b"v" * 100)
        everything = {"key": b"k", "range_end": b"l"}
        reply = await node.post("kv/range", encoded(everything))
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.headers["x-content-type-options"] == "nosniff"
        streamed = json.loads(await unchunked(node))
        assert [list(streamed), streamed["count"]] == [["header", "kvs", "count"], "1000"]
        assert [b64(b"k%05d" % at) for at in range(1000)] == [kv["key"] for kv in streamed["kvs"]]
        short = await node.ok("kv/range", **everything, limit=3)
        assert list(short) == ["header", "kvs", "more", "count"]
        assert (short["kvs"], short["more"]) == (streamed["kvs"][:3], True)
        counted = await node.ok("kv/range", **everything, count_only=True)
        assert counted == {"header": streamed["header"], "count": "1000"}
        none = await node.ok("kv/range", key=b"x", range_end=b"y")
        assert none == {"header": streamed["header"]}
        backwards = await node.ok("kv/range", **everything, sort_order=2, limit=20)
        assert backwards["kvs"] == streamed["kvs"][:-21:-1]
        # The connection goes on.
        assert revision(await node.ok("kv/put", key=b"z", value=b"")) > revision(streamed)

    on_node(tmp_path, test)


def test_too_much_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "KEYS_MAX", 100)

    async def test(node: EtcdNode) -> None:
        await fill_many(node, 101, b"")
        status, code, text = await node.refused("kv/deleterange", key=b"k", range_end=b"l")
        assert (status, code) == (429, 8)
        assert "looks at no more than" in text
        whole = {"request_range": {"key": b"k", "range_end": b"l", "count_only": True}}
        put = {"request_put": {"key": b"y", "value": b""}}
        assert (await node.refused("kv/txn", success=[whole, put]))[:2] == (429, 8)
        slot = node.replica.state.applied_through
        done = await node.ok("kv/txn", success=[whole] * 32)
        counts = {each["response_range"]["count"] for each in done["responses"]}
        assert counts == {"101"}
        assert node.replica.state.applied_through == slot
        half = {"key": b"k0", "range_end": b"k00050"}  # what is deleted counts twice
        assert (await node.ok("kv/deleterange", **half))["deleted"] == "50"

    on_node(tmp_path, test)
