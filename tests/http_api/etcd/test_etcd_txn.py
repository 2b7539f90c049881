"""kv/txn of etcd's API on a real replica."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd_node import (
    DUPLICATE,
    IN_FUTURE,
    KEY_MISSING,
    KEY_UNKNOWN,
    NO_LEASE,
    TOO_MANY,
    EtcdNode,
    delete_op,
    error_of,
    kv,
    on_node,
    put_op,
    range_op,
    revision,
    without_header,
)


def test_txn_branches_and_answers(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"k", value=b"1")
        request = {
            "compare": [{"key": b"k", "target": "VALUE", "result": "EQUAL", "value": b"1"}],
            "success": [
                range_op(b"k"),
                put_op(b"k", b"2", prev_kv=True),
                range_op(b"k"),
                delete_op(b"nothing"),
            ],
            "failure": [delete_op(b"k")],
        }
        done = await node.ok("kv/txn", **request)
        before, after = {"header": {"revision": "2"}}, {"header": {"revision": "3"}}
        assert revision(done) == 3 and done["succeeded"] is True
        old, new = kv(b"k", b"1", 2, 2, 1), kv(b"k", b"2", 2, 3, 2)
        assert done["responses"] == [
            {"response_range": {**before, "kvs": [old], "count": "1"}},
            {"response_put": {**after, "prev_kv": old}},
            {"response_range": {**after, "kvs": [new], "count": "1"}},
            {"response_delete_range": after},
        ]
        failed = await node.ok("kv/txn", **request)
        assert revision(failed) == 4 and "succeeded" not in failed
        deleted = {"header": {"revision": "4"}, "deleted": "1"}
        assert failed["responses"] == [{"response_delete_range": deleted}]
        unmet = await node.ok("kv/txn", compare=[{"key": b"k", "version": 5}])
        assert unmet.keys() == {"header"}
        assert without_header(await node.ok("kv/txn")) == {"succeeded": True}
        read = await node.ok("kv/txn", success=[range_op(b"k")])
        assert revision(read) == 4

    on_node(tmp_path, test)


def nested(depth: int) -> bytes:
    """So many transactions around an empty one."""
    return b'{"success":[{"request_txn":' * depth + b"{}" + b"}]}" * depth


def test_txn_nested(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        # All compares look at the state before the transaction.
        inner = {"compare": [{"key": b"a", "version": 0}], "success": [put_op(b"b")]}
        done = await node.ok("kv/txn", success=[put_op(b"a"), {"requestTxn": inner}])
        assert done["responses"][1]["response_txn"] == {
            "header": {},
            "succeeded": True,
            "responses": [{"response_put": {"header": {"revision": "2"}}}],
        }
        deepest = await node.raw("/v3/kv/txn", nested(128))
        assert deepest.status == 200 and deepest.body.count(b'"succeeded":true') == 129
        assert error_of(await node.raw("/v3/kv/txn", nested(129))) == TOO_MANY
        assert revision(await node.ok("kv/range", key=b"a")) == 2

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        ({"key": b"k", "version": "2"}, True),
        ({"key": b"k", "target": "VERSION", "version": 1, "result": "GREATER"}, True),
        ({"key": b"k", "target": 1, "create_revision": 2}, True),
        ({"key": b"k", "target": "CREATE", "createRevision": "3", "result": "LESS"}, True),
        ({"key": b"k", "target": "MOD", "mod_revision": "3"}, True),
        ({"key": b"k", "target": "MOD", "version": "3"}, False),
        ({"key": b"k", "target": "MOD", "version": "3", "result": "GREATER"}, True),
        ({"key": b"k", "target": "VALUE", "value": b"w", "result": "LESS"}, True),
        ({"key": b"k", "target": "VALUE", "result": "NOT_EQUAL"}, True),
        ({"key": b"k", "target": "LEASE", "lease": "0"}, True),
        ({"key": b"k", "target": "LEASE", "lease": "7"}, False),
        ({"key": b"none", "target": "CREATE"}, True),
        ({"key": b"none", "target": "VERSION", "result": 3}, False),
        ({"key": b"none", "target": "LEASE"}, True),
        ({"key": b"none", "target": "VALUE", "value": b"", "result": "EQUAL"}, False),
        ({"key": b"none", "target": "VALUE", "value": b"x", "result": "NOT_EQUAL"}, False),
        ({"key": b"none", "target": "VALUE", "value": b"x", "result": "LESS"}, False),
        ({"key": b"k", "range_end": b"m", "version": 1, "result": 1}, False),
        ({"key": b"k", "range_end": b"m", "version": 0, "result": 1}, True),
        ({"key": b"x", "range_end": b"z", "version": 0}, True),
        ({"key": b"k" * 1000, "version": 0}, True),
    ],
)
def test_txn_compares(tmp_path: Path, compare: dict[str, Any], holds: bool) -> None:
    async def test(node: EtcdNode) -> None:
        for key in (b"k", b"k", b"l"):
            await node.ok("kv/put", key=key, value=b"v")
        done = await node.ok("kv/txn", compare=[compare])
        assert done.get("succeeded", False) is holds

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"compare": [{}]}, KEY_MISSING),
        ({"compare": [None]}, KEY_MISSING),
        ({"success": [{}]}, KEY_UNKNOWN),
        ({"failure": [None]}, KEY_UNKNOWN),
        ({"success": [{"request_frob": {}}]}, KEY_UNKNOWN),
        ({"success": [{"request_txn": {"success": [{}]}}]}, KEY_UNKNOWN),
        ({"success": [range_op(b"")]}, KEY_MISSING),
        ({"failure": [put_op(b"")]}, KEY_MISSING),
        ({"success": [delete_op(b"")]}, KEY_MISSING),
        ({"success": [put_op(b"k", b"v", ignore_value=True)]}, "value is provided"),
        ({"success": [put_op(b"k"), put_op(b"k")]}, DUPLICATE),
        ({"failure": [put_op(b"k"), delete_op(b"a", range_end=b"z")]}, DUPLICATE),
        ({"success": [put_op(b"k"), {"request_txn": {"failure": [put_op(b"k")]}}]}, DUPLICATE),
        ({"success": [range_op(b"k")] * 129}, TOO_MANY),
        ({"compare": [{"key": b"k"}] * 129}, TOO_MANY),
        ({"success": [range_op(b"")] * 129}, TOO_MANY),
        ({"success": [put_op(b"a"), put_op(b"k", lease=9)]}, NO_LEASE),
        ({"success": [put_op(b"a"), put_op(b"k", ignore_value=True)]}, KEY_UNKNOWN),
        ({"success": [put_op(b"a"), range_op(b"k", revision=99)]}, IN_FUTURE),
        (
            {"success": [{**put_op(b"a"), **range_op(b"k")}]},
            "more than one request in an operation",
        ),
    ],
)
def test_txn_refused(tmp_path: Path, request_: dict[str, Any], error: Any) -> None:
    async def test(node: EtcdNode) -> None:
        wanted = (400, 3, f"etcdserver: {error}") if isinstance(error, str) else error
        assert await node.refused("kv/txn", **request_) == wanted
        everything = await node.ok("kv/range", key=b"\0", range_end=b"\0")
        assert everything.keys() == {"header"} and revision(everything) == 1

    on_node(tmp_path, test)


def test_txn_of_the_largest_size(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        puts = [put_op(b"%d" % number) for number in range(128)]
        done = await node.ok("kv/txn", success=puts, failure=puts, compare=[{"key": b"x"}] * 128)
        assert revision(done) == 2 and len(done["responses"]) == 128
        twice = [delete_op(b"1"), delete_op(b"0", range_end=b"9")]
        done = await node.ok("kv/txn", success=twice)
        deleted = [each["response_delete_range"]["deleted"] for each in done["responses"]]
        assert deleted[0] == "1" and revision(done) == 3

    on_node(tmp_path, test)
