"""What the calls do when all is well."""

import asyncio

import pytest

from http_api.core import responses
from http_api.v1 import kv
from kvstore.commands.operations import KeyValue
from tests.support.raw_http import connect


def test_put_get_delete(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await c.call("PUT", "/v1/kv/k", body=b"one")
            assert reply.json() == {"revision": 2, "version": 1}
            assert reply.headers["etag"] == '"2"'
            await c.call("PUT", "/v1/kv/k", body=b"two")
            reply = await c.call("GET", "/v1/kv/k")
            assert (reply.status, reply.body) == (200, b"two")
            assert reply.headers["content-type"] == "application/octet-stream"
            assert reply.headers["etag"] == '"3"'
            assert reply.headers["x-create-revision"] == "2"
            assert reply.headers["x-version"] == "2"
            assert "date" in reply.headers
            head = await c.call("HEAD", "/v1/kv/k")
            assert (head.status, head.headers["content-length"], head.body) == (200, "3", b"")
            assert head.headers["etag"] == '"3"'
            assert (await c.call("GET", "/v1/kv/k?revision=2")).body == b"one"
            assert (await c.call("DELETE", "/v1/kv/k")).json() == {"revision": 4, "deleted": 1}
            assert (await c.call("DELETE", "/v1/kv/k")).json() == {"revision": 4, "deleted": 0}
            assert (await c.call("GET", "/v1/kv/k")).status == 404
            assert (await c.call("HEAD", "/v1/kv/k")).status == 404
            assert (await c.call("GET", "/v1/kv/k?revision=3")).body == b"two"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("a/b/c", b"a/b/c"),
        ("a//b/", b"a//b/"),
        ("/", b"/"),
        ("..", b".."),
        ("a/../b", b"a/../b"),
        ("%00", b"\0"),
        ("%00%ff%fE", b"\0\xff\xfe"),
        ("a%2Fb", b"a/b"),
        ("a%3Fb?timeout=1", b"a?b"),
        ("a+b", b"a+b"),
        ("a%20b", b"a b"),
        ("%25", b"%"),
        ("a&b=c", b"a&b=c"),
        ("%C3%A9", "é".encode()),
    ],
)
def test_keys_are_bytes(target, key, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            value = bytes(range(256))
            assert (await c.call("PUT", f"/v1/kv/{target}", body=value)).status == 200
            assert served.replica.keys == [key]
            assert (await c.call("GET", f"/v1/kv/{target}")).body == value

    asyncio.run(run())


def test_absolute_target(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.call("PUT", "/v1/kv/%C3%A9", body=b"v")
            assert (await c.call("GET", "http://test/v1/kv/%C3%A9")).body == b"v"

    asyncio.run(run())


def test_empty_value(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            assert (await c.call("PUT", "/v1/kv/k")).status == 200
            reply = await c.call("GET", "/v1/kv/k")
            assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")

    asyncio.run(run())


def test_conditions(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            steps = [
                ("PUT", {"If-None-Match": "*"}, 200),
                ("PUT", {"If-None-Match": "*"}, 412),
                ("PUT", {"If-Match": '"2"'}, 200),
                ("PUT", {"If-Match": '"2"'}, 412),
                ("PUT", {"If-Match": "*"}, 200),
                ("GET", {"If-None-Match": '"4"'}, 304),
                ("GET", {"If-None-Match": 'W/"4"'}, 304),
                ("GET", {"If-None-Match": '"3", "4"'}, 304),
                ("HEAD", {"If-None-Match": "*"}, 304),
                ("GET", {"If-None-Match": '"3"'}, 200),
                ("GET", {"If-Match": '"3", "4"'}, 200),
                ("GET", {"If-Match": 'W/"4"'}, 412),
                ("DELETE", {"If-Match": '"3"'}, 412),
                ("DELETE", {"If-Match": '"4"'}, 200),
                ("DELETE", {"If-Match": "*"}, 412),
                ("DELETE", {"If-None-Match": "*"}, 200),
                ("GET", {"If-None-Match": "*"}, 404),
            ]
            for method, headers, status in steps:
                body = b"v" if method == "PUT" else b""
                reply = await c.call(method, "/v1/kv/k", headers, body)
                assert reply.status == status, (method, headers, reply)

    asyncio.run(run())


def test_idempotency_key(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            headers = {"Idempotency-Key": "once"}
            first = await c.call("PUT", "/v1/kv/k", headers, b"v")
            again = await c.call("PUT", "/v1/kv/k", headers, b"v")
            assert first.json() == again.json() == {"revision": 2, "version": 1}
            assert (await c.call("DELETE", "/v1/kv/k", headers)).status == 422

    asyncio.run(run())


def test_timeouts(server):
    async def run():
        async with server(request_timeout_s=3.0) as served, connect(served.address) as c:
            await c.call("PUT", "/v1/kv/k", body=b"v")
            await c.call("GET", "/v1/kv/k?timeout=0.25")
            await c.call("DELETE", "/v1/kv/k?timeout=60")
            assert served.replica.timeouts == [3.0, 0.25, 60.0]

    asyncio.run(run())


def test_old_revisions_need_no_quorum(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.call("PUT", "/v1/kv/k", body=b"v")
            barriers = len(served.replica.timeouts)
            assert (await c.call("GET", "/v1/kv/k?revision=2")).body == b"v"
            assert len(served.replica.timeouts) == barriers
            assert (await c.call("GET", "/v1/kv/k?revision=9")).status == 400
            assert len(served.replica.timeouts) == barriers + 1, "it may exist elsewhere already"

    asyncio.run(run())


def test_a_value_without_a_lease_is_answered_as_the_general_form_would():
    found = KeyValue(b"k", b"value", 2, 30, 4, 0)
    whole = responses.answer(200, found.value, kv._OCTETS, kv._value_headers(found))
    assert kv.value_answer(found).keeping() == whole.keeping()
