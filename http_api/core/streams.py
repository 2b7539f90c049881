"""Answers without an end: what ends them is the client, the server's stop, or a client that
does not read; and, for those that need one, a node without a leader.

aiohttp tells a handler that its client has gone only when it reads or writes, and a watch may do
neither for hours. Nor may a wait for aiohttp's flow control be given up: with some of its versions
the next one to wait finds the future that was cancelled. So a StreamLink stands before aiohttp's
protocol and listens.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import nullcontext
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http import StreamWriter

from http_api.core.pipelining import HttpConnection
from kvstore.errors import Overloaded, Stopping
from kvstore.replica.leader_absence import LeaderAbsence

STREAMS_MAX = 10_000
STUCK_S = 30.0
"""A client that takes nothing of what waits for it for so long is cut off."""

SHARED_BYTES_MIN = 16 << 10
"""Copying less is cheaper than handing the pieces over one by one."""

T = TypeVar("T")


class StreamLink(asyncio.Protocol):
    """The connection below a request: is the client there, and does it read?

    It passes everything on to the protocol that was there, which `release` puts back. Raises
    ConnectionResetError if the client has gone already.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        inner = transport.get_protocol()
        assert isinstance(inner, asyncio.Protocol)
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._inner = inner
        self._transport = transport
        self._resumed = asyncio.Event()
        transport.set_protocol(self)

    def check_stays(self) -> None:
        """Raises ConnectionResetError if the client had closed its side before it was heard: that
        ends an answer without an end, as it does when it comes later."""
        if isinstance(self._inner, HttpConnection) and self._inner.ended:
            self.release()
            self._transport.close()
            raise ConnectionResetError("the client has gone")

    def release(self) -> None:
        """The protocol that was there takes over again."""
        if not self._transport.is_closing():
            self._transport.set_protocol(self._inner)

    @property
    def closed(self) -> bool:
        """Whether the client has gone, or was cut off."""
        return self.gone.done() or self._transport.is_closing()

    def check(self) -> None:
        """Raises ConnectionResetError if the client has gone."""
        if self.closed:
            raise ConnectionResetError("the client has gone")

    async def send(self, *pieces: bytes) -> None:
        """`write`, and wait until the client has taken enough of it. Raises like `drained`."""
        await self.write(*pieces)
        await self.drained()

    async def write(self, *pieces: bytes) -> None:
        """Write to the response that is prepared for this request, without waiting for anything.
        Raises ConnectionResetError.

        A large piece that comes alone is handed to the transport as it is, never copied: who does
        not read holds the same bytes as all the others who were sent them. aiohttp's writer would
        join it with its frame.
        """
        self.check()
        writer = self._request.writer
        assert isinstance(writer, StreamWriter)
        if len(pieces) == 1 and len(pieces[0]) >= SHARED_BYTES_MIN:
            (data,) = pieces
            writer.send_headers()
            frame = (b"%x\r\n" % len(data), b"\r\n") if writer.chunked else (b"", b"")
            for part in (frame[0], data, frame[1]):
                self._transport.write(part)
        else:
            await writer.write(b"".join(pieces), drain=False)

    def cut_if_behind(self) -> None:
        """Cut a client off that has not read what it was sent: it would not read why either, and
        the end of the answer would wait for it."""
        _, high = self._transport.get_write_buffer_limits()
        if self._transport.get_write_buffer_size() > high:
            self._transport.abort()

    async def drained(self) -> None:
        """Wait until the client has read enough for more to be written.

        Raises ConnectionResetError if it goes, or reads nothing for STUCK_S and is cut off.
        """
        transport = self._transport
        _, high = transport.get_write_buffer_limits()
        left = transport.get_write_buffer_size()
        while left > high:
            self._resumed.clear()
            try:
                async with asyncio.timeout(STUCK_S):
                    await self._resumed.wait()
            except TimeoutError:
                if transport.get_write_buffer_size() >= left:
                    transport.abort()
            self.check()
            left = transport.get_write_buffer_size()

    # -- asyncio.Protocol -------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
        self._resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self._resumed.set()
        if not self.gone.done():
            self.gone.set_result(None)


class Streams:
    """The streams of one server, of both APIs."""

    def __init__(self) -> None:
        self._open = 0
        self._stopping = asyncio.Event()

    def __len__(self) -> int:
        return self._open

    @property
    def stopping(self) -> bool:
        """Whether the server stops, and no stream may begin."""
        return self._stopping.is_set()

    async def run(
        self,
        link: StreamLink,
        work: Coroutine[Any, Any, T],
        leader_absence: LeaderAbsence | None = None,
    ) -> T:
        """Run `work` for as long as the client and the server stay; else it is cancelled, and has
        ended when this returns. Releases the link. `leader_absence`: nor for longer than this
        node has a leader, but for a few election time-outs.

        Raises ConnectionResetError, Stopping, NoQuorum, or Overloaded at the bound, besides what
        `work` raises.
        """
        if self.stopping or self._open >= STREAMS_MAX:
            work.close()
            link.release()
            if self.stopping:
                raise Stopping("this node is shutting down")
            raise Overloaded(f"{self._open} streams are open here already")
        try:
            link.check_stays()
        except ConnectionResetError:
            work.close()
            raise
        loop = asyncio.get_running_loop()
        task, stopping = loop.create_task(work), loop.create_task(self._stopping.wait())
        self._open += 1
        noticed = nullcontext(None) if leader_absence is None else leader_absence.noticed()
        try:
            with noticed as no_leader:
                ends: list[asyncio.Future[Any]] = [task, link.gone, stopping]
                if no_leader is not None:
                    ends.append(no_leader)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            link.check()
            if leader_absence is not None and no_leader is not None and no_leader.done():
                link.cut_if_behind()
                link.check()
                raise leader_absence.error()
            raise Stopping("this node is shutting down")
        finally:
            self._open -= 1
            stopping.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()  # heard, also if something else is raised
            link.release()

    def stop(self) -> None:
        """End all of them now, and refuse new ones."""
        self._stopping.set()
