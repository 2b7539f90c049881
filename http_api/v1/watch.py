"""`GET /v1/watch`: changes as they are applied here, as Server-Sent Events.

The id of every event is a revision: a client that comes back with the last one it saw as
`Last-Event-ID`, to whichever node, goes on where it stopped. The format is that of the HTML
standard, 9.2, so a browser's EventSource does this by itself.
"""

import asyncio
from typing import Any

import orjson
from aiohttp import hdrs, web

from http_api.core import params
from http_api.core.context import Context
from http_api.core.problems import Contradiction
from http_api.core.responses import Answer, stream_head
from http_api.core.router import Doc, Route
from http_api.core.streams import send
from http_api.v1.documents import bounds, event_document
from kvstore.errors import InvalidArgument, Overloaded, RevisionCompacted, Stopping
from kvstore.replica.ambient import check_read
from kvstore.replica.feed import Interest, RevisionEvents, Watcher

QUERY = ("key", "prefix", "start", "end", "from_revision", "previous", "puts", "deletes")
KEEP_ALIVE_S = 15.0
"""A stream on which nothing happens for so long says that it is alive."""
REVISIONS_PER_WRITE = 64
BYTES_PER_WRITE = 256 << 10
ENCODED_MAX = 256
"""Changes whose encoding is kept, for the other watchers that want the same."""

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"


def parse_interest(found: dict[str, bytes]) -> Interest:
    """Which events: one key, a prefix or a range, and puts or deletes or both."""
    start, end = bounds(*(found.get(name) for name in ("key", "prefix", "start", "end")))
    puts, deletes = (
        params.flag(found[name], name) if name in found else True for name in ("puts", "deletes")
    )
    if not puts and not deletes:
        raise Contradiction("with puts=false and deletes=false nothing is left to watch")
    return Interest(start, end, puts, deletes)


def first_revision(request: web.BaseRequest, found: dict[str, bytes]) -> int:
    """Where to begin: after Last-Event-ID, else at `from_revision`, else 0: with what comes."""
    last = request.headers.get(LAST_EVENT_ID)
    if last is not None:
        text = last.strip().encode("utf-8", "surrogateescape")
        return params.integer(text, LAST_EVENT_ID, 0, params.REVISION_MAX - 1) + 1
    if "from_revision" not in found:
        return 0
    return params.integer(found["from_revision"], "from_revision", 1, params.REVISION_MAX)


def sse(event: str, data: dict[str, Any], revision: int | None) -> bytes:
    """One event. orjson writes no line ends, so the data is one line."""
    identity = b"" if revision is None else b"id: %d\n" % revision
    return b"%sevent: %s\ndata: %s\n\n" % (identity, event.encode(), orjson.dumps(data))


def encode_change(change: RevisionEvents, previous: bool) -> bytes:
    """The event for a change."""
    events = [event_document(event, previous) for event in change.events]
    return sse("change", {"revision": change.revision, "events": events}, change.revision)


class WatchResource:
    """The handler of watches."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # Watchers that want a change as a whole are handed the same object.
        self._encoded: dict[tuple[int, bool], tuple[RevisionEvents, bytes]] = {}

    async def get(
        self, request: web.BaseRequest, _: str, query: str
    ) -> Answer | web.StreamResponse:
        """Stream until the client goes, the server stops, or the history needed is gone."""
        found = params.parse_query(query, QUERY)
        interest = parse_interest(found)
        first = first_revision(request, found)
        previous = params.flag(found["previous"], "previous") if "previous" in found else False
        if request.method == hdrs.METH_HEAD:
            return stream_head(EVENT_STREAM)
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: EVENT_STREAM,
                hdrs.CACHE_CONTROL: "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        check_read(self._context.replica.state.auth, interest.start, interest.end)
        async with self._context.streams.open(request):
            watcher = self._context.replica.feed.watch(interest, first)
            try:
                await response.prepare(request)
                await self._run(request, response, watcher, previous)
            finally:
                watcher.close()
        return response

    async def _run(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        watcher: Watcher,
        previous: bool,
    ) -> None:
        seen = watcher.next_revision - 1
        await send(request, response, sse("ready", {"revision": seen}, seen))
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    changes = await watcher.next(REVISIONS_PER_WRITE)
            except TimeoutError:
                if watcher.seen_revision > seen:
                    seen = watcher.seen_revision
                    message = sse("progress", {"revision": seen}, seen)
                else:
                    message = b": keep-alive\n\n"
                await send(request, response, message)
            except RevisionCompacted as error:
                data = {
                    "compacted_revision": error.compacted_revision,
                    "from_revision": watcher.next_revision,
                }
                await send(request, response, sse("compacted", data, None))
                return
            else:
                await self._send_changes(request, response, changes, previous)
                seen = changes[-1].revision

    async def _send_changes(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        changes: list[RevisionEvents],
        previous: bool,
    ) -> None:
        waiting: list[bytes] = []
        size = 0
        for change in changes:
            encoded = self._encode(change, previous)
            waiting.append(encoded)
            size += len(encoded)
            if size >= BYTES_PER_WRITE:
                await send(request, response, b"".join(waiting))
                waiting, size = [], 0
        if waiting:
            await send(request, response, b"".join(waiting))

    def _encode(self, change: RevisionEvents, previous: bool) -> bytes:
        known = self._encoded.get((id(change), previous))
        if known is not None and known[0] is change:
            return known[1]
        encoded = encode_change(change, previous)
        if len(encoded) <= BYTES_PER_WRITE // 4:
            if len(self._encoded) >= ENCODED_MAX:
                del self._encoded[next(iter(self._encoded))]
            # The change is kept along, so that its id stands for nothing else meanwhile.
            self._encoded[id(change), previous] = change, encoded
        return encoded

    def routes(self) -> list[Route]:
        """The calls of this resource."""
        return [Route("GET", "/v1/watch", self.get, _DOC)]


_DOC = Doc(
    "Watch a key, a prefix or a range",
    query=QUERY,
    headers=(LAST_EVENT_ID,),
    answers={
        200: {
            "description": "Server-Sent Events whose `id` is a revision. `ready`: everything up "
            "to its revision counts as seen. `change`: all that one revision changed, "
            '`{"revision":…,"events":[{"type":"put" or "delete","key":…,…}]}`. `progress`: '
            "nothing wanted happened up to its revision. `compacted`: the changes from "
            "`from_revision` to `compacted_revision` are lost, and the stream ends. A comment "
            "comes when nothing else does. Come back with the last id as `Last-Event-ID`.",
            "type": EVENT_STREAM,
        }
    },
    problems=(InvalidArgument, Contradiction, RevisionCompacted, Overloaded, Stopping),
)
