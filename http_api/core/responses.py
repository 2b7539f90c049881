"""Answers, built as finished bytes and sent in one write.

aiohttp's own Response assembles a case-insensitive multi-dict and serialises it for each answer;
that costs as much as the rest of its server does. An Answer has its head formatted already, and
adds only what is known late: the date, the fate of the connection, whether the body goes out.
"""

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from http_api.core.streams import StreamLink
from http_api.limits.outgoing import Outgoing

DRAIN_BYTES_MAX = 65_536
"""An unread request body up to this long is read and dropped to keep the connection; a longer
one, or one of unknown length, costs the client its connection."""

JSON = b"application/json"

NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"
"""On every answer: values are anybody's bytes, and no browser may guess that they are a page."""
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() + NOSNIFF
    for status in HTTPStatus
}
_BODILESS = frozenset((204, 304))

_date_second = 0
_date_line = b""


def _date() -> bytes:
    """The Date header and the empty line that ends every head; renewed once per second."""
    global _date_second, _date_line
    now = int(time.time())
    if now != _date_second:
        _date_second = now
        _date_line = b"Date: %s\r\n\r\n" % formatdate(now, usegmt=True).encode()
    return _date_line


class Answer(web.StreamResponse):
    """One whole answer: `head` is the status line and the headers, each ended by CRLF.

    `size` is that of the body in bytes. The base class is there for its type and its `keep_alive`;
    its constructor would build the header dict that this class exists to avoid, so it is not
    called.
    """

    def __init__(self, status: int, head: bytes, body: bytes) -> None:
        self._status = status
        self._head = head
        self._data = body
        self.size = len(body)

    _outgoing: Outgoing | None = None

    def counted_in(self, outgoing: Outgoing) -> None:
        """What the client leaves unread of it counts there."""
        self._outgoing = outgoing

    def add_lines(self, lines: dict[str, str]) -> None:
        """Further headers."""
        added = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
        self._head += added.encode("latin-1", "replace")

    def keeping(self) -> bytes:
        """All its bytes, for an HTTP/1.1 connection that stays open."""
        return self._head + _date() + self._data

    def closing(self) -> bytes:
        """All its bytes, for a connection that closes after them."""
        return b"%sConnection: close\r\n%s%s" % (self._head, _date(), self._data)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it all. Raises ConnectionResetError when the client has gone."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        keep_alive = self._keep_alive
        if keep_alive is None:
            keep_alive = request.keep_alive
        if not request.content.is_eof() and not _worth_draining(request):
            keep_alive = False
        self._keep_alive = keep_alive
        head = self._head
        if not keep_alive:
            head += b"Connection: close\r\n"
        elif request.version.minor == 0:
            head += b"Connection: keep-alive\r\n"
        if request.method == "HEAD":
            transport.write(head + _date())
        else:
            transport.write(head + _date() + self._data)
        await self._taken(request, transport)
        writer: AbstractStreamWriter = request.writer
        return writer

    async def _taken(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        """Wait until the client has read most of it. Raises ConnectionResetError if it goes, or is
        cut off because it reads nothing."""
        left = transport.get_write_buffer_size()
        if left <= transport.get_write_buffer_limits()[1]:
            return
        link = StreamLink(request)
        if self._outgoing is not None:
            self._outgoing.bytes += left
        try:
            await link.drained()
        finally:
            if self._outgoing is not None:
                self._outgoing.bytes -= left
            link.release()

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


def _worth_draining(request: web.BaseRequest) -> bool:
    """Whether the rest of the body will surely come, and is short.

    A client that asked for a 100 (Continue) may skip the body after a final answer, and then its
    next request would be taken for that body.
    """
    length = request.headers.get(hdrs.CONTENT_LENGTH, "")
    return (
        length.isdigit() and int(length) <= DRAIN_BYTES_MAX and hdrs.EXPECT not in request.headers
    )


def stream_head(content_type: str) -> Answer:
    """What HEAD answers where GET streams: no length is known."""
    head = b"%sContent-Type: %s\r\n" % (_STATUS_LINES[200], content_type.encode())
    return Answer(200, head, b"")


def answer(
    status: int, body: bytes = b"", content_type: bytes = JSON, headers: bytes = b""
) -> Answer:
    """An answer with `headers` (whole lines, each ended by CRLF) besides type and length."""
    if status in _BODILESS:
        return Answer(status, _STATUS_LINES[status] + headers, b"")
    head = b"%sContent-Type: %s\r\nContent-Length: %d\r\n%s" % (
        _STATUS_LINES[status],
        content_type,
        len(body),
        headers,
    )
    return Answer(status, head, body)


def json_answer(document: Any, status: int = 200) -> Answer:
    """`document` as JSON, with a line end for people at a terminal."""
    return answer(status, orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
