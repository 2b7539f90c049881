"""Hands changes on to a receiver: at least once, in order, in batches that name their revisions.

What the receiver acknowledged last is kept in the store, so whoever delivers under the same name
goes on behind it. A batch counts as acknowledged once the receiver has said so; if the process ends
between that and the mark, the batch comes again, and the receiver knows it by its revisions.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec

from kvstore.backup.lines import named_bytes
from kvstore.client import Change, Client, Event, Value, Watch, absent, put
from kvstore.errors import BackupError

MARK_PREFIX = b"kvstore-changes/"
BATCH_CHANGES_MAX = 1000
BATCH_BYTES_MAX = 1 << 20
LINGER_S = 0.2
"""A batch is sent so long after its first change, or when it is full."""
RETRY_S = (0.5, 30.0)
"""First and longest pause before a batch is tried again."""
ANSWER_S = 30.0
_AGAIN = frozenset((408, 425, 429))
"""Answers below 500 that mean: try again."""


class DeliveryMark(msgspec.Struct, frozen=True):
    """All changes up to `revision` are acknowledged."""

    revision: int


class Receiver(Protocol):
    """Takes batches. Raises TryAgain, or BackupError if trying again is in vain."""

    async def take(self, first: int, last: int, cluster_id: str, body: bytes) -> None:
        """Take all changes from revision `first` to `last`; return once it has them for good."""


class TryAgain(Exception):
    """The receiver did not take a batch, and may take it later."""


class HttpReceiver:
    """Gets each batch by POST, and acknowledges it by an answer of 2xx."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def take(self, first: int, last: int, cluster_id: str, body: bytes) -> None:
        """See Receiver."""
        headers = {
            "Content-Type": "application/x-ndjson",
            "X-First-Revision": str(first),
            "X-Last-Revision": str(last),
            "X-Cluster-Id": cluster_id,
        }
        try:
            async with self._http.post(self._url, data=body, headers=headers) as response:
                text = (await response.text(errors="replace"))[:200]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TryAgain(f"{self._url}: {error or type(error).__name__}") from None
        if response.status >= 500 or response.status in _AGAIN:
            raise TryAgain(f"{self._url} answers {response.status} {text}")
        if not 200 <= response.status < 300:
            raise BackupError(f"{self._url} refuses changes: {response.status} {text}")


class FileReceiver:
    """Appends each batch to a file, durably."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def take(self, first: int, last: int, cluster_id: str, body: bytes) -> None:
        """See Receiver."""
        try:
            await asyncio.to_thread(self._append, body)
        except OSError as error:
            raise TryAgain(f"{self._path}: {error}") from None

    def _append(self, body: bytes) -> None:
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            size = file.seek(0, os.SEEK_END)
            try:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)  # no half of a line stays
                raise


class Delivery:
    """Delivers the changes of keys with `prefix` to one receiver, under a name."""

    def __init__(
        self,
        client: Client,
        receiver: Receiver,
        name: str,
        prefix: bytes,
        tell: Callable[..., None],
    ) -> None:
        self._client = client
        self._receiver = receiver
        self._key = MARK_PREFIX + name.encode()
        self._prefix = prefix
        self._tell = tell
        self._raw: bytes | None = None
        self.acknowledged = 0

    async def run(self, since: int, stop: asyncio.Event) -> None:
        """From where it stopped, or from revision `since` on if it never began, until `stop`.

        Raises RevisionCompacted if the next change is gone, BackupError, KvError.
        """
        entry = await self._client.get(self._key)
        status = await self._client.status()
        first = since or status.revision + 1
        if entry is not None:
            self._raw = entry.value
            try:
                first = msgspec.json.decode(entry.value, type=DeliveryMark).revision + 1
            except msgspec.MsgspecError:
                raise BackupError(f"the key {self._key!r} is no mark: delete it") from None
        self.acknowledged = first - 1
        self._tell("delivering", after=self.acknowledged)
        watch = self._client.watch(prefix=self._prefix, from_revision=first)
        try:
            await self._deliver(watch, status.cluster_id, stop)
        finally:
            await watch.aclose()

    async def _deliver(self, watch: Watch, cluster_id: str, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        stopping = loop.create_task(stop.wait())
        coming = loop.create_task(watch.next_change())
        try:
            while not stop.is_set():
                await asyncio.wait((coming, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                batch: list[bytes] = []
                first = last = 0
                size, due_s = 0, loop.time() + LINGER_S
                while coming.done() and len(batch) < BATCH_CHANGES_MAX and size < BATCH_BYTES_MAX:
                    change = coming.result()
                    if change is None:
                        return
                    coming = loop.create_task(watch.next_change())
                    if line := _line(change):
                        batch.append(line)
                        size += len(line)
                        first, last = first or change.revision, change.revision
                    await asyncio.wait(
                        (coming, stopping),
                        timeout=max(0.0, due_s - loop.time()),
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if stop.is_set():
                        break
                if batch and not await self._hand_over(first, last, cluster_id, batch, stop):
                    return
        finally:
            for task in (coming, stopping):
                task.cancel()
            await asyncio.gather(coming, stopping, return_exceptions=True)

    async def _hand_over(
        self, first: int, last: int, cluster_id: str, batch: list[bytes], stop: asyncio.Event
    ) -> bool:
        """Until the receiver has it; whether it has. Raises BackupError."""
        body, pause_s, failed = b"".join(batch), RETRY_S[0], False
        while True:
            try:
                await self._receiver.take(first, last, cluster_id, body)
                break
            except TryAgain as error:
                if not failed:
                    self._tell("not delivered", reason=error, revision=first)
                failed = True
            try:
                async with asyncio.timeout(pause_s):
                    await stop.wait()
                    return False
            except TimeoutError:
                pause_s = min(2 * pause_s, RETRY_S[1])
        if failed:
            self._tell("delivered again", through=last)
        await self._remember(last)
        return True

    async def _remember(self, revision: int) -> None:
        raw = msgspec.json.encode(DeliveryMark(revision))
        held = absent(self._key) if self._raw is None else Value(self._key) == self._raw
        if not await self._client.txn(held, then=[put(self._key, raw)]):
            raise BackupError(
                f"somebody else delivers changes under the name of {self._key!r}: give each "
                "delivery a --name of its own"
            )
        self._raw, self.acknowledged = raw, revision


def _line(change: Change) -> bytes:
    """One line of JSON for a change; b"" if it is only a mark of a delivery."""
    events = [event for event in change.events if not event.key.startswith(MARK_PREFIX)]
    if not events:
        return b""
    document = {"revision": change.revision, "events": [_document(event) for event in events]}
    return msgspec.json.encode(document) + b"\n"


def _document(event: Event) -> dict[str, Any]:
    key = named_bytes("key", event.key)
    if event.deleted:
        return {"type": "delete", **key}
    entry = event.entry
    document: dict[str, Any] = {"type": "put", **key, **named_bytes("value", entry.value)}
    document["create_revision"] = entry.create_revision
    document["version"] = entry.version
    if entry.lease:
        document["lease"] = str(entry.lease)
    return document
