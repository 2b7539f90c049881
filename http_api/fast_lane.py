"""The fast lane: plain PUT and GET of one key without aiohttp's request machinery.

Measured on the leader under 64 connections, aiohttp's parsing, task switches and objects were over
half of the loop's time. So a connection starts here. A request that arrived whole, in one of the
two commonest forms and with nothing but harmless headers, is answered straight from the replica's
future. At the first request of any other kind the connection is handed to aiohttp, with all that
was not yet answered, and stays there: there is one place that understands HTTP, and this is not it.
"""

import asyncio
import re
from collections.abc import Callable
from time import perf_counter
from typing import Any

from http_api.core import params
from http_api.core.metrics import Meter
from http_api.core.outgoing import Outgoing
from http_api.core.problems import problem, storage_failed
from http_api.core.responses import Answer
from http_api.core.session import Session
from http_api.v1.kv import absent, value_answer, written_answer
from kvstore.commands.commands import VALUE_BYTES_MAX, Put
from kvstore.commands.results import Result
from kvstore.errors import KeyNotFound, KvError, StorageError

WAITING_BYTES_MAX = 1 << 16
"""Pipelined bytes kept while a request is in work; then the socket is not read any further."""
HEAD_BYTES_MAX = 8190
"""A longer head is aiohttp's to refuse."""
HEADS_MAX = 512
"""Header blocks remembered: a client sends the same one with each request."""

_REQUEST = re.compile(rb"(PUT|GET) /v1/kv/([A-Za-z0-9%._~!$&'()*+,;=:@/-]+) HTTP/1\.1")
_HEADER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([\x20-\x7e]*)")
_HARMLESS = frozenset((b"user-agent", b"accept", b"accept-encoding", b"content-type"))
_NOT_OURS = -2
_NO_BODY = -1


def body_length(headers: bytes) -> int:
    """Content-Length of a header block; _NO_BODY without one, _NOT_OURS if anything in it asks
    for more than the plain answer (conditions, idempotency, Expect, chunks, closing, ...), or if
    it does not name one host, as every request must (RFC 9112, 3.2)."""
    length, hosts = _NO_BODY, 0
    for line in headers.split(b"\r\n"):
        matched = _HEADER.fullmatch(line)
        if matched is None:
            return _NOT_OURS
        name, value = matched[1].lower(), matched[2].rstrip(b" ")
        if name == b"content-length":
            if length != _NO_BODY or not value.isdigit() or len(value) > 8:
                return _NOT_OURS
            length = int(value)
        elif name == b"connection":
            if value.lower() != b"keep-alive":
                return _NOT_OURS
        elif name == b"host":
            hosts += 1
        elif name not in _HARMLESS:
            return _NOT_OURS
    return length if hosts == 1 else _NOT_OURS


class Lanes:
    """What all connections of a server share.

    `session` is nobody's: a request that names its sender is handed over to aiohttp.
    `hand_over()` makes aiohttp's protocol for a connection; `unexpected(method, target)` answers,
    and logs, an exception that is being handled and is not an error of ours.
    """

    def __init__(
        self,
        session: Session,
        timeout_s: float,
        idle_s: float,
        meters: dict[bytes, Meter],
        outgoing: Outgoing,
        hand_over: Callable[[], asyncio.Protocol],
        unexpected: Callable[[str, str], Answer],
    ) -> None:
        self.session = session
        self.timeout_s = timeout_s
        self.idle_s = idle_s
        self.meters = meters
        self.outgoing = outgoing
        self.hand_over = hand_over
        self.unexpected = unexpected
        self.open: set[FastLane] = set()
        self.stopping = False
        self._heads: dict[bytes, int] = {}
        self._empty = asyncio.Event()

    def length_of(self, headers: bytes) -> int:
        """`body_length`, remembered."""
        length = self._heads.get(headers)
        if length is None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            length = self._heads[headers] = body_length(headers)
        return length

    def opened(self, lane: "FastLane") -> None:
        self.open.add(lane)

    def closed(self, lane: "FastLane") -> None:
        self.open.discard(lane)
        if not self.open:
            self._empty.set()

    async def stop(self, timeout_s: float) -> None:
        """Close idle connections at once, busy ones after their answer, all by the time-out."""
        self.stopping = True
        self._empty.clear()
        for lane in list(self.open):
            lane.stop()
        if self.open:
            try:
                await asyncio.wait_for(self._empty.wait(), timeout_s)
            except TimeoutError:
                for lane in list(self.open):
                    lane.abort()


class FastLane(asyncio.Protocol):
    """One connection, until aiohttp takes it over."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._transport: asyncio.Transport
        self._waiting = b""
        self._meter: Meter | None = None
        self._key = b""
        self._began = 0.0
        self._blocked = False
        self._unread = 0
        self._paused = False
        self._taking = False

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport
        self._lanes.opened(self)
        self._began = perf_counter()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._lanes.idle_s, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        self._count_unread(0)
        self._lanes.closed(self)

    def eof_received(self) -> bool:
        """A client that closes its side still gets the answer it waits for."""
        return self._meter is not None

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests."""
        self._blocked = True
        self._count_unread(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._blocked = False
        self._count_unread(0)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._waiting = self._waiting + data if self._waiting else data
        if self._meter is None and not self._blocked:
            self._next()
        elif len(self._waiting) > WAITING_BYTES_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def stop(self) -> None:
        """Close once nothing is in work."""
        if self._meter is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _count_unread(self, size: int) -> None:
        self._lanes.outgoing.bytes += size - self._unread
        self._unread = size

    def _close_if_idle(self) -> None:
        lanes = self._lanes
        left_s = self._began + lanes.idle_s - perf_counter()
        if self._meter is None and left_s <= 0:
            if self._blocked:  # closing would wait for the client to read
                self._transport.abort()
            else:
                self._transport.close()
            return
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(max(left_s, 1.0), self._close_if_idle)

    # -- requests ---------------------------------------------------------------------------

    def _next(self) -> None:
        """Take the next waiting request, or hand the connection over. A loop, not a recursion:
        any number of pipelined requests may be answered at once."""
        if self._taking:
            return
        self._taking = True
        while self._waiting and self._meter is None and not self._blocked:
            if not self._take():
                self._hand_over()
                return
        self._taking = False
        if (
            self._paused
            and len(self._waiting) <= WAITING_BYTES_MAX
            and not self._transport.is_closing()
        ):
            self._paused = False
            self._transport.resume_reading()

    def _take(self) -> bool:
        """Begin the request at the head of what waits; whether it is one for the fast lane."""
        data = self._waiting
        line_end = data.find(b"\r\n")
        head_end = data.find(b"\r\n\r\n", line_end)
        if line_end < 0 or not line_end < head_end <= HEAD_BYTES_MAX:
            return False
        matched = _REQUEST.fullmatch(data, 0, line_end)
        if matched is None:
            return False
        length = self._lanes.length_of(data[line_end + 2 : head_end])
        method, start = matched[1], head_end + 4
        if method == b"GET":
            if length != _NO_BODY:
                return False
            length = 0
        elif not 0 <= length <= VALUE_BYTES_MAX or len(data) < start + length:
            return False
        self._waiting = data[start + length :]
        self._began = perf_counter()
        self._meter = self._lanes.meters[method]
        try:
            self._key = params.decode_key(matched[2].decode())
            if method == b"GET":
                self._lanes.session.barrier(self._lanes.timeout_s).add_done_callback(self._read)
            else:
                put = Put(self._key, data[start : start + length])
                future = self._lanes.session.submit(put, self._lanes.timeout_s)
                future.add_done_callback(self._written)
        except Exception as error:
            self._answer(self._problem(error))
        return True

    def _written(self, future: "asyncio.Future[Result]") -> None:
        try:
            answer = written_answer(future.result())
        except Exception as error:
            answer = self._problem(error)
        self._answer(answer)

    def _read(self, future: "asyncio.Future[None]") -> None:
        try:
            future.result()
            found = self._lanes.session.get(self._key)
            if found is None:
                raise KeyNotFound(absent(0))
            answer = value_answer(found)
            self._lanes.outgoing.check(answer.size)
        except Exception as error:
            answer = self._problem(error)
        self._answer(answer)

    def _problem(self, error: Exception) -> Answer:
        if isinstance(error, KvError):
            return problem(error)
        if isinstance(error, StorageError):
            return problem(storage_failed())
        assert self._meter is not None
        return self._lanes.unexpected(self._meter.method, self._meter.route)

    def _answer(self, answer: Answer) -> None:
        meter, self._meter = self._meter, None
        assert meter is not None
        now = perf_counter()
        meter.observe(answer.status, now - self._began)
        self._began = now
        transport = self._transport
        if transport.is_closing():
            return
        if self._lanes.stopping:
            transport.write(answer.closing())
            transport.close()
            return
        transport.write(answer.keeping())
        if self._waiting:
            self._next()

    def _hand_over(self) -> None:
        self._idle.cancel()
        self._lanes.closed(self)
        if self._paused:
            self._transport.resume_reading()
        protocol = self._lanes.hand_over()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._waiting)
        self._waiting = b""
