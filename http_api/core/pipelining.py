"""Requests that come together are answered like requests that come one by one.

aiohttp's parser is given what a read of the socket brought, several requests perhaps. If it stops
at one of them, it forgets those before it that came with it, and what came after: a request was not
answered, or answered with another's 400. It stops at a fault, at what follows `Connection: close`,
and at an upgrade that it does not know. So it is given one head at a time.

A connection may come here after its client has closed its side, and what it asked for is still to
be answered. aiohttp, which would take that for a hang-up, was not told: such a connection is given
up as soon as it has nothing to do.
"""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from aiohttp.web_protocol import RequestHandler, _ErrInfo

ENDED_S = 0.05
"""How long a connection whose client has closed its side is kept with nothing in work."""

_HEAD_END = b"\r\n\r\n"


class HttpConnection(RequestHandler):
    """aiohttp's protocol of one connection."""

    __slots__ = ("_before", "ended")

    def __init__(self, *args: Any, ended: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended = ended
        """Whether the client had closed its side already, and what comes at once is all."""
        self._before = b""
        """The last bytes of what came before: the end of a head may come in two reads."""

    def eof_received(self) -> bool | None:  # type: ignore[override]  # True: the answers go out
        """Heard once more of a side that was closed before, whenever reading goes on after a pause:
        that is no hang-up then either."""
        super().eof_received()
        return True if self.ended else None

    def data_received(self, data: bytes) -> None:
        """What came, cut after each end of a head. A cut in the midst of a body does no harm."""
        before, self._before = self._before, (self._before + data[-3:])[-3:]
        across = (before + data[:3]).find(_HEAD_END)
        start = 0 if across < 0 else across + len(_HEAD_END) - len(before)
        if start:
            self._feed(data[:start])
            if start == len(data):
                return
        while True:
            end = data.find(_HEAD_END, start) + len(_HEAD_END)
            if end < len(_HEAD_END) or end == len(data):
                break
            self._feed(data[start:end])
            start = end
        self._feed(data[start:] if start else data)

    def _feed(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._fail_bodies()

    def _fail_bodies(self) -> None:
        """The parser stopped at a fault. If that was in a body, a handler may wait for the rest,
        and aiohttp tells it nothing."""
        waiting = [body for _, body in self._messages]
        if self._current_request is not None:
            waiting.append(self._current_request.content)
        for body in waiting:
            if not body.is_eof() and body.exception() is None:
                body.set_exception(PayloadEncodingError("the rest of it cannot be read"))


class ConnectionServer(web.Server):
    """aiohttp's server, whose connections are these."""

    def __call__(self, ended: bool = False) -> RequestHandler:
        """The protocol for a connection; `ended`: its client has closed its side."""
        settings = {**self._kwargs, "keepalive_timeout": ENDED_S} if ended else self._kwargs
        return HttpConnection(self, loop=asyncio.get_running_loop(), ended=ended, **settings)
