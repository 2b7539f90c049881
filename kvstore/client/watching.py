"""A watch that goes on at another node after a failure: every event once, and in order."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp

from kvstore.client.answers import decode, decode_change
from kvstore.client.attempts import Attempts, Request
from kvstore.client.connections import ClientClosed
from kvstore.client.racing import STILL_TRYING_S, log
from kvstore.client.requests import Pairs, whole
from kvstore.client.results import Change, Event
from kvstore.errors import KvError, NoQuorum, OutcomeUnknown, RevisionCompacted, Unavailable

KEEP_ALIVE_S = 0.5
"""How often the node is asked to say something, so that its end is noticed soon."""
SILENT_KEEP_ALIVES = 3
"""So many that do not come mean that it is frozen, or cut off."""
RESUME_S = 60.0
"""Seconds that a watch looks for a node that serves it before it gives up."""


class ServerSentEvent(NamedTuple):
    """One event of the stream. A missing id is None: the position has not moved."""

    name: str
    data: bytes
    id: str | None


class EventStreamParser:
    """Server-Sent Events (WHATWG HTML, 9.2.6) out of bytes that come in pieces.

    Only what the API sends is kept: `event`, `data` and `id`. Lines end with LF or CR LF.
    """

    def __init__(self) -> None:
        self._partial = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """The events that `piece` completes."""
        self._partial += piece
        if b"\n" not in piece:
            return
        *lines, rest = self._partial.split(b"\n")
        self._partial = bytearray(rest)
        for line in lines:
            if line := line.removesuffix(b"\r"):
                self._field(bytes(line))
                continue
            if self._data:
                yield ServerSentEvent(self._name or "message", b"\n".join(self._data), self._id)
            self._name, self._data, self._id = "", [], None

    def _field(self, line: bytes) -> None:
        name, _, content = line.partition(b":")  # a comment has no name
        content = content.removeprefix(b" ")
        if name == b"data":
            self._data.append(content)
        elif name == b"event":
            self._name = content.decode()
        elif name == b"id":
            self._id = content.decode()


class Watch:
    """Events of the watched keys, one by one: `async for event in client.watch(prefix="a/")`.

    When the connection or its node fails, is silent for 1.5 s, or knows no leader for long, it goes
    on at another node with the revision after the last whole one. Raises RevisionCompacted when
    that is gone: read the keys again, and watch from after that read. Raises Unavailable if no node
    serves it for `resume_s` seconds.

    `async with client.watch(...) as watch:` returns once the watch has begun, so that no later
    change is missed, and ends it at the end of the block. Without `from_revision` it begins with
    what comes next.
    """

    def __init__(
        self, attempts: Attempts, query: Pairs, from_revision: int, resume_s: float | None = None
    ) -> None:
        self._attempts = attempts
        self._query = query
        first = whole(from_revision, "from_revision")
        self._seen: int | None = first - 1 if first else None
        self._resume_s = RESUME_S if resume_s is None else resume_s
        self._endpoint = attempts.preferred
        self._response: aiohttp.ClientResponse | None = None
        self._parser = EventStreamParser()
        self._silence_s: float | None = None
        self._changes: deque[Change] = deque()
        self._events: deque[Event] = deque()
        self._begun = False
        self._closed = False
        self._failures = 0
        self._give_up_s = self._tell_s = 0.0

    @property
    def seen_revision(self) -> int:
        """Every change up to here was given out, or does not concern this watch; 0: not begun.

        With `+ 1` it is the `from_revision` of a watch that goes on after this one. While a
        transaction's events are given out one by one, it does not count as seen.
        """
        if self._events:
            return self._events[0].revision - 1
        if self._changes:
            return self._changes[0].revision - 1
        return self._seen or 0

    async def __aenter__(self) -> Self:
        """Wait until it has begun."""
        while not self._begun:
            await self._advance()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """The watch itself: a second loop goes on where the first stopped."""
        return self

    async def __anext__(self) -> Event:
        """The next event; StopAsyncIteration once it is closed."""
        while not self._events:
            change = await self.next_change()
            if change is None:
                raise StopAsyncIteration
            self._events.extend(change.events)
        return self._events.popleft()

    async def changes(self) -> AsyncIterator[Change]:
        """Whole changes instead: everything that one transaction did, together."""
        while (change := await self.next_change()) is not None:
            yield change

    async def aclose(self) -> None:
        """End it: nothing more comes."""
        self._closed = True
        self._disconnect()

    def __del__(self) -> None:
        # `break` leaves a loop without closing what it iterates over.
        self._disconnect()

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response = None

    async def next_change(self) -> Change | None:
        """The next whole change; None once the watch is closed."""
        while not self._changes:
            if self._closed:
                return None
            await self._advance()
        return self._changes.popleft()

    async def _advance(self) -> None:
        try:
            async with self._attempts.connections.wanted():
                await self._read_on()
        except ClientClosed:
            self._disconnect()
            raise

    async def _read_on(self) -> None:
        """Read a piece of the stream, connected anew if need be."""
        response = self._response
        if response is None:
            response = self._response = await self._connect()
            if self._closed:
                self._disconnect()
                return
        try:
            async with asyncio.timeout(self._silence_s):
                piece = await response.content.readany()
        except (aiohttp.ClientError, OSError):
            piece = b""
        if not piece:  # the node stops, or the connection is gone
            self._disconnect()
            if not self._closed:
                await self._failed(Unavailable("the node ended the stream, or fell silent"))
            return
        for event in self._parser.feed(piece):
            if event.name == "no-leader":
                self._disconnect()
                told = decode(event.data, dict[str, str], Unavailable)
                await self._failed(NoQuorum(told.get("detail", "the node knows no leader")))
                return
            self._take(event)

    async def _connect(self) -> aiohttp.ClientResponse:
        while True:
            endpoint = self._attempts.endpoints[self._endpoint % len(self._attempts.endpoints)]
            query = self._query
            if self._seen is not None:
                query += (("from_revision", str(self._seen + 1)),)
            headers = (("Accept", "text/event-stream"), ("X-Keep-Alive-S", str(KEEP_ALIVE_S)))
            request = Request("GET", "/v1/watch", query, headers)
            limit_s = self._attempts.stream_limit_s(self._failures)
            telling = asyncio.get_running_loop().call_later(
                STILL_TRYING_S, log.info, "still trying to watch: no answer yet from %s", endpoint
            )
            try:
                response = await self._attempts.stream(endpoint, request, limit_s)
            except (Unavailable, OutcomeUnknown) as error:
                await self._failed(error)
            else:
                self._attempts.heard(endpoint, self._failures > 0)
                self._parser = EventStreamParser()
                self._silence_s = limit_s  # until `ready` says more
                return response
            finally:
                telling.cancel()

    async def _failed(self, error: KvError) -> None:
        """Turn to the next endpoint, after a pause if all had a turn. Raises Unavailable."""
        now_s = asyncio.get_running_loop().time()
        if not self._failures:
            self._tell_s = now_s + STILL_TRYING_S
            self._give_up_s = now_s + (self._resume_s if self._begun else self._attempts.timeout_s)
        self._endpoint += 1
        self._failures += 1
        if now_s >= self._tell_s:
            self._tell_s = math.inf
            log.info("still trying to watch: %s", error)
        pause_s = self._attempts.pause_s(self._failures, error)
        if now_s + pause_s >= self._give_up_s:
            raise Unavailable(f"no node serves this watch: {error}")
        await asyncio.sleep(pause_s)

    def _take(self, event: ServerSentEvent) -> None:
        self._begun = True
        self._failures = 0
        if event.name == "ready":
            told_s = decode(event.data, dict[str, float], Unavailable).get("keep_alive_s")
            # A node of an earlier release does not say; then what aiohttp's session allows holds.
            self._silence_s = None if told_s is None else SILENT_KEEP_ALIVES * told_s
        if event.name == "compacted":
            told = decode(event.data, dict[str, int], Unavailable)
            first = told.get("from_revision", self.seen_revision + 1)
            self._disconnect()
            raise RevisionCompacted(first, told.get("compacted_revision", 0))
        if event.name == "change":
            change = decode_change(event.data)
            # A node that repeats itself must not be able to make an event come twice.
            if self._seen is None or change.revision > self._seen:
                self._changes.append(change)
                self._seen = change.revision
        elif event.id is not None and event.id.isdecimal():
            # `ready` and `progress`: the node has seen everything up to here.
            self._seen = max(self._seen or 0, int(event.id))
