"""Transactions: every compare, every operation, what is refused, and that it is one revision."""

import asyncio
import json

import pytest

from http_api.v1.txn import DEPTH_MAX, TXN_BYTES_MAX
from kvstore.commands.commands import Compact, Delete, Grant, Put
from tests.support.raw_http import connect


async def txn(c, document, headers=None):
    return await c.call("POST", "/v1/txn", headers, json.dumps(document).encode())


def put(key, value="v", **more):
    return {"put": {"key": key, "value": value, **more}}


def fill(served):
    """k: created 2, modified 3, version 2, value b, lease 7; l: 4, 4, 1, b."""
    apply = served.replica.apply
    apply(Grant(7, 60), Put(b"k", b"a"), Put(b"k", b"b", lease=7), Put(b"l", b"b"))


COMPARES = [
    ("k", "value", {"=": "b", "!=": "a", "<": "c", ">": "a"}),
    ("k", "version", {"=": 2, "!=": 3, "<": 3, ">": 1}),
    ("k", "create_revision", {"=": 2, "!=": 3, "<": 3, ">": 1}),
    ("k", "mod_revision", {"=": 3, "!=": 2, "<": 4, ">": 2}),
    ("k", "lease", {"=": "7", "!=": "8", "<": "8", ">": "6"}),
    ("l", "lease", {"=": 0, "!=": 1, "<": 1, ">": -1}),
    ("none", "version", {"=": 0, "!=": 1, "<": 1, ">": -1}),
    ("none", "create_revision", {"=": 0, "!=": 1, "<": 1, ">": -1}),
]
FALSE = [
    ("k", "value", {"=": "a", "!=": "b", "<": "b", ">": "b"}),
    ("k", "version", {"=": 1, "!=": 2, "<": 2, ">": 2}),
    ("k", "create_revision", {"=": 3, "!=": 2, "<": 2, ">": 2}),
    ("k", "mod_revision", {"=": 2, "!=": 3, "<": 3, ">": 3}),
    ("k", "lease", {"=": 8, "!=": 7, "<": 7, ">": 7}),
    ("none", "value", {"=": "", "!=": "x", "<": "x", ">": ""}),
    ("none", "mod_revision", {"=": 1, "!=": 0, "<": 0, ">": 0}),
]


def test_compares(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            fill(served)
            for cases, expected in ((COMPARES, True), (FALSE, False)):
                for key, field, operands in cases:
                    for op, operand in operands.items():
                        compare = {"key": key, "field": field, "op": op, "operand": operand}
                        found = (await txn(c, {"compare": [compare]})).json()
                        assert found["succeeded"] is expected, compare
            assert served.replica.state.revision == 4

    asyncio.run(run())


@pytest.mark.parametrize(
    ("span", "field", "operand", "holds"),
    [
        ({"prefix": ""}, "value", "b", True),
        ({"prefix": ""}, "version", 2, False),
        ({"start": "k", "end": "l"}, "version", 2, True),
        ({"start": "l"}, "version", 1, True),
        ({"prefix": "none"}, "version", 0, True),
        ({"prefix": "none"}, "value", "b", False),
        ({"key_base64": "aw=="}, "value", "b", True),
    ],
)
def test_compares_of_ranges_hold_for_every_key(span, field, operand, holds, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            fill(served)
            compare = {**span, "field": field, "operand": operand}
            assert (await txn(c, {"compare": [compare]})).json()["succeeded"] is holds
            both = [compare, {"key": "k", "field": "version", "operand": 2}]
            assert (await txn(c, {"compare": both})).json()["succeeded"] is holds

    asyncio.run(run())


def test_every_operation_in_one_revision(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            fill(served)
            document = {
                "compare": [{"key": "l", "field": "value", "operand_base64": "Yg=="}],
                "then": [
                    put("new"),
                    {"get": {"prefix": "", "keys_only": True}},
                    put("k", "c", previous=True),
                    {"delete": {"key": "l", "previous": True}},
                    {"delete": {"prefix": "nothing/"}},
                    {"txn": {"compare": [{"key": "l", "field": "version", "operand": 1}],
                             "then": [put("inner")], "else": [put("never")]}},
                ],
                "else": [put("never")],
            }  # fmt: skip
            found = (await txn(c, document)).json()
            assert (found["succeeded"], found["revision"]) == (True, 5)
            new, got, second, deleted, nothing, inner = found["results"]
            assert new == {"put": {"revision": 5, "version": 1}}
            assert [item["key"] for item in got["get"]["items"]] == ["k", "l", "new"]
            assert all("value" not in item for item in got["get"]["items"])
            assert second["put"]["version"] == 3
            assert second["put"]["previous"] == {
                "key": "k", "value": "b", "create_revision": 2, "mod_revision": 3, "version": 2,
                "lease": "7",
            }  # fmt: skip
            assert deleted["delete"]["deleted"] == 1
            assert deleted["delete"]["previous"][0]["key"] == "l"
            assert nothing == {"delete": {"deleted": 0}}
            assert inner["txn"]["succeeded"] is True
            assert inner["txn"]["results"] == [{"put": {"revision": 5, "version": 1}}]
            assert served.replica.keys == [b"inner", b"k", b"new"]
            assert served.replica.state.get(b"k").lease == 0

    asyncio.run(run())


def test_a_put_may_keep_the_value_or_the_lease(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            fill(served)
            keep_value = {"put": {"key": "k", "keep_value": True}}
            await txn(c, {"then": [keep_value]})
            found = served.replica.state.get(b"k")
            assert (found.value, found.lease, found.version) == (b"b", 0, 3)
            await txn(c, {"then": [put("k", "c", lease="7")]})
            await txn(c, {"then": [put("k", "d", keep_lease=True)]})
            found = served.replica.state.get(b"k")
            assert (found.value, found.lease, found.version) == (b"d", 7, 5)
            for absent in ({"key": "none", "keep_value": True},
                           {"key": "none", "value": "", "keep_lease": True}):  # fmt: skip
                reply = await txn(c, {"then": [put("other"), {"put": absent}]})
                assert (reply.status, reply.json()["type"]) == (404, "/problems/key-not-found")
            assert served.replica.keys == [b"k", b"l"], "the whole is undone"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("get", "keys", "count", "more"),
    [
        ({"prefix": ""}, ["a", "b", "c", "d"], 4, False),
        ({"prefix": "", "limit": 2}, ["a", "b"], 4, True),
        ({"start": "b", "end": "d", "descending": True}, ["c", "b"], 2, False),
        ({"prefix": "", "sort_by": "value"}, ["d", "c", "b", "a"], 4, False),
        ({"prefix": "", "sort_by": "version", "descending": True, "limit": 1}, ["a"], 4, True),
        ({"prefix": "", "sort_by": "mod_revision"}, ["b", "c", "d", "a"], 4, False),
        ({"prefix": "", "sort_by": "create_revision"}, ["a", "b", "c", "d"], 4, False),
        ({"prefix": "", "count_only": True}, [], 4, False),
        ({"prefix": "", "revision": 3}, ["a", "b"], 2, False),
        ({"prefix": "", "min_mod_revision": 4, "max_mod_revision": 5}, ["c", "d"], 4, False),
        ({"prefix": "", "max_create_revision": 3}, ["a", "b"], 4, False),
        ({"prefix": "", "min_create_revision": 5}, ["d"], 4, False),
        ({"key": "none"}, [], 0, False),
    ],
)
def test_gets(get, keys, count, more, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            for key, value in (b"a4", b"b3", b"c2", b"d1", b"a4"):
                served.replica.apply(Put(bytes((key,)), bytes((value,))))
            found = (await txn(c, {"then": [{"get": get}]})).json()["results"][0]["get"]
            assert [item["key"] for item in found["items"]] == keys
            assert (found["count"], found["more"]) == (count, more)

    asyncio.run(run())


def nested(depth):
    return {"then": [{"txn": nested(depth - 1)}]} if depth > 1 else {"then": [put("deep")]}


INVALID, CONTRADICTION = "invalid-argument", "contradiction"
BAD = [
    ({"compare": 1}, INVALID, "Expected `array`"),
    ({"unknown": []}, INVALID, "unknown"),
    ({"then": [{}]}, CONTRADICTION, "exactly one"),
    ({"then": [{"put": {"key": "a", "value": ""}, "get": {"key": "a"}}]}, CONTRADICTION, "one of"),
    ({"then": [{"put": {"key": "a"}}]}, CONTRADICTION, "keep_value"),
    ({"then": [put("a", keep_value=True)]}, CONTRADICTION, "not both"),
    ({"then": [put("a", lease="7", keep_lease=True)]}, CONTRADICTION, "not both"),
    ({"then": [put("a", lease="seven")]}, INVALID, "lease"),
    ({"then": [put("a", lease=0)]}, INVALID, "lease"),
    ({"then": [put("")]}, INVALID, "empty"),
    ({"then": [put("k" * 961)]}, INVALID, "961 bytes"),
    ({"then": [put("a", value_base64="Yg==")]}, CONTRADICTION, "not both"),
    ({"then": [{"put": {"key": "a", "value_base64": "Yg"}}]}, INVALID, "base64"),
    ({"then": [{"put": {"key_base64": "\u00e9", "value": ""}}]}, INVALID, "base64"),
    ({"then": [{"get": {}}]}, CONTRADICTION, "one of"),
    ({"then": [{"get": {"key": "a", "prefix": "a"}}]}, CONTRADICTION, "one of"),
    ({"then": [{"get": {"start": "b", "end": "a"}}]}, CONTRADICTION, "greater than start"),
    ({"then": [{"get": {"key": "a", "limit": 0}}]}, INVALID, "limit"),
    ({"then": [{"get": {"key": "a", "limit": 1001}}]}, INVALID, "limit"),
    ({"then": [{"get": {"key": "a", "revision": -1}}]}, INVALID, "revision"),
    ({"then": [{"get": {"key": "a", "revision": 99}}]}, "revision-in-future", "future"),
    ({"then": [{"get": {"key": "a", "sort_by": "size"}}]}, INVALID, "sort_by"),
    ({"then": [put("a"), put("a")]}, "duplicate-key", "once"),
    ({"then": [put("a"), {"delete": {"prefix": ""}}]}, "duplicate-key", "once"),
    ({"then": [put("a"), {"txn": {"else": [put("a")]}}]}, "duplicate-key", "once"),
    ({"then": [put(str(n)) for n in range(129)]}, "too-many-operations", "128"),
    ({"else": [put(str(n)) for n in range(129)]}, "too-many-operations", "128"),
    ({"compare": [{"key": "a", "field": "version", "operand": 1}] * 129},
     "too-many-operations", "128"),
    ({"compare": [{"key": "a", "field": "size", "operand": 1}]}, INVALID, "field"),
    ({"compare": [{"key": "a", "field": "version", "operand": "1"}]}, INVALID, "number"),
    ({"compare": [{"key": "a", "field": "version"}]}, INVALID, "number"),
    ({"compare": [{"key": "a", "field": "value", "operand": 1}]}, INVALID, "string"),
    ({"compare": [{"key": "a", "field": "value"}]}, INVALID, "missing"),
    ({"compare": [{"key": "a", "field": "version", "operand_base64": ""}]},
     CONTRADICTION, "values"),
    ({"compare": [{"key": "a", "field": "value", "op": "~", "operand": ""}]}, INVALID, "op"),
    ({"compare": [{"field": "version", "operand": 1}]}, CONTRADICTION, "one of"),
    (nested(DEPTH_MAX + 1), INVALID, "deep"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "slug", "says"), BAD)
def test_bad_transactions_change_nothing(document, slug, says, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await txn(c, document)
            assert reply.status == 400, reply
            assert reply.json()["type"] == f"/problems/{slug}"
            assert says in reply.json()["detail"]
            assert served.replica.state.revision == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"{}x", "malformed"),
        (b'{"then":[{"put":{"key":"\xff","value":""}}]}', "malformed"),
        (b'{"then":[{"put":{"key":"\\ud800","value":""}}]}', "malformed"),
        (b"[]", INVALID),
        (b'{"then":' + b'[{"txn":{"then":' * 5000, "malformed"),
    ],
)
def test_bad_json(body, slug, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await c.call("POST", "/v1/txn", body=body)
            assert (reply.status, reply.json()["type"]) == (400, f"/problems/{slug}")

    asyncio.run(run())


def test_what_only_the_state_can_refuse(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await txn(c, {"then": [put("a"), put("b", lease="9")]})
            assert (reply.status, reply.json()["type"]) == (404, "/problems/lease-not-found")
            assert "lease 9" in reply.json()["detail"]
            served.replica.apply(Put(b"k", b"1"), Put(b"k", b"2"), Delete(b"k"), Compact(4))
            reply = await txn(c, {"then": [put("a"), {"get": {"key": "k", "revision": 3}}]})
            assert (reply.status, reply.json()["compacted_revision"]) == (410, 4)
            assert served.replica.keys == []

    asyncio.run(run())


def test_size_is_bounded(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await txn(c, {"then": [put("a", "v" * ((1 << 20) + 1))]})
            assert (reply.status, reply.json()["parameter"]) == (400, "value")
            reply = await c.call("POST", "/v1/txn", body=b" " * (TXN_BYTES_MAX + 1))
            assert reply.status == 413
        async with server() as served, connect(served.address) as c:
            assert (await txn(c, nested(DEPTH_MAX))).status == 200
            largest = [put(str(n)) for n in range(128)]
            assert (await txn(c, {"then": largest})).json()["revision"] == 3

    asyncio.run(run())


def test_idempotency_key(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            document = {"compare": [{"key": "k", "field": "version", "operand": 0}],
                        "then": [put("k")], "else": [put("never")]}  # fmt: skip
            headers = {"Idempotency-Key": "once"}
            first = await txn(c, document, headers)
            again = await txn(c, document, headers)
            assert first.json() == again.json()
            assert first.json()["succeeded"] is True
            assert (await txn(c, {}, headers)).status == 422
            assert served.replica.keys == [b"k"]

    asyncio.run(run())
