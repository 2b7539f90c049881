"""A client that sends exactly the bytes it is told to, and reads answers strictly."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

WAIT_S = 60.0
"""No answer takes so long; a test fails rather than hangs."""


class Reply(NamedTuple):
    """`headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, method: str = "GET") -> Reply:
        async with asyncio.timeout(WAIT_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head[:-4].split("\r\n")
            pairs = [line.split(": ", 1) for line in lines]
            headers = {name.lower(): value for name, value in pairs}
            assert len(headers) == len(pairs), f"repeated headers: {head}"
            version, status, _ = status_line.split(" ", 2)
            assert version == "HTTP/1.1"
            length = int(headers.get("content-length", "0"))
            body = b"" if method == "HEAD" else await self._reader.readexactly(length)
            return Reply(int(status), headers, body)

    async def status(self) -> int:
        """The status of an answer; the rest of it, which may have no end, is left unread."""
        async with asyncio.timeout(WAIT_S):
            line = await self._reader.readuntil(b"\r\n")
        return int(line.split(b" ", 2)[1])

    async def until(self, end: bytes) -> bytes:
        """What comes, up to and with `end`."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.readuntil(end)

    async def call(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        await self.send(request(method, target, headers, body))
        return await self.reply(method)

    async def ended(self) -> bytes:
        """What else comes until the server closes."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.read()

    def end(self) -> None:
        """Nothing more will be sent."""
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


def request(
    method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    """A whole request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def connect(address: tuple[str, int]) -> AsyncIterator[Connection]:
    """A connection for the length of the block."""
    connection = Connection(*await asyncio.open_connection(*address))
    try:
        yield connection
    finally:
        connection.close()
