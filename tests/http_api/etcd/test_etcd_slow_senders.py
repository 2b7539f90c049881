"""Streams of etcd's API whose client begins to say something, and does not end it."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from http_api.core import bodies
from tests.support.etcd_node import EtcdNode, error_of, on_node
from tests.support.etcd_stream import create, put, stream, until
from tests.support.raw_http import WAIT_S, connect

SLOW_S = 0.15
LATE = "a message did not arrive whole within 0.15 seconds"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", SLOW_S)


def test_a_first_message_that_does_not_come_whole(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async def one(path: str, begun: bytes) -> None:
            async with stream(node.address, path, begun) as opened:
                reply = await opened.reply()
                assert reply.status == 408
                assert reply.json()["error"]["message"] == LATE
                assert await opened.closed() == b""

        async with asyncio.TaskGroup() as tasks:
            for path in ("watch", "lease/keepalive", "election/observe"):
                for begun in (b'{"create_request":{"key":', b"12", b" \n "):
                    tasks.create_task(one(path, begun))
        await until(lambda: len(node.http.facilities.streams) == 0)

    on_node(tmp_path, test)


def test_a_later_message_that_does_not_come_whole(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a")) as opened:
            assert (await opened.result())["created"]
            await opened.say(b'{"create_request":')
            assert LATE.encode() in await opened.chunk()
            assert await opened.chunk() == b""
            assert await opened.closed() == b""
        await until(lambda: node.replica.feed.watchers == 0)

    on_node(tmp_path, test)


def test_slow_pieces_of_whole_messages_and_silence_between_them_are_fine(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", b' {"create_request":{') as opened:
            await opened.say(b'"key":"YQ=="}} ')
            assert (await opened.result())["created"]
            await asyncio.sleep(2 * SLOW_S)
            await node.ok("kv/put", key=b"a", value=b"v")
            assert (await opened.result())["events"] == [put(b"a", b"v", 2, 2, 1)]
            await opened.say(create(b"b"))
            assert (await opened.result())["created"]

    on_node(tmp_path, test)


def test_a_body_of_one_message_that_does_not_end(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "election/observe", {"name": b"n"}) as opened:
            reply = await opened.reply()
            text = "the request did not end within 0.15 seconds"
            assert (reply.status, reply.json()["error"]["message"]) == (408, text)
            assert await opened.closed() == b""

    on_node(tmp_path, test)


def test_a_socket_that_says_nothing_whole(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        host, port = node.address
        for said in ("", '{"create_request":'):
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"http://{host}:{port}/v3/watch") as opened,
            ):
                if said:
                    await opened.send_str(said)
                assert (await opened.receive_json(timeout=WAIT_S))["error"]["message"] == LATE
                assert (await opened.receive(WAIT_S)).type is aiohttp.WSMsgType.CLOSE

    on_node(tmp_path, test)


def test_a_chunked_body_of_a_call_that_does_not_end(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for path in ("kv/put", "lock/lock"):
            async with connect(node.address) as c:
                await c.send(b"POST /v3/%b HTTP/1.1\r\nHost: x\r\n" % path.encode())
                await c.send(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
                assert error_of(await c.reply())[0] == 408
                assert await c.ended() == b""

    on_node(tmp_path, test)
