"""The connections of one client: opened when they are needed, closed with it, and let go without a
word if it is forgotten."""

import asyncio
import ctypes
import os
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiohttp

CONNECT_S_MAX = 2.0
STREAM_SILENCE_S = 40.0
"""A stream that is silent for so long has lost its node: a watch gets something every 15 s."""


class ClientClosed(RuntimeError):
    """The client was closed, belongs to another event loop, or was made before a fork."""


class _Opened(NamedTuple):
    """What is open, and where: nobody else may touch it."""

    process: int
    loop: asyncio.AbstractEventLoop
    sessions: list[aiohttp.ClientSession]


class Connections:
    """Belongs to the event loop that uses it first; once that is closed, to the next one."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls: ssl.SSLContext | bool = True if tls is None else tls
        self._closed = False
        self._opened: _Opened | None = None
        self._forget: Callable[[], object] = lambda: None
        self._calls: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None
        self._waiting: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def wanted(self) -> AsyncIterator[None]:
        """A block that waits for an answer: it ends with ClientClosed as soon as `close` is called.
        aiohttp wakes nobody who reads a stream that it closes."""
        waiting = asyncio.timeout(None)
        try:
            async with waiting:
                self._waiting.add(waiting)
                yield
        except TimeoutError:
            if waiting.expired():
                raise ClientClosed("this client was closed during the call") from None
            raise
        finally:
            self._waiting.discard(waiting)

    def calls(self) -> aiohttp.ClientSession:
        """For calls; connections are kept for the next one. Raises ClientClosed."""
        opened = self._here()
        if self._calls is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_mark_sent)
            self._calls = aiohttp.ClientSession(
                trace_configs=[trace],
                connector=aiohttp.TCPConnector(limit=256, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
            )
            opened.sessions.append(self._calls)
        return self._calls

    def streams(self) -> aiohttp.ClientSession:
        """Streams hold their connection: they share none, and take none from the calls. Raises
        ClientClosed."""
        opened = self._here()
        if self._streams is None:
            self._streams = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_S_MAX, sock_read=STREAM_SILENCE_S
                ),
            )
            opened.sessions.append(self._streams)
        return self._streams

    async def close(self) -> None:
        """Close all, for good. A second close does nothing, and neither does one elsewhere than
        where they were opened: there they are let go when nobody holds this any more."""
        self._closed = True
        opened = self._opened
        if (
            opened is not None
            and opened.process == os.getpid()
            and opened.loop is asyncio.get_running_loop()
        ):
            for waiting in self._waiting:
                waiting.reschedule(opened.loop.time())
            while opened.sessions:
                await opened.sessions.pop().close()

    def _here(self) -> _Opened:
        if self._closed:
            raise ClientClosed("this client is closed")
        opened, loop = self._opened, asyncio.get_running_loop()
        if opened is not None:
            if opened.process != os.getpid():
                raise ClientClosed("this client was made before a fork: make one in the child")
            if opened.loop is loop:
                return opened
            if not opened.loop.is_closed():
                raise ClientClosed("this client belongs to another event loop, which still runs")
            self._forget()
            self._calls = self._streams = None
        self._opened = opened = _Opened(os.getpid(), loop, [])
        self._forget = weakref.finalize(self, _let_go, opened)
        return opened


def _let_go(opened: _Opened) -> None:
    """Close what is still open, from wherever this is called."""
    while opened.sessions:
        session = opened.sessions.pop()
        connector = session.connector
        session.detach()
        if connector is None:
            continue
        if opened.process != os.getpid():
            # In the child of a fork. To close a connection here would take it out of the epoll
            # set, which is the parent's too; so what holds connections is never freed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connector))
        elif opened.loop.is_running():
            with suppress(RuntimeError):  # it was closed meanwhile
                opened.loop.call_soon_threadsafe(connector.__exit__)
        else:
            connector.__exit__()


async def _mark_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    # Never taken back: aiohttp sends an idempotent method once more when the connection breaks, and
    # a refused connection of that second attempt says nothing about the first.
    context.trace_request_ctx.times += 1
