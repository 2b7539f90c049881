"""Streams of etcd's API: JSON documents in, messages out, for as long as both sides want.

A stream is served by a coroutine that takes a Channel, whatever carries it: a request and its
chunked response here, or a WebSocket (`http_api.etcd.websocket`). Nothing is queued. Whoever has
something to send waits for its turn and for the client to read, so a slow one costs its transport's
buffer and one message per watch; and one that reads nothing at all is cut off.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import msgspec
import orjson
from aiohttp import web

from http_api.core import bodies
from http_api.core.streams import StreamLink
from http_api.etcd.decode import ELEMENTS_MAX, decode
from http_api.etcd.errors import (
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    UNKNOWN,
    EtcdError,
    GrpcStatus,
)
from http_api.etcd.gateway import Gateway
from kvstore.errors import BodyTimeout, KvError

DOCUMENT_BYTES_MAX = 2 << 20
"""etcd's limit on one message."""

STOPPED = GrpcStatus(UNAVAILABLE, "error reading from server: EOF")
_STRUCTURE = re.compile(rb'["{}\[\]]')
_STRING_END = re.compile(rb'["\\]')
_SCALAR = re.compile(rb'[^\s{}\[\]",]+')
_NO_SPACE = re.compile(rb"[^ \t\r\n]")
_MARKS_MAX = ELEMENTS_MAX
"""Brackets, quotes and backslashes in one document. A message of a stream has some dozens."""
_DOCUMENTS_PER_TURN = 64
"""However many come at once, others get their turn after so many."""

Struct = TypeVar("Struct", bound=msgspec.Struct)


class BadDocument(EtcdError):
    """The first document of a stream cannot be read; gRPC's code for that is Unknown."""

    def __init__(self, text: str, code: int = UNKNOWN) -> None:
        super().__init__(code, text)


# -- documents in ---------------------------------------------------------------------------


class Documents:
    """Cuts a body that comes in pieces into JSON documents, looking at each byte once.

    Only brackets and strings are looked at: whether a document is right is for its decoder to say.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._depth = 0
        self._marks = 0
        self._in_string = False
        self.finished = False
        """Set it when there are no more pieces: what is left is a document, or part of one."""

    @property
    def begun(self) -> bool:
        """Whether there is part of a document, of which the rest is still to come."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """The next piece."""
        self._buffer += data

    def take(self) -> bytes | None:
        """The next document, or None if none is complete.

        Raises EtcdError if it is over DOCUMENT_BYTES_MAX, or holds too much.
        """
        buffer = self._buffer
        if not self._at:
            found = _NO_SPACE.search(buffer)
            del buffer[: found.start() if found else len(buffer)]
        if not buffer:
            return None
        end = self._end() if buffer[0] in b'{["' else self._end_of_scalar()
        if not end:
            if len(buffer) > DOCUMENT_BYTES_MAX:
                raise EtcdError(
                    RESOURCE_EXHAUSTED,
                    f"grpc: received message larger than max ({len(buffer)} vs. "
                    f"{DOCUMENT_BYTES_MAX})",
                )
            if not self.finished:
                return None
            end = len(buffer)
        document = bytes(buffer[:end])
        del buffer[:end]
        self._at = self._depth = self._marks = 0
        self._in_string = False
        return document

    def _end(self) -> int:
        """Where the object, array or string at the head ends; 0 if it goes on."""
        buffer = self._buffer
        while True:
            found = (_STRING_END if self._in_string else _STRUCTURE).search(buffer, self._at)
            if found is None:
                self._at = len(buffer)
                return 0
            self._marks += 1
            if self._marks > _MARKS_MAX:
                raise EtcdError(INVALID_ARGUMENT, "etcdserver: too much in one message")
            mark = found[0]
            if mark == b"\\":
                if found.end() == len(buffer):
                    self._at = found.start()
                    return 0
                self._at = found.end() + 1
                continue
            self._at = found.end()
            if mark == b'"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if mark in b"{[" else -1
            if self._depth <= 0 and not self._in_string:
                return self._at

    def _end_of_scalar(self) -> int:
        """Where a number or a word ends; what is neither goes to the decoder as it is."""
        found = _SCALAR.match(self._buffer)
        if found is None or self._buffer[0] not in b"-0123456789tfn":
            return len(self._buffer)
        return 0 if found.end() == len(self._buffer) else found.end()


# -- channels -------------------------------------------------------------------------------


class Channel(ABC):
    """One stream's two directions. `request` is the one that opened it.

    Raises ConnectionResetError if its client has gone already.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        self.link = StreamLink(request)
        self.turn = asyncio.Lock()
        """Held by whoever sends; messages leave in the order in which it was asked for."""
        self._documents = Documents()
        self._received = 0
        self._over = False
        self._due: float | None = None
        """When the document that is waited for must have come."""

    async def receive(self, struct: type[Struct]) -> Struct | None:
        """The next document, or None after the last; one that cannot be read is the last.

        Raises BadDocument if that is the first one already, and BodyTimeout if the first one does
        not come, or the rest of one that has begun. Between two there may be any time.
        """
        if self._over:
            return None
        try:
            while (document := self._documents.take()) is None:
                if self._documents.finished:
                    self._over = True
                    return None
                piece = await self._piece_in_time()
                if piece is None:
                    self._documents.finished = True
                else:
                    self._documents.feed(piece)
            self._received += 1
            self._due = None
            if self._received % _DOCUMENTS_PER_TURN == 0:
                await asyncio.sleep(0)
            return decode(struct, document)
        except EtcdError as error:
            self._over = True
            if self._received <= 1:
                raise BadDocument(str(error)) from None
            return None

    async def _piece_in_time(self) -> bytes | None:
        if self._due is None and (self._documents.begun or not self._received):
            self._due = asyncio.get_running_loop().time() + bodies.BODY_TIMEOUT_S
        try:
            async with asyncio.timeout_at(self._due):
                return await self._piece()
        except TimeoutError:
            self._over = True
            raise BodyTimeout(
                f"a message did not arrive whole within {bodies.BODY_TIMEOUT_S:g} seconds"
            ) from None

    async def receive_only(self, struct: type[Struct]) -> Struct:
        """The one document of a stream that takes one, read to the end of the body.

        Raises BadDocument, with the code of unary calls, and BodyTimeout.
        """
        try:
            document = await self.receive(struct)
        except BadDocument as error:
            raise BadDocument(str(error), INVALID_ARGUMENT) from None
        try:
            async with asyncio.timeout(bodies.BODY_TIMEOUT_S):
                await self.discard()
        except TimeoutError:
            raise BodyTimeout(
                f"the request did not end within {bodies.BODY_TIMEOUT_S:g} seconds"
            ) from None
        return struct() if document is None else document

    async def discard(self) -> None:
        """Read on without looking, until the client has no more to say."""
        while await self._piece() is not None:
            pass

    async def send(self, *messages: dict[str, Any]) -> None:
        """Send results, in one go, once the client has read what was sent before.

        Raises ConnectionError.
        """
        async with self.turn:
            await self.write(*messages)

    async def write(self, *messages: dict[str, Any]) -> None:
        """`send` for a caller that has the turn."""
        for message in messages:
            await self.hand_over(message)
        await self.link.drained()

    async def hand_over(self, message: dict[str, Any]) -> None:
        """`write` without waiting for the client. Raises ConnectionResetError."""
        self.link.check()
        line = orjson.dumps({"result": message}, option=orjson.OPT_APPEND_NEWLINE)
        await self._write(line)

    @abstractmethod
    async def _piece(self) -> bytes | None:
        """What comes next, at least one byte; None at the end."""

    @abstractmethod
    async def _write(self, line: bytes) -> None:
        """Hand over to the transport, without waiting for anything."""

    @abstractmethod
    async def finish(self) -> web.StreamResponse:
        """All was sent; what the handler returns."""

    @abstractmethod
    async def fail(self, gateway: Gateway, error: KvError) -> web.StreamResponse:
        """End with an error; what the handler returns."""
