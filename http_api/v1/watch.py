"""`GET /v1/watch`: changes as they are applied here, as Server-Sent Events.

The id of every event is a revision: a client that comes back with the last one it saw as
`Last-Event-ID`, to whichever node, goes on where it stopped. The format is that of the HTML
standard, 9.2, so a browser's EventSource does this by itself.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import hdrs, web

from http_api.core import params
from http_api.core.browsers import stream_headers
from http_api.core.calls import Ask, Call, Doc, NativeCall, Need
from http_api.core.encoded import EncodedOnce
from http_api.core.problems import problem_document
from http_api.core.responses import stream_head
from http_api.core.streams import StreamLink
from http_api.v1.documents import bounds, event_document
from kvstore.errors import (
    AuthError,
    Contradiction,
    InvalidArgument,
    NoQuorum,
    NotReady,
    Overloaded,
    RevisionCompacted,
    Stopping,
)
from kvstore.replica.feed import Watcher
from kvstore.replica.interest import Interest, RevisionEvents, change_bytes, event_identity

QUERY = ("key", "prefix", "start", "end", "from_revision", "previous", "puts", "deletes")
WATCH_PATH = "/v1/watch"
KEEP_ALIVE_S = 15.0
"""A stream on which nothing happens for so long says that it is alive, unless its client asks for
it more often: one that wants to know soon that its node has stopped."""
KEEP_ALIVE_S_MIN = 0.1
KEEP_ALIVES_PER_S_MAX = 2000
"""Of all streams together, about: with many of them each speaks less often than was asked."""
REVISIONS_PER_WRITE = 64
BYTES_PER_WRITE = 64 << 10
"""Small changes are sent together up to this; a larger one goes alone, and is not copied."""
READ_BYTES = 256 << 10
"""About so many bytes of changes are read at once."""
REVISIONS_AT_FIRST = 2
"""So many changes are read before their size is known."""
ENCODED_BYTES_MAX = 16 << 20
"""Of encoded changes that are kept for the other watchers that want the same."""

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"
KEEP_ALIVE = "X-Keep-Alive-S"


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


def asked_keep_alive_s(request: web.BaseRequest) -> float | None:
    """How often the client wants to hear something, None if it does not care."""
    text = request.headers.get(KEEP_ALIVE)
    if text is None:
        return None
    try:
        asked_s = float(text)
    except ValueError:
        asked_s = 0.0
    if not KEEP_ALIVE_S_MIN <= asked_s <= KEEP_ALIVE_S:
        raise InvalidArgument(
            KEEP_ALIVE, f"{KEEP_ALIVE}: seconds from {KEEP_ALIVE_S_MIN} to {KEEP_ALIVE_S:g}"
        )
    return asked_s


def sse(event: str, data: dict[str, Any], revision: int | None) -> bytes:
    """One event. orjson writes no line ends, so the data is one line."""
    identity = b"" if revision is None else b"id: %d\n" % revision
    return b"%sevent: %s\ndata: %s\n\n" % (identity, event.encode(), orjson.dumps(data))


def encode_change(change: RevisionEvents, previous: bool) -> bytes:
    """The event for a change."""
    events = [event_document(event, previous) for event in change.events]
    return sse("change", {"revision": change.revision, "events": events}, change.revision)


class EncodedChanges:
    """The events of changes, encoded once for all who watch."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        """Taken to send a large change: to make it, and to copy it into hundreds of sockets at
        once, would hold up everybody else."""
        self.kept = EncodedOnce(ENCODED_BYTES_MAX)

    def of(self, change: RevisionEvents, previous: bool) -> bytes:
        """What `encode_change` says. Who catches up reads changes anew from the history, so they
        are known by what they are."""
        key = change.revision, previous, *map(event_identity, change.events)
        return self.kept.of(key, lambda: encode_change(change, previous))


class EventStream:
    """One watch, from its first event to its last."""

    def __init__(
        self,
        link: StreamLink,
        watcher: Watcher,
        previous: bool,
        encoded: EncodedChanges,
        keep_alive_s: float | None = None,
    ) -> None:
        self._link = link
        self._watcher = watcher
        self._previous = previous
        self._encoded = encoded
        self._revisions_max = REVISIONS_AT_FIRST
        self._keep_alive_s = keep_alive_s

    async def run(self) -> None:
        """Until the history that it needs is gone; whoever ends it sooner cancels it."""
        link, watcher = self._link, self._watcher
        seen = watcher.next_revision - 1
        ready: dict[str, Any] = {"revision": seen}
        silence_s = KEEP_ALIVE_S
        if self._keep_alive_s is not None:
            ready["keep_alive_s"] = silence_s = self._keep_alive_s
        await link.send(sse("ready", ready, seen))
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    changes = await watcher.next(self._revisions_max)
            except TimeoutError:
                if watcher.seen_revision > seen:
                    seen = watcher.seen_revision
                    message = sse("progress", {"revision": seen}, seen)
                else:
                    message = b": keep-alive\n\n"
                await link.send(message)
            except RevisionCompacted as error:
                data = {
                    "compacted_revision": error.compacted_revision,
                    "from_revision": watcher.next_revision,
                }
                await link.send(sse("compacted", data, None))
                return
            except AuthError as error:  # the right to it is gone; who asks again hears why
                await link.send(sse("denied", problem_document(error), None))
                return
            else:
                seen = changes[-1].revision
                await self._send(changes)

    async def _send(self, changes: list[RevisionEvents]) -> None:
        """Send them in pieces. Who waits for its turn, or for a slow client, keeps what it is to
        send, which is shared, and not the changes, which may have been read for it alone."""
        size = sum(map(change_bytes, changes))
        each = size // len(changes) + 1
        self._revisions_max = max(1, min(REVISIONS_PER_WRITE, READ_BYTES // each))
        waiting = deque(self._encoded.of(change, self._previous) for change in changes)
        changes.clear()
        while waiting:
            if len(waiting[0]) > BYTES_PER_WRITE:
                async with self._encoded.turn:
                    await asyncio.sleep(0)  # the loop goes on between two of them
                    await self._link.write(waiting.popleft())
                await self._link.drained()
                continue
            small = [waiting.popleft()]
            size = len(small[0])
            while waiting and size + len(waiting[0]) <= BYTES_PER_WRITE:
                small.append(waiting.popleft())
                size += len(small[-1])
            await self._link.send(*small)


class WatchResource:
    """The handler of watches."""

    def __init__(self) -> None:
        self._encoded = EncodedChanges()

    async def get(self, ask: Ask[None]) -> web.StreamResponse:
        """Stream until the client goes, the server stops, the history needed is gone, or this node
        has known no leader for long, and so cannot tell what happens."""
        found = ask.options()
        interest = parse_interest(found)
        first = first_revision(ask.request, found)
        keep_alive_s = asked_keep_alive_s(ask.request)
        if keep_alive_s is not None:
            keep_alive_s = max(keep_alive_s, len(ask.streams) / KEEP_ALIVES_PER_S_MAX)
        previous = params.flag(found["previous"], "previous") if "previous" in found else False
        if ask.request.method == hdrs.METH_HEAD:
            return stream_head(EVENT_STREAM)
        response = web.StreamResponse(
            headers={
                **stream_headers(ask.request, EVENT_STREAM),
                hdrs.CACHE_CONTROL: "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        link = StreamLink(ask.request)
        absence = ask.session.leader_absence

        async def serve() -> None:
            watcher = ask.session.watch(interest, first)
            try:
                await response.prepare(ask.request)
                if absence.lasts:
                    raise absence.error()
                await EventStream(link, watcher, previous, self._encoded, keep_alive_s).run()
            finally:
                watcher.close()

        try:
            await ask.streams.run(link, serve(), absence)
        except (NoQuorum, NotReady) as error:
            # An event even where nothing was sent yet: for a browser's EventSource an answer 503 is
            # the end for good, and after this it comes back.
            with suppress(ConnectionError):
                if not response.prepared:
                    await response.prepare(ask.request)
                await link.write(sse("no-leader", {"detail": str(error)}, None))
        except ConnectionError:
            if not link.closed:
                raise
        except Stopping:
            # The server stops, and the stream ends as it should; or the node has failed.
            if not (response.prepared and ask.streams.stopping):
                raise
        return response

    def calls(self) -> list[NativeCall]:
        """The calls of this resource."""
        return [Call("GET", WATCH_PATH, self.get, Need.CALLER, _DOC)]


_DOC = Doc(
    "Watch a key, a prefix or a range",
    query=QUERY,
    headers=(LAST_EVENT_ID, KEEP_ALIVE),
    answers={
        200: {
            "description": "Server-Sent Events whose `id` is a revision. `ready`: everything up "
            "to its revision counts as seen. `change`: all that one revision changed, "
            '`{"revision":…,"events":[{"type":"put" or "delete","key":…,…}]}`. `progress`: '
            "nothing wanted happened up to its revision. `compacted`: the changes from "
            "`from_revision` to `compacted_revision` are lost, and the stream ends. `no-leader`: "
            "this node has known no leader for a few election time-outs, or has not caught up with "
            "its cluster yet, and the stream ends; go on at another node. A comment comes when "
            "nothing else does, every 15 s or as often as `X-Keep-Alive-S` asks. Come back with "
            "the last id as `Last-Event-ID`.",
            "type": EVENT_STREAM,
        }
    },
    problems=(InvalidArgument, Contradiction, RevisionCompacted, Overloaded, Stopping),
)
