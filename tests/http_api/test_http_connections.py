"""Connections: bodies that are too large or come late, pipelines, keep-alive, bounds, stopping."""

import asyncio

import pytest

from http_api.core import bodies
from kvstore.commands.commands import VALUE_BYTES_MAX
from tests.support.raw_http import WAIT_S, connect, request

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(method, target, *lines):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


def test_413_by_length_before_any_of_the_body(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.send(head("PUT", "/v1/kv/k", "Content-Length: 1000000000"))
            reply = await c.reply()
            assert (reply.status, reply.headers["connection"]) == (413, "close")
            assert str(VALUE_BYTES_MAX) in reply.json()["detail"]
            assert await c.ended() == b""

    asyncio.run(run())


def test_413_cuts_an_endless_chunked_body_off(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.send(head("PUT", "/v1/kv/k", "Transfer-Encoding: chunked"))
            chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
            for _ in range(VALUE_BYTES_MAX // 0x10000):
                await c.send(chunk)
            await c.send(chunk)
            reply = await c.reply()
            assert (reply.status, reply.headers["connection"]) == (413, "close")
            assert await c.ended() == b""
            assert not served.replica.keys

    asyncio.run(run())


def test_chunked_body(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.send(head("PUT", "/v1/kv/k", "Transfer-Encoding: chunked"))
            await c.send(b"3\r\none\r\n")
            await c.send(b"4\r\n two\r\n0\r\n\r\n")
            assert (await c.reply()).status == 200
            assert (await c.call("GET", "/v1/kv/k")).body == b"one two"

    asyncio.run(run())


def test_broken_chunked_body_is_refused(server, monkeypatch):
    # aiohttp's compiled parser does not tell the reader of a body that the body broke off.
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.05)

    async def run():
        async with server() as served, connect(served.address) as c:
            chunked = ("Transfer-Encoding: chunked", "Expect: 100-continue")
            await c.send(head("PUT", "/v1/kv/k", *chunked))
            assert (await c.reply()).status == 100
            await c.send(b"3\r\none\r\nzz\r\n")
            reply = await c.reply()
            assert reply.status in (400, 408)
            assert reply.headers["connection"] == "close"
            assert not served.replica.keys

    asyncio.run(run())


def test_largest_value(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            value = b"x" * VALUE_BYTES_MAX
            assert (await c.call("PUT", "/v1/kv/k", body=value)).status == 200
            assert (await c.call("GET", "/v1/kv/k")).body == value

    asyncio.run(run())


@pytest.mark.parametrize("length", [5, VALUE_BYTES_MAX])
def test_expect_continue(length, server):
    async def run():
        async with server() as served:
            reader, writer = await asyncio.open_connection(*served.address)
            async with asyncio.timeout(WAIT_S):
                writer.write(
                    head("PUT", "/v1/kv/k", "Expect: 100-continue", f"Content-Length: {length}")
                )
                assert await reader.readexactly(len(CONTINUE)) == CONTINUE
                writer.write(b"x" * length)
                assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
            writer.close()
            assert len(served.replica.state.get(b"k").value) == length

    asyncio.run(run())


@pytest.mark.parametrize(
    ("target", "length", "status"),
    [("/v1/kv/k", VALUE_BYTES_MAX + 1, 413), ("/v1/kv/k?x=1", 5, 400), ("/nowhere", 5, 404)],
)
def test_expect_continue_refused_closes(target, length, status, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.send(head("PUT", target, "Expect: 100-continue", f"Content-Length: {length}"))
            reply = await c.reply()
            assert (reply.status, reply.headers["connection"]) == (status, "close")
            assert await c.ended() == b""

    asyncio.run(run())


def test_pipelined_requests_are_answered_in_order(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            parts = []
            for number in range(50):
                parts.append(request("PUT", f"/v1/kv/k{number}", body=b"%d" % number))
                parts.append(request("HEAD", f"/v1/kv/k{number}"))
                parts.append(request("GET", f"/v1/kv/k{number}"))
                parts.append(request("GET", f"/v1/kv/k{number}?bad"))
            await c.send(b"".join(parts))
            for number in range(50):
                assert (await c.reply()).json()["revision"] == number + 2
                assert (await c.reply("HEAD")).headers["etag"] == f'"{number + 2}"'
                assert (await c.reply()).body == b"%d" % number
                assert (await c.reply()).status == 400

    asyncio.run(run())


def test_connection_survives_errors_with_a_small_body(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            for target in ["/v1/kv/", "/v1/kv/k?x", "/nowhere", "/v1/kv/%zz"]:
                await c.send(head("PUT", target, "Content-Length: 5"))
                assert (await c.reply()).status in (400, 404)
                await c.send(b"hello")
                assert (await c.call("GET", "/healthz")).status == 200

    asyncio.run(run())


def test_connection_close_and_http_1_0(server):
    async def run():
        async with server() as served:
            async with connect(served.address) as c:
                reply = await c.call("GET", "/healthz", {"Connection": "close"})
                assert reply.headers["connection"] == "close"
                assert await c.ended() == b""
            async with connect(served.address) as c:
                await c.send(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert (await c.reply()).headers["connection"] == "close"
                assert await c.ended() == b""
            async with connect(served.address) as c:
                for _ in range(2):
                    await c.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                    assert (await c.reply()).headers["connection"] == "keep-alive"

    asyncio.run(run())


def test_not_http(server, caplog):
    async def run():
        async with server() as served:
            async with connect(served.address) as c:
                await c.send(b"\x16\x03\x01 hello\r\n\r\n")
                assert b" 400 " in (await c.ended()).split(b"\r\n")[0]
            async with connect(served.address) as c:
                await c.send(head("GET", "/v1/kv/" + "k" * 10_000))
                assert b" 400 " in (await c.ended()).split(b"\r\n")[0]
            async with connect(served.address) as c:
                assert (await c.call("GET", "/healthz")).status == 200

    asyncio.run(run())
    assert "Traceback" not in caplog.text, "strangers do not fill the log"


def test_client_that_leaves_in_the_middle_of_a_body(server, caplog):
    async def run():
        async with server() as served:
            async with connect(served.address) as c:
                await c.send(head("PUT", "/v1/kv/k", "Content-Length: 100") + b"part")
            async with connect(served.address) as c:
                assert (await c.call("GET", "/healthz")).status == 200
            assert not served.replica.keys

    asyncio.run(run())
    assert not caplog.records


def test_body_that_never_comes(server, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.05)

    async def run():
        async with server() as served, connect(served.address) as c:
            await c.send(head("PUT", "/v1/kv/k", "Content-Length: 100000"))
            reply = await c.reply()
            assert (reply.status, reply.headers["connection"]) == (408, "close")

    asyncio.run(run())


def test_bodies_over_all_connections_are_bounded(server):
    """By what has come of them: to declare a length takes nothing from others."""

    async def run():
        async with server(pending_bytes_max=150_000) as served, connect(served.address) as first:
            large = head("PUT", "/v1/kv/k", "Expect: 100-continue", "Content-Length: 100000")
            await first.send(large)
            assert (await first.reply()).status == 100
            await first.send(b"x" * 90_000)
            async with connect(served.address) as second:
                await second.send(large)
                assert (await second.reply()).status == 100
                await second.send(b"x" * 90_000)
                reply = await second.reply()
                assert (reply.status, reply.json()["type"]) == (503, "/problems/overloaded")
                assert reply.headers["retry-after"] == "1"
            await first.send(b"x" * 10_000)
            assert (await first.reply()).status == 200
            async with connect(served.address) as third:
                assert (await third.call("PUT", "/v1/kv/k", body=b"y" * 100_000)).status == 200

    asyncio.run(run())


def test_connections_are_bounded(server):
    async def run():
        async with server(pending_requests_max=2) as served:  # noqa: SIM117
            async with connect(served.address) as first, connect(served.address) as second:
                assert (await first.call("GET", "/healthz")).status == 200
                assert (await second.call("GET", "/healthz")).status == 200
                async with connect(served.address) as third:
                    reply = await third.reply()
                    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
                    assert reply.headers["connection"] == "close"
                    assert await third.ended() == b""
                metrics = (await first.call("GET", "/metrics")).body
                assert b"kvstore_http_connections_refused_total 1.0" in metrics

    asyncio.run(run())


def test_stop_lets_a_request_finish(server):
    async def run():
        started, release = asyncio.Event(), asyncio.Event()
        async with server() as served, connect(served.address) as busy:
            execute = served.replica.execute

            async def slow(command, timeout_s):
                started.set()
                await release.wait()
                return await execute(command, timeout_s)

            served.replica.execute = slow
            async with connect(served.address) as idle:
                assert (await idle.call("GET", "/healthz")).status == 200
                await busy.send(request("PUT", "/v1/kv/k", body=b"v"))
                await started.wait()
                stopping = asyncio.create_task(served.http.stop())
                assert await idle.ended() == b""
                release.set()
                reply = await busy.reply()
                assert (reply.status, reply.headers["connection"]) == (200, "close")
                await stopping
            with pytest.raises(OSError):  # noqa: PT011
                await asyncio.open_connection(*served.address)

    asyncio.run(run())
