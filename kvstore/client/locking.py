"""Locks and elections: keys under one prefix, each held by a lease; the oldest key has its turn.

The key of lease L under `name` is `name/` and L in lower-case hexadecimal. Whoever comes waits for
the deletion of the key just before its own, so that one deletion wakes one waiter, in the order in
which they came (the recipe of Hunt et al., "ZooKeeper: Wait-free coordination for Internet-scale
systems", USENIX ATC 2010, §2.4, with revisions in place of sequence numbers).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from kvstore.client.leasing import HeldBlock, Lease, LeaseLost
from kvstore.client.operations import (
    Compare,
    CreateRevision,
    absent,
    delete,
    get,
    put,
)
from kvstore.client.queues import Queue, QueueStore
from kvstore.client.requests import octets
from kvstore.client.results import Entry, GetResult
from kvstore.client.watching import Watch
from kvstore.errors import (
    ConditionFailed,
    InvalidArgument,
    LeaseNotFound,
    RevisionCompacted,
    Unavailable,
)

LOCK_TTL_S = 10
"""Seconds that a lock stays held after its holder dies, unless the caller says otherwise."""
LOOK_AGAIN_S = 1.0
"""A place that was overwritten without its lease is not deleted when that ends."""


class LockStore(QueueStore, Protocol):
    """What locks and elections need of a client."""

    def watch(
        self,
        key: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        from_revision: int = 0,
        puts: bool = True,
    ) -> Watch:
        """See `Client.watch`."""


class NotAcquired(ConditionFailed):
    """Somebody else held it until `wait_s` was over."""

    def __init__(self, name: bytes, wait_s: float) -> None:
        super().__init__(0)
        self.args = (f"{name.decode(errors='backslashreplace')} was not free within {wait_s:g} s",)


class Turn:
    """A place in the queue of a name: taken at the start of the block, given up at its end.

    If the lease is lost, the block is cancelled, and ends with LeaseLost. That is sure only while
    this process runs: a write that must not happen after the loss carries `held` as a condition.
    """

    def __init__(
        self,
        client: LockStore,
        name: str | bytes,
        value: str | bytes,
        lease: Lease,
        wait_s: float | None = None,
    ) -> None:
        self._client = client
        self._name = octets(name, "name")
        if not self._name:
            raise InvalidArgument("name", "name: must not be empty")
        self._value = octets(value, "value")
        self._wait_s = wait_s
        self._block = HeldBlock()
        self.lease: Lease = lease
        """What holds it."""
        self.key: bytes = b""
        """The key that stands for it."""
        self.revision: int = 0
        """When the key was created. It grows from holder to holder: a fencing token."""

    @property
    def held(self) -> Compare:
        """A condition for transactions: this turn is not over."""
        return CreateRevision(self.key) == self.revision

    @property
    def lease_id(self) -> int:
        """The number of the lease that holds it. Raises RuntimeError before it is granted."""
        return self.lease.id

    @property
    def lost(self) -> asyncio.Event:
        """Set when it is lost, because its lease is."""
        return self.lease.lost

    def check(self) -> None:
        """Raises LeaseLost once it is lost."""
        self.lease.check()

    async def __aenter__(self) -> Self:
        """Wait for the turn. Raises NotAcquired after `wait_s`, LeaseLost if the lease is lost."""
        await self.lease.__aenter__()
        try:
            self._block.enter(self.lease)
            try:
                async with asyncio.timeout(self._wait_s) as waiting:
                    await self._acquire()
            except TimeoutError as error:
                if not waiting.expired():
                    raise
                self._block.leave(error)
                raise NotAcquired(self._name, self._wait_s or 0.0) from None
            except BaseException as error:
                self._block.leave(error)
                raise
        except BaseException:
            # Those behind this place in the queue must not wait until its lease runs out.
            await self.lease.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it up. Raises LeaseLost if it was lost, and that is how the block ended."""
        try:
            self._block.leave(error)
        finally:
            await self.lease.__aexit__(None, None, None)

    async def _acquire(self) -> None:
        self.key = self._name + b"/%x" % self.lease.id
        try:
            done = await self._client.txn(
                absent(self.key),
                then=[put(self.key, self._value, lease=self.lease.id), get(self.key)],
                otherwise=[get(self.key)],
            )
        except LeaseNotFound as error:
            raise LeaseLost(f"the lease {self.lease.id} ended") from error
        self.revision = _entries(done.results[-1])[0].create_revision
        queue = Queue(self._client, self._name)
        while True:
            before, own, revision = await queue.last_before(self.revision, self.key)
            if own is None or own.create_revision != self.revision:
                raise LeaseLost(f"the key of the lease {self.lease.id} went while it waited")
            if before is None:
                return
            again_s = None if before.lease else LOOK_AGAIN_S
            with suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._one_deleted({before.key, self.key}, revision)

    async def _one_deleted(self, keys: set[bytes], revision: int) -> None:
        """Wait until one of `keys`, which existed at `revision`, is deleted: the one before, or
        this turn's own, which would never have its turn. One stream for both, over what lies
        between them: the deletions of some others come too, and are passed over."""
        first, last = min(keys), max(keys)
        with suppress(RevisionCompacted):  # then look again
            async with self._client.watch(
                start=first, end=last + b"\0", from_revision=revision + 1, puts=False
            ) as watch:
                async for event in watch:
                    if event.key in keys:
                        return


class Lock(Turn):
    """`async with client.lock("name") as lock:` one holder at a time, in the order of asking."""


class Leadership(Turn):
    """`async with client.elect("name", "me") as leadership:` a lock with a value."""

    async def proclaim(self, value: str | bytes) -> None:
        """Change the value. Raises LeaseLost if this is no longer the leader."""
        done = await self._client.txn(self.held, then=[put(self.key, value, lease=self.lease.id)])
        if not done:
            raise LeaseLost(f"{self.key.decode(errors='backslashreplace')} leads no more")

    async def resign(self) -> None:
        """Let the next one lead before the block ends; the block itself goes on."""
        await self._client.txn(self.held, then=[delete(self.key)])


async def leader(client: LockStore, name: str | bytes) -> tuple[Entry | None, int]:
    """The key of whoever leads `name`, and the revision of the reading."""
    return await Queue(client, octets(name, "name")).first()


async def observe(client: LockStore, name: str | bytes) -> AsyncIterator[Entry]:
    """The leader of `name` now, and each new one or new value of it from then on."""
    told: Entry | None = None
    while True:
        current, revision = await leader(client, name)
        if current is not None and current != told:
            told = current
            yield current
        with suppress(RevisionCompacted):
            prefix = octets(name, "name") + b"/"
            async with client.watch(prefix=prefix, from_revision=revision + 1) as seen:
                async for _ in seen.changes():
                    break


def _entries(result: Any) -> tuple[Entry, ...]:
    if not isinstance(result, GetResult):
        raise Unavailable("the endpoint answered a get with something else")
    return result.items
