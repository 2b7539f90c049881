"""A real replica in a directory, its HTTP server, and calls to etcd's API on it."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from http_api.server import HttpServer
from kvstore.config import Config
from kvstore.event_log import EventLog
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from tests.support.raw_http import Connection, Reply, connect

NOBODY = ("127.0.0.1", 1)
"""An address at which no peer is."""


KEY_MISSING = (400, 3, "etcdserver: key is not provided")
KEY_UNKNOWN = (400, 3, "etcdserver: key not found")
NO_LEASE = (404, 5, "etcdserver: requested lease not found")
COMPACTED = (400, 11, "etcdserver: mvcc: required revision has been compacted")
IN_FUTURE = (400, 11, "etcdserver: mvcc: required revision is a future revision")
DUPLICATE = (400, 3, "etcdserver: duplicate key given in txn request")
TOO_MANY = (400, 3, "etcdserver: too many operations in txn request")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class EtcdNode:
    """A running node and a connection to it."""

    def __init__(self, replica: Replica, http: HttpServer, connection: Connection) -> None:
        self.replica = replica
        self.http = http
        self.address = http.address
        self.connection = connection

    async def raw(self, path: str, body: bytes = b"", method: str = "POST") -> Reply:
        """The answer to these bytes at a whole path."""
        return await self.connection.call(method, path, None, body)

    async def post(self, path: str, document: Any) -> Reply:
        """The answer to a document at a path below /v3/."""
        return await self.raw(f"/v3/{path}", orjson.dumps(document))

    async def ok(self, path: str, **fields: Any) -> dict[str, Any]:
        """The body of a successful answer; values that are bytes are sent in base64."""
        reply = await self.post(path, encoded(fields))
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "application/json"
        document: dict[str, Any] = reply.json()
        return document

    async def refused(self, path: str, **fields: Any) -> tuple[int, int, str]:
        """HTTP status, code and text of an error."""
        reply = await self.post(path, encoded(fields))
        return error_of(reply)


def error_of(reply: Reply) -> tuple[int, int, str]:
    """HTTP status, code and text; the body must be one of etcd's errors."""
    document = reply.json()
    assert reply.status >= 400, document
    assert document.keys() == {"error", "code", "message"}
    assert document["error"] == document["message"]
    return reply.status, document["code"], document["error"]


def encoded(value: Any) -> Any:
    """With base64 for bytes, all the way down."""
    match value:
        case bytes():
            return b64(value)
        case dict():
            return {name: encoded(item) for name, item in value.items()}
        case list():
            return [encoded(item) for item in value]
    return value


def kv(key: bytes, value: bytes, create: int, mod: int, version: int, lease: int = 0) -> Any:
    """A KeyValue as it is sent."""
    found = {
        "key": b64(key),
        "create_revision": str(create),
        "mod_revision": str(mod),
        "version": str(version),
        "value": b64(value),
        "lease": str(lease),
    }
    return {name: text for name, text in found.items() if text not in ("", "0")}


def put_op(key: bytes, value: bytes = b"", **more: Any) -> dict[str, Any]:
    return {"request_put": {"key": key, "value": value, **more}}


def range_op(key: bytes, **more: Any) -> dict[str, Any]:
    return {"request_range": {"key": key, **more}}


def delete_op(key: bytes, **more: Any) -> dict[str, Any]:
    return {"request_delete_range": {"key": key, **more}}


def without_header(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "header"}


def revision(document: dict[str, Any]) -> int:
    return int(document["header"]["revision"])


@asynccontextmanager
async def etcd_node(path: Path, **settings: Any) -> AsyncIterator[EtcdNode]:
    """A node on free ports. `members` other than itself are where nobody is."""
    settings = {"members": {1: ("127.0.0.1", 0)}, "tick_s": 0.005, **settings}
    config = Config(
        node_id=1,
        listen_client=("127.0.0.1", 0),
        listen_peer=("127.0.0.1", 0),
        data_dir=path / "node",
        **settings,
    )
    replica = await open_replica(config, EventLog(1))
    http = HttpServer(replica, config)
    await http.start()
    try:
        if len(config.members) == 1:
            async with asyncio.timeout(60):
                while not replica.status().ready:
                    await asyncio.sleep(0.005)
        async with connect(http.address) as connection:
            yield EtcdNode(replica, http, connection)
    finally:
        await http.stop()
        await replica.stop()


def on_node(path: Path, test: Callable[[EtcdNode], Awaitable[None]], **settings: Any) -> None:
    """Run a test against a node of its own."""

    async def run() -> None:
        async with etcd_node(path, **settings) as node:
            await test(node)

    asyncio.run(run())
