"""aiohttp sends an idempotent method again by itself when a kept connection breaks: what the second
try meets says nothing about the first."""

import asyncio

import pytest

from kvstore.client import Client
from kvstore.errors import NoQuorum, OutcomeUnknown

_BODY = b'{"revision":1,"version":1}'
_WRITTEN = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class DyingNode:
    """Answers one write; takes in the next one whole, and is gone: connection and listener."""

    def __init__(self) -> None:
        self.taken_in = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            self.taken_in += 1
            if self.taken_in > 1:
                self._server.close()
                writer.transport.abort()
                return
            writer.write(_WRITTEN)
            await writer.drain()


def test_a_write_that_arrived_is_not_certainly_unapplied_because_its_repetition_was_refused() -> (
    None
):
    async def run() -> None:
        node = DyingNode()
        async with asyncio.timeout(20), Client(await node.start(), timeout_s=0.6) as client:
            await client.put("k", "1")
            with pytest.raises(OutcomeUnknown):
                await client.put("k", "2")
            assert node.taken_in == 2
            with pytest.raises(NoQuorum):  # never sent: there is nobody to connect to
                await client.put("k", "3")

    asyncio.run(run())
