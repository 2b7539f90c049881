"""etcd's Watch: any number of watches on one stream, served from this node's own change feed.

Each watch has a task that waits for changes, then for its turn to send, and only then reads them:
however many watches there are on a stream whose client reads nothing, one of them holds changes,
and the others their position. A header shows a revision up to which its watch has been sent
everything: clients resume from the next one.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdStream, StreamCall, stream
from http_api.etcd.decode import ProtoEnum
from http_api.etcd.encode import document
from http_api.etcd.errors import (
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    status_of,
)
from http_api.etcd.kv import NO_END, bounds
from http_api.etcd.watch_events import LARGE_BYTES_MIN, EncodedEvents, event_bytes, fragments
from kvstore.errors import (
    AuthError,
    Overloaded,
    PermissionDenied,
    Reason,
    RequestError,
    RevisionCompacted,
)
from kvstore.replica.feed import REVISIONS_PER_READ, Watcher
from kvstore.replica.interest import Interest, RevisionEvents
from kvstore.state.mvcc import KeyEvent

PROGRESS_INTERVAL_S = 600.0
"""A watch that asked for notes of progress gets one after so long without events."""
MESSAGE_BYTES_MAX = 1 << 20
"""History is sent in messages of about this size, cut between revisions."""
READ_BYTES = 256 << 10
"""About so much is read at once."""
REVISIONS_AT_FIRST = 64
"""So many changes are read before their size is known; the history stops sooner for large ones."""
WATCHES_MAX = 1000
"""On one stream. Further ones belong on another, which may be refused or served elsewhere."""

_NO_WATCH = -1
_CODE_NAMES = {
    INVALID_ARGUMENT: "InvalidArgument",
    PERMISSION_DENIED: "PermissionDenied",
    UNAUTHENTICATED: "Unauthenticated",
}


class FilterType(ProtoEnum):
    """Events that are not wanted."""

    NOPUT = 0
    NODELETE = 1

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.WatchCreateRequest.FilterType"


class WatchCreateRequest(msgspec.Struct):
    """`watch_id` 0: the server chooses. `start_revision` 0: from now on."""

    key: bytes = b""
    range_end: bytes = b""
    start_revision: int = 0
    progress_notify: bool = False
    filters: list[FilterType] = []
    prev_kv: bool = False
    watch_id: int = 0
    fragment: bool = False


class WatchCancelRequest(msgspec.Struct):
    watch_id: int = 0


class WatchProgressRequest(msgspec.Struct):
    """Has no fields."""


class WatchRequest(msgspec.Struct):
    """One of the three, or nothing."""

    create_request: WatchCreateRequest | None = None
    cancel_request: WatchCancelRequest | None = None
    progress_request: WatchProgressRequest | None = None


def interest(request: WatchCreateRequest) -> Interest | None:
    """What is to be watched; None for a range that holds no key.

    An empty key stands for the lowest one, an empty end for no range, one zero byte for no end.
    """
    key = request.key or b"\0"
    if request.range_end not in (b"", NO_END) and request.range_end <= key:
        return None
    start, end = bounds(key, request.range_end)
    filters = request.filters
    return Interest(
        start, end, puts=FilterType.NOPUT not in filters, deletes=FilterType.NODELETE not in filters
    )


def _refusal(error: RequestError) -> str:
    """Why a caller may not watch, as etcd since 3.5.9 says it: one whose token is bad logs in again
    when it reads `Unauthenticated`, and gives up when it reads that it lacks a right."""
    status = status_of(error)
    if status.code not in _CODE_NAMES:
        status = status_of(PermissionDenied(Reason.DENIED))
    return f"rpc error: code = {_CODE_NAMES[status.code]} desc = {status.text}"


class _Watch:
    """One watch of a stream."""

    def __init__(self, id: int, request: WatchCreateRequest, watcher: Watcher) -> None:
        self.id = id
        self.request = request
        self.watcher = watcher
        self.revisions_max = REVISIONS_AT_FIRST
        self.task: asyncio.Task[None] | None = None

    async def ready(self) -> bool:
        """Until there are changes to look at; False if it is time for a note of progress.

        Raises RevisionCompacted.
        """
        if not self.request.progress_notify:
            await self.watcher.ready()
            return True
        try:
            async with asyncio.timeout(PROGRESS_INTERVAL_S):
                await self.watcher.ready()
                return True
        except TimeoutError:
            return False

    async def take(self) -> list[RevisionEvents]:
        """About READ_BYTES of the next changes; none if none of those looked at is wanted.

        Raises RevisionCompacted.
        """
        changes = await self.watcher.take(self.revisions_max)
        size = sum(event_bytes(event) for change in changes for event in change.events)
        each = size // self.revisions_max + 1
        self.revisions_max = max(1, min(REVISIONS_PER_READ, READ_BYTES // each))
        return changes

    def messages(
        self, changes: list[RevisionEvents], live: bool
    ) -> Iterator[tuple[int, list[KeyEvent]]]:
        """Events and the revision to show with them: of each revision alone as they happen, of
        many when they are history. Events of one revision are never parted."""
        through = self.watcher.seen_revision
        events: list[KeyEvent] = []
        size = 0
        for number, change in enumerate(changes, 1):
            events += change.events
            size += sum(map(event_bytes, change.events))
            last = number == len(changes)
            if last or live or size >= MESSAGE_BYTES_MAX:
                yield through if last and not live else change.revision, events
                events, size = [], 0


class _Watches:
    """All watches of one stream."""

    def __init__(
        self, opened: EtcdStream, tasks: asyncio.TaskGroup, encoded: EncodedEvents
    ) -> None:
        self._encoded = encoded
        self._opened = opened
        self._gateway = opened.gateway
        self._channel = opened.channel
        self._tasks = tasks
        self._watches: dict[int, _Watch] = {}
        self._next_id = 0

    async def handle(self, request: WatchRequest) -> None:
        """One document of the client's."""
        if request.create_request is not None:
            await self._create(request.create_request)
        elif request.cancel_request is not None:
            await self._cancel(request.cancel_request.watch_id)
        elif request.progress_request is not None:
            async with self._channel.turn:
                # Taken within the turn: nothing is sent between looking and writing.
                header = self._gateway.header(self._seen_revision())
                await self._channel.write(document(header=header, watch_id=_NO_WATCH))

    def close(self) -> None:
        """The stream ends."""
        for watch in self._watches.values():
            watch.watcher.close()

    def _seen_revision(self) -> int:
        """Every watch has been sent everything up to here."""
        now = self._gateway.revision
        seen = min([now, *(watch.watcher.seen_revision for watch in self._watches.values())])
        return max(1, seen)  # that of the empty store, which everybody has seen

    # -- one watch --------------------------------------------------------------------------

    async def _create(self, request: WatchCreateRequest) -> None:
        gateway = self._gateway
        header = gateway.header()
        try:
            session = (await self._opened.ask(request)).session
            session.check_watch(*bounds(request.key or b"\0", request.range_end))
        except RequestError as error:
            # With an id that no watch has: 0, as etcd 3.5.1 answers, may be that of another one.
            await self._refuse(header, _refusal(error))
            return
        wanted = interest(request)
        if wanted is None:
            await self._refuse(header, "mvcc: watcher range is empty")
            return
        if request.watch_id in self._watches and request.watch_id:
            reason = "mvcc: duplicate watch ID provided on the WatchStream"
            await self._refuse(header, reason)
            return
        if len(self._watches) >= WATCHES_MAX:
            reason = f"etcdserver: {WATCHES_MAX} watches are on this stream already"
            await self._refuse(header, reason)
            return
        header = gateway.header()
        try:
            watcher = session.watch(wanted, request.start_revision)
        except RevisionCompacted as error:
            id = self._choose_id(request.watch_id)
            await self._channel.send(
                document(header=header, watch_id=id, created=True), self._compacted(id, error)
            )
            return
        except Overloaded as error:
            await self._refuse(header, status_of(error).text)
            return
        id = self._choose_id(request.watch_id)
        watch = self._watches[id] = _Watch(id, request, watcher)
        await self._channel.send(document(header=header, watch_id=id, created=True))
        watch.task = self._tasks.create_task(self._pump(watch))

    def _choose_id(self, wanted: int) -> int:
        if wanted:
            return wanted
        while self._next_id in self._watches:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    async def _refuse(self, header: dict[str, Any], reason: str) -> None:
        refused = {"watch_id": _NO_WATCH, "created": True, "canceled": True}
        await self._channel.send(document(header=header, **refused, cancel_reason=reason))

    def _compacted(self, id: int, error: RevisionCompacted) -> dict[str, Any]:
        # Nothing has been compacted yet if this is 0, which would be left out: etcd says -1.
        revision = error.compacted_revision or -1
        return document(
            header=self._gateway.header(0), watch_id=id, canceled=True, compact_revision=revision
        )

    async def _cancel(self, id: int) -> None:
        watch = self._watches.pop(id, None)
        if watch is None:
            return
        if watch.task is not None:
            watch.task.cancel()
        watch.watcher.close()
        await self._channel.send(
            document(header=self._gateway.header(), watch_id=id, canceled=True)
        )

    async def _pump(self, watch: _Watch) -> None:
        """Send what happens until it is cancelled."""
        gateway, watcher = self._gateway, watch.watcher
        try:
            live = False
            while True:
                caught_up = watcher.next_revision > gateway.revision
                changed = await watch.ready()
                async with self._channel.turn:
                    live = caught_up or (live and watcher.recent)
                    if changed:
                        changes = await watch.take()
                        for revision, events in watch.messages(changes, live):
                            await self._write_events(watch, revision, events)
                    else:
                        header = gateway.header(watcher.seen_revision)
                        await self._channel.write(document(header=header, watch_id=watch.id))
        except RevisionCompacted as error:
            if self._watches.pop(watch.id, None) is not None:
                watcher.close()
                await self._channel.send(self._compacted(watch.id, error))
        except AuthError as error:  # the right to it is gone
            if self._watches.pop(watch.id, None) is not None:
                watcher.close()
                header, reason = gateway.header(), _refusal(error)
                ended = document(
                    header=header, watch_id=watch.id, canceled=True, cancel_reason=reason
                )
                await self._channel.send(ended)

    async def _write_events(self, watch: _Watch, revision: int, events: list[KeyEvent]) -> None:
        header = self._gateway.header(revision)
        pieces = fragments(events) if watch.request.fragment else [(events, False)]
        for piece, more in pieces:
            if sum(map(event_bytes, piece)) < LARGE_BYTES_MIN:
                await self._channel.write(self._message(watch, header, piece, more))
                continue
            async with self._encoded.turn:
                await asyncio.sleep(0)  # the loop goes on between two of them
                await self._channel.hand_over(self._message(watch, header, piece, more))
            await self._channel.link.drained()

    def _message(
        self, watch: _Watch, header: dict[str, Any], piece: list[KeyEvent], more: bool
    ) -> dict[str, Any]:
        previous = watch.request.prev_kv
        events = [self._encoded.of(event, previous) for event in piece]
        return document(header=header, watch_id=watch.id, fragment=more, events=events)


class WatchStreams:
    """The call, and what its streams share."""

    def __init__(self) -> None:
        self._encoded = EncodedEvents()

    async def serve(self, opened: EtcdStream) -> None:
        """Until the client goes: the end of its requests is not the end of its watches."""
        watches: _Watches | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                watches = _Watches(opened, tasks, self._encoded)
                while (message := await opened.channel.receive(WatchRequest)) is not None:
                    await watches.handle(message)
                await opened.channel.discard()
                await asyncio.get_running_loop().create_future()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            if watches is not None:
                watches.close()

    def calls(self) -> tuple[StreamCall[WatchRequest], ...]:
        """The row."""
        return (
            stream(
                "watch", WatchRequest, self.serve, Need.CALLER,
                "Every change of the keys that are watched, as it happens or from a revision on.",
            ),
        )  # fmt: skip
