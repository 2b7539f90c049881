"""A node with authentication on, its users, and calls with their tokens."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from tests.support.etcd_node import EtcdNode, encoded, error_of, on_node
from tests.support.raw_http import Reply, connect

Test = Callable[["Guarded"], Awaitable[None]]

NO_USER = (400, 3, "etcdserver: user name is empty")
BAD_TOKEN = (401, 16, "etcdserver: invalid auth token")
DENIED = (403, 7, "etcdserver: permission denied")
WRONG = (400, 3, "etcdserver: authentication failed, invalid user ID or password")
OFF = (400, 9, "etcdserver: authentication is not enabled")
BAD_MANAGEMENT = (400, 3, "etcdserver: invalid auth management")
USER_UNKNOWN = (400, 9, "etcdserver: user name not found")
ROLE_UNKNOWN = (400, 9, "etcdserver: role name not found")


async def send(node: EtcdNode, path: str, token: str, header: str, document: Any) -> Reply:
    headers = {header: token} if token else None
    body = orjson.dumps(encoded(document))
    return await node.connection.call("POST", f"/v3/{path}", headers, body)


class Guarded:
    """A node with authentication on, and tokens of root and of u, who has READWRITE on [a, b),
    READ on [b, c) and WRITE on c."""

    def __init__(self, node: EtcdNode, root: str, user: str) -> None:
        self.node = node
        self.root = root
        self.user = user

    async def ok(self, path: str, token: str = "", **fields: Any) -> dict[str, Any]:
        reply = await send(self.node, path, token, "Authorization", fields)
        assert reply.status == 200, reply
        document: dict[str, Any] = reply.json()
        return document

    async def refused(self, path: str, token: str = "", **fields: Any) -> tuple[int, int, str]:
        return error_of(await send(self.node, path, token, "Authorization", fields))

    async def watch(self, token: str, **fields: Any) -> dict[str, Any]:
        """The first message of a watch."""
        body = orjson.dumps(encoded({"create_request": fields}))
        authorization = f"Authorization: {token}\r\n" if token else ""
        head = f"POST /v3/watch HTTP/1.1\r\nHost: t\r\n{authorization}Content-Length: {len(body)}"
        async with connect(self.node.address) as connection:
            await connection.send(f"{head}\r\n\r\n".encode() + body)
            async with asyncio.timeout(60):
                head = (await connection._reader.readuntil(b"\r\n\r\n")).decode()
                assert head.startswith("HTTP/1.1 200 ")
                await connection._reader.readuntil(b"\r\n")
                line = await connection._reader.readuntil(b"\n")
        message: dict[str, Any] = json.loads(line)["result"]
        return message

    async def native(
        self, method: str, path: str, authorization: str = "", body: bytes = b""
    ) -> Reply:
        headers = {"Authorization": authorization} if authorization else None
        return await self.node.connection.call(method, path, headers, body)


async def log_in(node: EtcdNode, name: str, password: str) -> str:
    token = (await node.ok("auth/authenticate", name=name, password=password))["token"]
    assert isinstance(token, str)
    return token


async def guard(node: EtcdNode) -> Guarded:
    for name in ("root", "u"):
        await node.ok("auth/user/add", name=name, password=f"{name}'s")
    for name in ("root", "r"):
        await node.ok("auth/role/add", name=name)
    for right, key, end in ((2, b"a", b"b"), ("READ", b"b", b"c"), ("WRITE", b"c", b"")):
        perm = {"permType": right, "key": key, "range_end": end}
        await node.ok("auth/role/grant", name="r", perm=perm)
    await node.ok("auth/user/grant", user="root", role="root")
    await node.ok("auth/user/grant", user="u", role="r")
    await node.ok("kv/put", key=b"a", value=b"1")
    await node.ok("kv/put", key=b"z", value=b"secret")
    assert (await node.ok("auth/enable")).keys() == {"header"}
    return Guarded(node, await log_in(node, "root", "root's"), await log_in(node, "u", "u's"))


def guarded(path: Path, test: Test) -> None:
    async def run(node: EtcdNode) -> None:
        await test(await guard(node))

    on_node(path, run)
