"""The fast lane and the lane to aiohttp give the same answers, in order, and know their limits."""

import asyncio

import pytest

from http_api.fast_lane import _NO_BODY, _NOT_OURS, WAITING_BYTES_MAX, body_length
from kvstore.errors import NoQuorum
from tests.support.raw_http import connect, request

PLAIN = b"Host: a:1\r\nUser-Agent: x\r\nAccept: */*"


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (PLAIN, _NO_BODY),
        (PLAIN + b"\r\ncontent-length: 12", 12),
        (PLAIN + b"\r\nContent-Length: 12\r\nContent-Length: 12", _NOT_OURS),
        (PLAIN + b"\r\nContent-Length: +12", _NOT_OURS),
        (PLAIN + b"\r\nContent-Length: ", _NOT_OURS),
        (PLAIN + b"\r\nTransfer-Encoding: chunked", _NOT_OURS),
        (PLAIN + b"\r\nConnection: keep-alive", _NO_BODY),
        (PLAIN + b"\r\nConnection: close", _NOT_OURS),
        (PLAIN + b"\r\nExpect: 100-continue", _NOT_OURS),
        (PLAIN + b'\r\nIf-Match: "1"', _NOT_OURS),
        (PLAIN + b"\r\nIdempotency-Key: k", _NOT_OURS),
        (PLAIN + b"\r\n folded", _NOT_OURS),
        (b"Host : a", _NOT_OURS),
        (b"Accept: */*", _NOT_OURS),
        (PLAIN + b"\r\nHost: a:1", _NOT_OURS),
        (PLAIN + b"\r\nhost: b", _NOT_OURS),
        (b"Host: a\nContent-Length: 5", _NOT_OURS),
        (b"Host: a\x00", _NOT_OURS),
    ],
)
def test_only_harmless_headers_are_taken(headers, length):
    assert body_length(headers) == length


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nHost: b\r\n"])
def test_a_request_names_one_host_in_both_lanes(server, hosts):
    async def run():
        async with server() as served:
            statuses = []
            for odd in (b"", b"X-Odd: 1\r\n"):
                async with connect(served.address) as c:
                    await c.send(b"GET /v1/kv/k HTTP/1.1\r\n%s%s\r\n" % (hosts, odd))
                    statuses.append(await c.status())
            assert statuses == [400, 400]

    asyncio.run(run())


def test_both_lanes_give_the_same_answers(server):
    async def run():
        async with (
            server() as served,
            connect(served.address) as fast,
            connect(served.address) as slow,
        ):
            odd = {"X-Odd": "1"}
            assert (await slow.call("GET", "/healthz")).status == 200  # aiohttp's from here on
            for key in ("plain", "a/b", "%00%ff", "%zz", "k" * 961):
                for method, body in (("GET", b""), ("PUT", b"v"), ("GET", b"")):
                    one = await fast.call(method, f"/v1/kv/{key}", body=body)
                    assert one.status in (200, 400, 404)
                    two = await slow.call(method, f"/v1/kv/{key}", odd, body)
                    assert one.status == two.status
                    assert one.headers.keys() == two.headers.keys()
                    if method == "GET" or one.status != 200:
                        assert one.body == two.body or one.status == 200
            assert len(served.http._lanes.open) == 1, "the one connection stayed in its lane"

    asyncio.run(run())


def test_a_connection_moves_over_with_what_waits(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.send(
                request("PUT", "/v1/kv/a", body=b"1")
                + request("GET", "/v1/kv/a")
                + request("GET", "/v1/kv?prefix=a")
                + request("PUT", "/v1/kv/a", {"If-None-Match": "*"}, b"2")
                + request("GET", "/v1/kv/a")
            )
            assert [(await c.reply()).status for _ in range(5)] == [200, 200, 200, 412, 200]
            assert not served.http._lanes.open

    asyncio.run(run())


def test_requests_that_arrive_in_pieces(server):
    async def run():
        async with server() as served:
            whole = request("PUT", "/v1/kv/a", body=b"1234567890")
            for cut in (3, 20, len(whole) - 4):
                async with connect(served.address) as c:
                    await c.send(whole[:cut])
                    await asyncio.sleep(0)
                    await c.send(whole[cut:])
                    assert (await c.reply()).status == 200

    asyncio.run(run())


def test_thousands_of_pipelined_requests(server):
    """More than a recursion could hold, and more than may wait: the socket is paused."""

    async def run():
        async with server() as served, connect(served.address) as c:
            count = 4 * WAITING_BYTES_MAX // len(request("GET", "/v1/kv/a"))
            sending = asyncio.create_task(c.send(request("GET", "/v1/kv/a") * count))
            for _ in range(count):
                assert (await c.reply()).status == 404
            await sending

    asyncio.run(run())


def test_errors_refused_at_once_and_later(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.fails_with = NoQuorum("nobody there")
            many = request("PUT", "/v1/kv/a", body=b"1") * 3 + request("GET", "/v1/kv/a") * 3
            await c.send(many)
            for _ in range(6):
                reply = await c.reply()
                assert reply.status == 503 and reply.headers["retry-after"] == "1"
                assert reply.json()["outcome"] == "not-applied"

    asyncio.run(run())
