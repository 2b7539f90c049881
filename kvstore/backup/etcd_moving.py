"""Moves a live etcd into this store: copies it as of one revision, follows its changes, and ends at
the revision of the cut, at which both hold the same.

How far it is, is the mark of an import (`kvstore.backup.importing`): a killed move goes on, and
nothing is done twice. Leases keep their numbers, and are kept alive here for as long as etcd has
them: their holders talk to etcd until the cut.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from kvstore.backup.etcd_reading import EtcdEvent, EtcdKey, EtcdReader
from kvstore.backup.importing import BYTES_MAX, KEYS_MAX, MARK_PREFIX, Import, ImportMark, grant
from kvstore.client import Client, LeaseNotFound, Operation, delete, put
from kvstore.errors import BackupError, NoQuorum

LOOK_LEASES_S = 30.0
"""How often it is looked which leases etcd still has."""
TICK_S = 0.5
RETRY_S = 0.5

HEARD_MAX = 256
"""Messages of etcd's watch that wait."""


class MoveMark(NamedTuple):
    """Where a move is. `copied` None: everything as of `revision` is here, and so are `part` events
    of the changes after it; else the last key that was copied as of `revision`."""

    revision: int = 0
    copied: bytes | None = b""
    part: int = 0

    def encode(self) -> str:
        """As `ImportMark.at` has it."""
        copied = None if self.copied is None else base64.b64encode(self.copied).decode()
        return json.dumps([self.revision, copied, self.part])


def decode_mark(text: str) -> MoveMark:
    """What `encode` made; the beginning for "". Raises BackupError."""
    if not text:
        return MoveMark()
    try:
        revision, copied, part = json.loads(text)
        return MoveMark(revision, None if copied is None else base64.b64decode(copied), part)
    except (ValueError, TypeError):
        raise BackupError("this mark is not one of a move from etcd: give another --name") from None


class Moved(NamedTuple):
    """A move that has ended: etcd's revision at the cut, and what both hold."""

    revision: int
    keys: int
    leases: int


class _MarkMoved(Exception):
    """The mark is elsewhere: an attempt before had come through, or somebody moves the same."""


class EtcdMove:
    """One move. `say` hears a sentence when something happens, `advance` how many changes of keys
    were made."""

    def __init__(
        self,
        etcd: EtcdReader,
        client: Client,
        name: str,
        *,
        merge: bool,
        say: Callable[[str], None],
        advance: Callable[[int], None],
    ) -> None:
        self._etcd = etcd
        self._client = client
        self._mark = Import(client, name, advance)
        self._merge = merge
        self._say = say
        self._leases: dict[int, int] = {}
        self._ended: set[int] = set()
        self.caught_up = asyncio.Event()

    async def run(self, cut: asyncio.Event) -> Moved:
        """Until `cut`, and then until both are the same. Raises BackupError, KvError."""
        alive = asyncio.create_task(self._keep_leases())
        try:
            await self._mark.begin()
            revision = await self._run(cut)
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
        await self._look_at_leases()
        keys = await self._compare(revision)
        return Moved(revision, keys, len(self._leases))

    async def _run(self, cut: asyncio.Event) -> int:
        while True:
            mark = decode_mark(self._mark.mark.at)
            try:
                if mark.revision == 0:
                    await self._begin()
                elif mark.copied is not None:
                    await self._copy(mark)
                else:
                    return await self._follow(mark, cut)
            except _MarkMoved:
                continue
            except NoQuorum as error:
                self._say(f"{error}; trying again")
                await asyncio.sleep(RETRY_S)

    async def _begin(self) -> None:
        if not self._merge:
            async for entry in self._client.list(keys_only=True):
                if not entry.key.startswith(MARK_PREFIX):
                    raise BackupError(
                        "this store is not empty: with --merge keys of etcd are put over its own"
                    )
        revision = await self._etcd.revision()
        self._say(f"copying etcd as of its revision {revision}")
        await self._move(MoveMark(revision, b""), [], 0)

    async def _copy(self, mark: MoveMark) -> None:
        after, more = mark.copied or b"", True
        while more:
            page = await self._etcd.page(after, mark.revision)
            for batch in _key_batches(page.keys):
                operations = [await self._put(key) for key in batch]
                await self._move(MoveMark(mark.revision, batch[-1].key), operations, len(batch))
                after = batch[-1].key
            more = page.more and bool(page.keys)
        await self._move(MoveMark(mark.revision, None), [], 0)
        self._say("copied; following its changes")

    async def _follow(self, mark: MoveMark, cut: asyncio.Event) -> int:
        """Etcd's revision at the cut, up to which all is here."""
        at, part, until = mark.revision, mark.part, 0
        loop, seen, look_s = asyncio.get_running_loop(), 0, 0.0
        heard: asyncio.Queue[list[EtcdEvent]] = asyncio.Queue(HEARD_MAX)
        listening = loop.create_task(self._listen(at + 1, heard))
        try:
            while not until or at < until:
                events = await _all(heard, TICK_S, listening)
                if events:
                    await self._apply(events, part)
                    at, part = events[-1].revision, 0
                if not self.caught_up.is_set() and loop.time() >= look_s:
                    if look_s and at >= seen:  # all that there was a moment ago is here
                        self.caught_up.set()
                        self._say(f"caught up at revision {at}")
                    seen, look_s = await self._etcd.revision(), loop.time() + TICK_S
                if cut.is_set() and not until:
                    until = await self._etcd.revision()
                    self._say(f"cut at revision {until}")
            return at
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, first: int, heard: "asyncio.Queue[list[EtcdEvent]]") -> None:
        """Until the watch ends. Raises NoQuorum, BackupError."""
        async with aclosing(self._etcd.changes(first)) as changes:
            async for events in changes:
                await heard.put(events)
        raise NoQuorum("etcd ended the watch")

    async def _apply(self, events: list[EtcdEvent], part: int) -> None:
        """All of them, whole revisions of etcd, but for the first `part`, which were made before;
        each transaction of etcd as a whole, often several together."""
        for batch in event_batches(events, part):
            operations = [
                delete(event.key) if event.now is None else await self._put(event.now)
                for event in batch.last_of_key
            ]
            await self._move(batch.mark, operations, batch.events)

    async def _put(self, key: EtcdKey) -> Operation:
        """Raises BackupError, KvError."""
        lease = key.lease
        if lease and lease not in self._leases:
            ttl_s = 0 if lease in self._ended else await self._etcd.lease_ttl_s(lease)
            if ttl_s:
                await grant(self._client, lease, ttl_s)
                self._leases[lease] = ttl_s
            else:  # the deletion of its keys comes with the changes
                self._ended.add(lease)
        return put(key.key, key.value, lease=lease if lease in self._leases else 0)

    async def _move(self, at: MoveMark, operations: list[Operation], keys: int) -> None:
        mark = ImportMark(self._mark.mark.records + keys, False, at.encode())
        try:
            if not await self._mark.move(mark, operations):
                raise _MarkMoved
        except LeaseNotFound:  # it ended here: it is asked again how it is with etcd
            self._leases.clear()
            raise _MarkMoved from None

    # -- leases -----------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        """Renew here what etcd has."""
        loop = asyncio.get_running_loop()
        renewed_s: dict[int, float] = {}
        looked_s = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            for lease, ttl_s in list(self._leases.items()):
                if loop.time() - renewed_s.get(lease, 0.0) >= ttl_s / 4:
                    with suppress(LeaseNotFound, NoQuorum):
                        await self._client.keep_alive(lease)
                    renewed_s[lease] = loop.time()
            if loop.time() - looked_s >= LOOK_LEASES_S:
                looked_s = loop.time()
                with suppress(NoQuorum):
                    await self._look_at_leases()
                renewed_s = {lease: at for lease, at in renewed_s.items() if lease in self._leases}

    async def _look_at_leases(self) -> None:
        """Those that etcd has no more end here, too."""
        there = await self._etcd.leases()
        for lease in [lease for lease in self._leases if lease not in there]:
            del self._leases[lease]
            with suppress(LeaseNotFound):
                await self._client.revoke(lease)

    # -- the end ----------------------------------------------------------------------------

    async def _compare(self, revision: int) -> int:
        """How many keys both have. Raises BackupError for the first difference."""
        theirs = self._etcd.keys(revision)
        theirs_next = await anext(theirs, None)
        count = 0
        async for entry in self._client.list():
            if entry.key.startswith(MARK_PREFIX):
                continue
            if theirs_next is None or theirs_next.key != entry.key:
                if self._merge and (theirs_next is None or theirs_next.key > entry.key):
                    continue
                raise BackupError(f"{entry.key!r} is here, and not in etcd at revision {revision}")
            if theirs_next.value != entry.value:
                raise BackupError(f"{entry.key!r} differs from etcd at revision {revision}")
            count += 1
            theirs_next = await anext(theirs, None)
        if theirs_next is not None:
            raise BackupError(f"{theirs_next.key!r} of etcd's revision {revision} is missing here")
        return count


def _key_batches(keys: Sequence[EtcdKey]) -> Iterator[list[EtcdKey]]:
    """Runs of keys for a transaction each."""
    batch: list[EtcdKey] = []
    size = 0
    for key in keys:
        grown = size + len(key.key) + len(key.value)
        if batch and (len(batch) == KEYS_MAX or grown > BYTES_MAX):
            yield batch
            batch, grown = [], len(key.key) + len(key.value)
        batch.append(key)
        size = grown
    if batch:
        yield batch


class EventBatch(NamedTuple):
    """Events for one transaction: of each key the last one. `events`: how many they were in all."""

    last_of_key: list[EtcdEvent]
    events: int
    mark: MoveMark


def event_batches(events: Sequence[EtcdEvent], part: int) -> Iterator[EventBatch]:
    """All events but the first `part`, in transactions; a revision of etcd is cut only where it is
    more than one may hold."""
    last: dict[bytes, EtcdEvent] = {}
    count = revision = 0
    for revision, group in _revisions(events):
        rest = group[part:]
        size = sum(map(_bytes, (*last.values(), *rest)))
        if last and (len(last.keys() | {e.key for e in rest}) > KEYS_MAX or size > BYTES_MAX):
            yield EventBatch(list(last.values()), count, MoveMark(revision - 1, None))
            last, count = {}, 0
        while len(rest) > KEYS_MAX:
            part += KEYS_MAX
            cut, rest = rest[:KEYS_MAX], rest[KEYS_MAX:]
            yield EventBatch(cut, len(cut), MoveMark(revision - 1, None, part))
        for event in rest:
            last.pop(event.key, None)
            last[event.key] = event
        count, part = count + len(rest), 0
    if count:
        yield EventBatch(list(last.values()), count, MoveMark(revision, None))


def _revisions(events: Sequence[EtcdEvent]) -> Iterator[tuple[int, list[EtcdEvent]]]:
    for revision, group in groupby(events, key=attrgetter("revision")):
        yield revision, list(group)


def _bytes(event: EtcdEvent) -> int:
    return len(event.key) + (0 if event.now is None else len(event.now.value))


async def _all(
    heard: "asyncio.Queue[list[EtcdEvent]]", wait_s: float, listening: "asyncio.Task[None]"
) -> list[EtcdEvent]:
    """What was heard, after waiting for something for a while. Raises what ended the listening."""
    events: list[EtcdEvent] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            events += await heard.get()
    while not heard.empty():
        events += heard.get_nowait()
    if not events and listening.done():
        listening.result()
    return events
