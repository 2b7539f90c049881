"""A client of Server-Sent Events as the HTML standard has it (9.2.6), over raw chunks."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

WAIT_S = 60.0


class Event(NamedTuple):
    kind: str
    id: str
    data: Any


class EventSource:
    """Reads one stream. `last_id` is what a reconnection sends; comments are collected apart."""

    def __init__(self, reader: asyncio.StreamReader, last_id: str) -> None:
        self._reader = reader
        self._text = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last_id = last_id
        self.comments: list[str] = []

    async def head(self) -> None:
        async with asyncio.timeout(WAIT_S):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        self.headers = {name.lower(): value for name, value in pairs}

    async def _more(self) -> bool:
        """One chunk more; False at the proper end of the stream."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        chunk = await self._reader.readexactly(size + 2)
        self._text += chunk[:-2]
        return size > 0

    async def next(self, wait_s: float = WAIT_S) -> Event | None:
        """The next event; None at the proper end. Fails if nothing comes in time."""
        async with asyncio.timeout(wait_s):
            while True:
                block, blank, rest = self._text.partition(b"\n\n")
                if blank:
                    self._text = rest
                    if (event := self._parse(block.decode())) is not None:
                        return event
                elif not await self._more():
                    assert not self._text, "the stream ends inside an event"
                    return None

    def _parse(self, block: str) -> Event | None:
        kind, data = "message", []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments.append(value)
            elif name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
        return Event(kind, self.last_id, json.loads("\n".join(data))) if data else None

    async def changes(self, count: int) -> list[Any]:
        """The data of the next `count` changes."""
        found: list[Any] = []
        while len(found) < count:
            event = await self.next()
            assert event is not None, "the stream ended"
            if event.kind == "change":
                assert event.id == str(event.data["revision"])
                found.append(event.data)
        return found


@asynccontextmanager
async def watch(
    address: tuple[str, int],
    query: str,
    last_id: str = "",
    limit: int = 1 << 16,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[EventSource]:
    """A stream for the length of the block, its head read."""
    reader, writer = await asyncio.open_connection(*address, limit=limit)
    lines = [f"GET /v1/watch?{query} HTTP/1.1", "Host: test", "Accept: text/event-stream"]
    lines += [f"Last-Event-ID: {last_id}"] if last_id else []
    lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    source = EventSource(reader, last_id)
    await source.head()
    try:
        yield source
    finally:
        writer.close()
