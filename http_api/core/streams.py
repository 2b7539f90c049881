"""Answers without an end: what ends them is the client, the server's stop, or a client that
does not read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from kvstore.errors import Overloaded, Stopping

STREAMS_MAX = 10_000
STUCK_S = 30.0
"""A client that takes nothing for so long is cut off."""
_LOOK_S = 1.0
"""aiohttp does not say that a client has gone, so all streams are looked at so often."""


class Streams:
    """The streams of one server."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Timeout, web.BaseRequest] = {}
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def open(self, request: web.BaseRequest) -> AsyncIterator[None]:
        """A block that is left, without an error, when the client has gone or the server stops.

        Raises Overloaded at the bound, Stopping while the server stops; then nothing was sent.
        """
        if self._stopping:
            raise Stopping("this node is shutting down")
        if len(self._open) >= STREAMS_MAX:
            raise Overloaded(f"{len(self._open)} streams are open here already")
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._open[scope] = request
                if self._looking is None:
                    self._looking = asyncio.get_running_loop().create_task(self._look())
                yield
        except TimeoutError:
            if not scope.expired():
                raise
        except ConnectionError:
            if request.transport is not None and not request.transport.is_closing():
                raise
        finally:
            self._open.pop(scope, None)

    def stop(self) -> None:
        """End all of them now, and refuse new ones."""
        self._stopping = True
        for scope in list(self._open):
            self._end(scope)

    def _end(self, scope: asyncio.Timeout) -> None:
        del self._open[scope]
        scope.reschedule(asyncio.get_running_loop().time())

    async def _look(self) -> None:
        while self._open:
            await asyncio.sleep(_LOOK_S)
            for scope, request in list(self._open.items()):
                if request.transport is None:
                    self._end(scope)
        self._looking = None


async def send(request: web.BaseRequest, response: web.StreamResponse, data: bytes) -> None:
    """Write to a stream, and wait until the client has taken enough of it.

    Raises ConnectionError if the client has gone, or took nothing for STUCK_S and is cut off.
    """
    try:
        async with asyncio.timeout(STUCK_S):
            await response.write(data)
    except TimeoutError:
        transport = request.transport
        if transport is not None:
            transport.abort()
        raise ConnectionResetError("the client does not read") from None
