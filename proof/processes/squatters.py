"""Clients that hold all the connections that a server lets them have, and come again."""

import asyncio
from contextlib import suppress

AGAIN_S = 0.5
ASK_S_MAX = 2.0
READ_BYTES = 4096


class Squatters:
    """`count` connections to `host:port`, idle. Belongs to one event loop."""

    def __init__(self, address: str, count: int) -> None:
        host, _, port = address.rpartition(":")
        self._place = host, int(port)
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []
        self._held: dict[asyncio.StreamWriter, asyncio.Queue[bytes]] = {}
        self.most = 0
        """The most that were held at once."""
        self.refused = 0
        """Connections that the server ended, or did not take."""

    def start(self) -> None:
        """Let all come."""
        self._tasks = [asyncio.create_task(self._hold()) for _ in range(self._count)]

    async def close(self) -> None:
        """Let all go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def ask(self, path: str) -> int:
        """The status that the server answers to GET, on a connection that is held; 0 if none is,
        or no answer comes in time."""
        held = [(writer, heard) for writer, heard in self._held.items() if heard.empty()]
        if not held:
            return 0
        writer, heard = held[0]
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: squatter\r\n\r\n".encode())
            async with asyncio.timeout(ASK_S_MAX):
                head = await heard.get()
            return int(head.split(b" ", 2)[1])
        except (OSError, IndexError, ValueError, TimeoutError):
            return 0
        finally:
            writer.transport.abort()

    async def _hold(self) -> None:
        while True:
            with suppress(OSError):
                await self._once()
            self.refused += 1
            await asyncio.sleep(AGAIN_S)

    async def _once(self) -> None:
        reader, writer = await asyncio.open_connection(*self._place)
        heard = self._held[writer] = asyncio.Queue[bytes]()
        self.most = max(self.most, len(self._held))
        try:
            while data := await reader.read(READ_BYTES):
                # What is not asked for is a refusal, and the end follows.
                heard.put_nowait(data)
        finally:
            del self._held[writer]
            writer.transport.abort()
