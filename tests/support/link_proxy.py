"""TCP proxies between members: one for each ordered pair, so that links can be cut and healed.

All proxies of a cluster run on one event loop in one thread. A link is cut in one of two ways:
*silent* keeps connections open and swallows what is sent, as a network that loses packets does;
otherwise connections are reset, and new ones too, as a host without the process does.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any

READ_BYTES = 1 << 16


class LinkProxy:
    """Forwards one direction of dialling: whoever connects to `listener` reaches `target`."""

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut = ""
        self.swallowed_bytes = 0

    async def start(self) -> None:
        """Begin to accept."""
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def cut(self, silent: bool) -> None:
        """Let nothing through from now on."""
        self._cut = "silent" if silent else "reset"
        if not silent:
            self._abort()

    async def heal(self) -> None:
        """Forward again. What was swallowed is missing, so old connections end."""
        self._cut = ""
        self._abort()

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        self._abort()

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._cut == "reset":
                return
            if self._cut == "silent":
                await self._pump(reader, None)
                return
            with contextlib.suppress(OSError):
                await self._forward(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._writers.add(back)
        try:
            pumps = [
                asyncio.ensure_future(self._pump(reader, back)),
                asyncio.ensure_future(self._pump(there, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._writers.discard(back)
            back.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if self._cut or writer is None:
                    self.swallowed_bytes += len(data)
                    continue
                writer.write(data)
                await writer.drain()


class Proxies:
    """The thread with the loop on which a cluster's proxies run. Calls come from other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._links: dict[tuple[int, int], LinkProxy] = {}

    def add(self, pair: tuple[int, int], listener: socket.socket, target: tuple[str, int]) -> None:
        """Serve the link that `pair[0]` dials to `pair[1]`."""
        self._links[pair] = LinkProxy(listener, target)
        self._run(self._links[pair].start())

    def cut(self, pairs: list[tuple[int, int]], silent: bool) -> None:
        """Cut the links dialled from the first to the second of each pair."""
        for pair in pairs:
            self._run(self._links[pair].cut(silent))

    def heal(self) -> None:
        """Forward on all links."""
        for link in self._links.values():
            self._run(link.heal())

    def swallowed_bytes(self) -> int:
        """What the cuts kept from arriving."""
        return sum(link.swallowed_bytes for link in self._links.values())

    def stop(self) -> None:
        """Close all links and end the thread."""
        for link in self._links.values():
            self._run(link.stop())
        self._run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(5)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
