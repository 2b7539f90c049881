"""The fast lane and the lane to aiohttp give the same answers, in order, and know their limits."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from http_api.fast_lane import lane as fast_lane
from http_api.fast_lane.hot_requests import _NO_BODY, _NOT_OURS, read_headers
from http_api.fast_lane.lane import WAITING_BYTES_MAX
from kvstore.commands.commands import Grant, Put
from kvstore.errors import NoQuorum
from tests.support.raw_http import WAIT_S, connect, request

PLAIN = b"Host: a:1\r\nUser-Agent: x\r\nAccept: */*"


def any_host(host: str) -> bool:
    return True


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


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
    assert read_headers(headers, any_host) == (length, "")


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (b"authorization: Bearer x.y ", (_NO_BODY, "Bearer x.y")),
        (b"Authorization:x.y\r\nContent-Length: 3", (3, "x.y")),
        (b"Authorization: ", (_NOT_OURS, "")),
        (b"Authorization: a\r\nAuthorization: a", (_NOT_OURS, "")),
        (b"Grpc-Metadata-Token: x.y", (_NOT_OURS, "")),
    ],
)
def test_who_sends_a_request_is_read_from_one_header(header, read):
    assert read_headers(PLAIN + b"\r\n" + header, any_host) == read


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
            etcd = request("POST", "/v3/kv/put", body=b'{"key":"YQ=="}')
            for whole in (request("PUT", "/v1/kv/a", body=b"1234567890"), etcd):
                async with connect(served.address) as c:
                    for cut in range(1, len(whole)):
                        await c.send(whole[:cut])
                        await asyncio.sleep(0.001)
                        await c.send(whole[cut:])
                        assert (await c.reply()).status == 200
                    assert len(served.http._lanes.open) == 1, "it stayed in its lane"
                    assert served.http._lanes.parts == 0

    asyncio.run(run())


def test_a_stream_of_requests_stays_in_its_lane_wherever_it_is_cut(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            kinds = (
                request("PUT", "/v1/kv/a", body=b"1" * 100),
                request("GET", "/v1/kv/a"),
                request("POST", "/v3/kv/range", body=b'{"key":"YQ=="}'),
            )
            stream = b"".join(kinds) * 40
            for at in range(0, len(stream), 97):
                await c.send(stream[at : at + 97])
                await asyncio.sleep(0)
            assert [(await c.reply()).status for _ in range(120)] == [200] * 120
            assert len(served.http._lanes.open) == 1

    asyncio.run(run())


def test_the_rest_of_a_request_is_not_waited_for_long(server, monkeypatch):
    monkeypatch.setattr(fast_lane, "REST_S", 0.02)

    async def run():
        async with server() as served:
            for whole, cut in (
                (request("PUT", "/v1/kv/a", body=b"1234567890"), 10),
                (request("PUT", "/v1/kv/a", body=b"1234567890"), -3),
            ):
                async with connect(served.address) as c:
                    await c.send(whole[:cut])
                    await until(lambda: served.http._server.connections)
                    assert not served.http._lanes.open
                    await c.send(whole[cut:])
                    assert (await c.reply()).status == 200
                    assert served.http._lanes.parts == 0
                await until(lambda: not served.http._server.connections)

    asyncio.run(run())


@pytest.mark.parametrize(
    "part",
    [
        b"GET /v1/kv/a HTTP/1.1\nHost: a\n\n",
        b"GET /v1/kvs HTTP/1.1\r\n",
        b"PATCH /v1/kv/a HT",
        b"PUT /v1/kv/a HTTP/1.1\r\n" + b"x: y\r\n" * 2000,
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n1",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nX-Odd: 1\r\n\r\n1",
    ],
)
def test_what_is_not_waited_for(server, part):
    async def run():
        async with server() as served, connect(served.address) as c:
            lanes, handed = served.http._lanes, []
            lanes.hand_over = lambda ended: handed.append(part) or served.http._server()
            await c.send(part)
            await until(lambda: handed or lanes.parts)
            assert handed and not lanes.parts and not lanes.open

    asyncio.run(run())


def test_not_too_many_wait_for_the_rest(server):
    async def run():
        async with server(pending_bytes_max=2 << 20) as served, AsyncExitStack() as stack:
            lanes = served.http._lanes
            lanes.parts_max = 2
            for _ in range(3):
                c = await stack.enter_async_context(connect(served.address))
                await c.send(b"PUT /v1/kv/a HT")
            await until(lambda: served.http._server.connections)
            await until(lambda: lanes.parts == 2)
            assert (lanes.parts, len(lanes.open)) == (2, 2)
            await stack.aclose()
            await until(lambda: not lanes.open)
            assert lanes.parts == 0

    asyncio.run(run())


def test_a_stop_waits_for_the_rest(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            whole = request("PUT", "/v1/kv/a", body=b"1234567890")
            await c.send(whole[:-3])
            await until(lambda: served.http._lanes.parts)
            stopping = asyncio.create_task(served.http.stop())
            await until(lambda: served.http._lanes.stopping)
            await c.send(whole[-3:])
            reply = await c.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            await stopping

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


# -- pipelined requests ---------------------------------------------------------------------

ETCD_RANGE = request("POST", "/v3/kv/range", body=b'{"key":"YQ=="}')


def test_who_has_closed_its_side_gets_its_answers_and_then_the_end(server, monkeypatch):
    """Not only once it has been idle for long."""
    ended = []
    real = fast_lane.FastLane.eof_received
    monkeypatch.setattr(
        fast_lane.FastLane, "eof_received", lambda lane: ended.append(lane) or real(lane)
    )

    async def run():
        async with server() as served, connect(served.address) as c:
            gate = asyncio.Event()
            served.replica._barrier = lambda timeout_s: gate.wait()
            await c.send(request("GET", "/v1/kv/k") + request("PUT", "/v1/kv/k", body=b"1"))
            c.end()
            await until(lambda: ended)
            gate.set()
            assert [(await c.reply()).status for _ in range(2)] == [404, 200]
            began = asyncio.get_running_loop().time()
            assert await c.ended() == b""
            assert asyncio.get_running_loop().time() - began < WAIT_S / 2
            await until(lambda: not served.http._connections())

    asyncio.run(run())


@pytest.mark.parametrize(
    ("later", "statuses"),
    [
        (request("GET", "/healthz"), [200]),
        (request("GET", "/healthz") + request("PUT", "/v1/kv/k", body=b"1") * 40, [200] * 41),
        (request("GET", "/v1/watch?prefix=a"), []),
        (request("GET", "/healthz")[:-2], []),
    ],
)
def test_who_has_closed_its_side_is_let_go_by_aiohttp_too(server, monkeypatch, later, statuses):
    """What comes behind a request in work goes to aiohttp, which does not know of the end. There
    the end is a hang-up to an answer without an end."""
    monkeypatch.setattr(fast_lane, "REST_S", 0.05)
    ended = []
    real = fast_lane.FastLane.eof_received
    monkeypatch.setattr(
        fast_lane.FastLane, "eof_received", lambda lane: ended.append(lane) or real(lane)
    )

    async def run():
        async with server() as served, connect(served.address) as c:
            gate = asyncio.Event()
            served.replica._barrier = lambda timeout_s: gate.wait()
            await c.send(request("GET", "/v1/kv/k") + later)
            c.end()
            await until(lambda: ended)
            gate.set()
            for status in [404, *statuses]:
                assert (await c.reply()).status == status
            began = asyncio.get_running_loop().time()
            assert await c.ended() == b""
            assert asyncio.get_running_loop().time() - began < WAIT_S / 2
            await until(lambda: not served.http._connections())

    asyncio.run(run())


def test_pipelined_reads_share_a_barrier(server):
    async def run():
        async with server(request_timeout_s=10.0) as served, connect(served.address) as c:
            served.replica.apply(Put(b"a", b"1"))
            await c.send(request("GET", "/v1/kv/a") * 20 + request("GET", "/v1/kv/none") * 20)
            assert [(await c.reply()).status for _ in range(40)] == [200] * 20 + [404] * 20
            assert len(served.replica.timeouts) == 1
            # Those of etcd's API wait less long, so they are no part of it.
            await c.send(request("GET", "/v1/kv/a") + ETCD_RANGE * 5)
            assert [(await c.reply()).status for _ in range(6)] == [200] * 6
            assert served.replica.timeouts[1:] == [10.0, 5.0]
            assert served.http._lanes.in_work == 0

    asyncio.run(run())


def test_pipelined_puts_of_different_keys_go_together(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            groups = []
            submit_group = served.replica.submit_group

            def submitted(commands, timeout_s):
                groups.append([command.key for command in commands])
                return submit_group(commands, timeout_s)

            served.replica.submit_group = submitted
            keys = "abcbaad"
            puts = (request("PUT", f"/v1/kv/{k}", body=b"%d" % i) for i, k in enumerate(keys))
            await c.send(b"".join(puts) + request("GET", "/v1/kv/a") + request("GET", "/v1/kv/b"))
            revisions = [(await c.reply()).json()["revision"] for _ in keys]
            assert revisions == [*range(2, 2 + len(keys))]
            assert [(await c.reply()).body for _ in "ab"] == [b"5", b"3"]
            assert groups == [[b"a", b"b", b"c"], [b"b", b"a"], [b"a", b"d"]]
            deletes = [request("DELETE", f"/v1/kv/{key}") for key in "da"]
            put, get = request("PUT", "/v1/kv/d", body=b"1"), request("GET", "/v1/kv/a")
            await c.send(b"".join(deletes) + put + get)
            deleted = [(await c.reply()).json()["deleted"] for _ in deletes]
            assert [(await c.reply()).status for _ in "da"] == [200, 404]
            assert deleted == [1, 1] and groups[3:] == [[b"d", b"a"], [b"d"]]
            assert len(served.http._lanes.open) == 1

    asyncio.run(run())


def test_one_refused_among_pipelined_puts(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Grant(7, 60))
            puts = [
                request("POST", "/v3/kv/put", body=b'{"key":"%s","lease":"%d"}' % (key, lease))
                for key, lease in ((b"YQ==", 7), (b"Yg==", 8), (b"Yw==", 0))
            ]
            await c.send(b"".join(puts))
            assert [(await c.reply()).status for _ in puts] == [200, 404, 200]
            assert served.replica.keys == [b"a", b"c"]

    asyncio.run(run())


def test_a_client_that_reads_nothing_gets_a_little_into_memory(server):
    """Pipelined reads of large values are answered as the client takes them."""

    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Put(b"a", b"v" * (1 << 20)))
            served.replica.apply(Put(b"s", b"v" * 1000))
            get, small = request("GET", "/v1/kv/a"), request("GET", "/v1/kv/s")
            c._writer.transport.pause_reading()
            await c.send((get + small) * 30)
            await until(lambda: served.http._lanes.outgoing.bytes)
            (lane,) = served.http._lanes.open
            assert lane._transport.get_write_buffer_size() < 3 << 20
            assert served.http._lanes.in_work == 60
            c._writer.transport.resume_reading()
            for _ in range(30):
                assert len((await c.reply()).body) == 1 << 20
                assert len((await c.reply()).body) == 1000
            assert served.http._lanes.in_work == served.http._lanes.outgoing.bytes == 0

    asyncio.run(run())


@pytest.mark.parametrize("reading", [False, True])
def test_a_client_that_goes_leaves_nothing_behind(server, reading):
    async def run():
        async with server() as served:
            served.replica.apply(Put(b"a", b"v" * (1 << 20)))
            one = request("GET", "/v1/kv/a")
            if not reading:
                one = request("PUT", "/v1/kv/a", body=b"1")
            async with connect(served.address) as c:
                c._writer.transport.pause_reading()
                await c.send(one * 30)
                await until(lambda: served.replica.timeouts)
                c._writer.transport.abort()
            lanes = served.http._lanes
            await until(lambda: not (lanes.open or lanes.in_work or lanes.outgoing.bytes))

    asyncio.run(run())


def test_with_much_in_work_one_request_at_a_time(server):
    async def run():
        async with server(pending_requests_max=2) as served, connect(served.address) as c:
            await c.send(request("GET", "/v1/kv/a") * 5)
            assert [(await c.reply()).status for _ in range(5)] == [404] * 5
            assert len(served.replica.timeouts) == 5

    asyncio.run(run())
