"""A strict client of etcd's streams: what comes chunk by chunk, and when the connection ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.support.etcd_node import b64, encoded
from tests.support.raw_http import WAIT_S, Connection, Reply


class Stream:
    """A POST whose body stays open, and its answer. Messages must be one per chunk."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._headers: dict[str, str] | None = None

    async def say(self, *documents: Any) -> None:
        """Send more of the body: documents, or bytes as they are. Each is one chunk."""
        for each in documents:
            data = each if isinstance(each, bytes) else json.dumps(encoded(each)).encode()
            self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def end_body(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def head(self) -> dict[str, str]:
        """The headers of a response that is a stream."""
        if self._headers is None:
            async with asyncio.timeout(WAIT_S):
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head[:-4].split("\r\n")
            assert status == "HTTP/1.1 200 OK", head
            pairs = (line.split(": ", 1) for line in lines)
            self._headers = {name.lower(): value for name, value in pairs}
            assert self._headers["content-type"] == "application/json"
            assert self._headers["transfer-encoding"] == "chunked"
            assert "content-length" not in self._headers
        return self._headers

    async def chunk(self) -> bytes:
        """The data of the next chunk, empty for the last one."""
        await self.head()
        async with asyncio.timeout(WAIT_S):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def message(self) -> dict[str, Any]:
        """The result in the next chunk, its header included."""
        data = await self.chunk()
        assert data.endswith(b"}\n") and data.count(b"\n") == 1, data
        document = json.loads(data)
        assert document.keys() == {"result"}, document
        result: dict[str, Any] = document["result"]
        assert result["header"]["raft_term"] == "2"
        return result

    async def result(self) -> dict[str, Any]:
        """The next message without its header."""
        message = await self.message()
        del message["header"]
        return message

    async def reply(self) -> Reply:
        """The answer, if it is not a stream."""
        return await Connection(self._reader, self.writer).reply("POST")

    async def nothing_yet(self) -> None:
        """No byte has come, although the server has had the time to answer something else."""
        reader = asyncio.ensure_future(self._reader.read(1))
        await asyncio.sleep(0)
        assert not reader.done()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    async def closed(self) -> bytes:
        """What comes until the server closes the connection."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.read()

    def hang_up(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def stream(
    address: tuple[str, int],
    path: str,
    *documents: Any,
    limit: int = 1 << 26,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Stream]:
    """POST to a path below /v3/, with these documents as the beginning of its body."""
    reader, writer = await asyncio.open_connection(*address, limit=limit)
    writer.write(b"POST /v3/%s HTTP/1.1\r\nHost: x\r\n" % path.encode())
    for name, text in (headers or {}).items():
        writer.write(f"{name}: {text}\r\n".encode())
    writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
    opened = Stream(reader, writer)
    try:
        await opened.say(*documents)
        yield opened
    finally:
        writer.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it, and fail if it takes too long."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.005)


def create(key: bytes, **fields: Any) -> dict[str, Any]:
    return {"create_request": {"key": key, **fields}}


def cancel(id: int) -> dict[str, Any]:
    return {"cancel_request": {"watch_id": str(id)}}


PROGRESS = {"progress_request": {}}


def kv(key: bytes, value: bytes, created: int, modified: int, version: int) -> dict[str, Any]:
    return {
        "key": b64(key),
        "create_revision": str(created),
        "mod_revision": str(modified),
        "version": str(version),
        "value": b64(value),
    }


def put(*fields: Any) -> dict[str, Any]:
    return {"kv": kv(*fields)}


def gone(key: bytes, modified: int) -> dict[str, Any]:
    return {"type": "DELETE", "kv": {"key": b64(key), "mod_revision": str(modified)}}


async def quiet(opened: Stream) -> None:
    """Nothing is sent but the answer to what is asked last."""
    await opened.say(PROGRESS)
    assert await opened.result() == {"watch_id": "-1"}
