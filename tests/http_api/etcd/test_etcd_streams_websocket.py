"""etcd's streams over WebSockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from http_api.core import streams
from tests.support.etcd_node import EtcdNode, b64, encoded, etcd_node, on_node
from tests.support.etcd_stream import PROGRESS, cancel, create, until
from tests.support.raw_http import WAIT_S


class Socket:
    """A WebSocket whose frames are messages."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, *documents: Any) -> None:
        for each in documents:
            await self.socket.send_str(orjson.dumps(encoded(each)).decode())

    async def document(self) -> Any:
        message = await self.socket.receive(WAIT_S)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        assert not message.data.endswith("\n")
        return orjson.loads(message.data)

    async def result(self) -> dict[str, Any]:
        result: dict[str, Any] = (await self.document())["result"]
        assert result.pop("header")["raft_term"] == "2"
        return result


@asynccontextmanager
async def socket(node: EtcdNode, path: str) -> AsyncIterator[Socket]:
    host, port = node.address
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{host}:{port}/{path}", max_msg_size=0) as opened,
    ):
        yield Socket(opened)


@pytest.mark.parametrize("prefix", ["v3", "v3beta"])
def test_watches_on_a_socket(tmp_path: Path, prefix: str) -> None:
    async def test(node: EtcdNode) -> None:
        async with socket(node, f"{prefix}/watch") as opened:
            await opened.say(create(b"a", watch_id=1, progress_notify=True))
            assert await opened.result() == {"watch_id": "1", "created": True}
            await opened.say(create(b"b", watch_id=2))
            assert await opened.result() == {"watch_id": "2", "created": True}
            for _ in range(3):
                await opened.say(PROGRESS)  # a heartbeat to some clients
                assert await opened.result() == {"watch_id": "-1"}
            await node.ok("kv/put", key=b"b", value=b"v")
            result = await opened.result()
            assert result["watch_id"] == "2"
            assert result["events"][0]["kv"]["key"] == b64(b"b")
            await opened.say(cancel(2))
            assert await opened.result() == {"watch_id": "2", "canceled": True}
            await opened.say(create(b"a", start_revision=-1, watch_id=3))
            assert (await opened.result())["created"]
            assert await opened.result() == {
                "watch_id": "3",
                "canceled": True,
                "compact_revision": "-1",
            }
        await until(lambda: node.replica.feed.watchers == 0)

    on_node(tmp_path, test)


def test_frames_are_pieces_of_what_is_said(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with socket(node, "v3/watch") as opened:
            await opened.socket.send_str('{"create_request":{"key"')
            await opened.socket.send_str(':"YQ=="}}')
            assert await opened.result() == {"created": True}
            await opened.socket.send_str('{"create_request":{}}{"create_request":{}}')
            assert await opened.result() == {"watch_id": "1", "created": True}
            assert await opened.result() == {"watch_id": "2", "created": True}
            await opened.socket.send_bytes(b'{"create_request":{}}')
            assert await opened.result() == {"watch_id": "3", "created": True}

    on_node(tmp_path, test)


def test_garbage(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for path in ("watch", "lease/keepalive"):
            async with socket(node, f"v3/{path}") as opened:
                await opened.socket.send_str("garbage")
                document = await opened.document()
                assert document["code"] == 2
                assert document["error"].startswith("invalid character 'g'")
                assert (await opened.socket.receive(WAIT_S)).type is aiohttp.WSMsgType.CLOSE
        async with socket(node, "v3/watch") as opened:
            await opened.say(create(b"a"))
            assert await opened.result() == {"created": True}
            await opened.socket.send_str("garbage")
            await node.ok("kv/put", key=b"a", value=b"v")
            assert len((await opened.result())["events"]) == 1

    on_node(tmp_path, test)


def test_keep_alive_on_a_socket(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=77)
        async with socket(node, "v3/lease/keepalive") as opened:
            for _ in range(2):
                await opened.say({"ID": "77"}, {"ID": 78})
                assert await opened.result() == {"ID": "77", "TTL": "60"}
                assert await opened.result() == {"ID": "78"}

    on_node(tmp_path, test)


def test_a_socket_that_vanishes(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with socket(node, "v3/watch") as opened:
            await opened.say(create(b"a"))
            assert await opened.result() == {"created": True}
            transport = opened.socket._response.connection.transport  # type: ignore[union-attr]
            transport.abort()
            await until(lambda: node.replica.feed.watchers == 0)

    on_node(tmp_path, test)


HANDSHAKE = (
    b"GET /v3/watch HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
FRAME = b'{"create_request":{"key":"YQ=="}}'


def test_a_socket_that_does_not_read_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STUCK_S", 0.2)

    async def test(node: EtcdNode) -> None:
        _, writer = await asyncio.open_connection(*node.address, limit=1000)
        writer.write(HANDSHAKE + b"\x81%c\0\0\0\0" % (0x80 | len(FRAME)) + FRAME)
        await until(lambda: node.replica.feed.watchers == 1)
        for _ in range(30):
            await node.ok("kv/put", key=b"a", value=bytes(900_000))
        await until(lambda: node.replica.feed.watchers == 0)
        writer.close()

    on_node(tmp_path, test)


def test_the_server_stops(tmp_path: Path) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            async with etcd_node(tmp_path) as node:
                host, port = node.address
                opened = Socket(await session.ws_connect(f"http://{host}:{port}/v3/watch"))
                await opened.say(create(b"a"))
                assert await opened.result() == {"created": True}
                loop = asyncio.get_running_loop()
                last = loop.create_task(opened.document())
            assert (await last)["error"]["message"] == "error reading from server: EOF"
            assert (await opened.socket.receive(WAIT_S)).type is not aiohttp.WSMsgType.TEXT

    asyncio.run(run())


def test_what_is_no_handshake(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        reply = await node.raw("/v3/watch", method="GET")
        assert reply.status == 405
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        reply = await node.connection.call("GET", "/v3/watch", headers)
        assert reply.status == 400

    on_node(tmp_path, test)
