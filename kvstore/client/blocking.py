"""The blocking client: the async one, run by a private event-loop thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from kvstore.client.aio import Client
from kvstore.client.blocking_handles import (
    BlockingLeadership,
    BlockingLease,
    BlockingTurn,
    BlockingWatch,
)
from kvstore.client.keys import HISTORY_ITEMS, PAGE_ITEMS
from kvstore.client.leasing import Lease
from kvstore.client.locking import LOCK_TTL_S, Lock
from kvstore.client.operations import Compare, Operation
from kvstore.client.results import (
    BatchResult,
    ClusterStatus,
    CompactResult,
    DeleteResult,
    Entry,
    Event,
    HandOverResult,
    History,
    LeaseStatus,
    Page,
    PutResult,
    Selection,
    TxnResult,
)

_T = TypeVar("_T")


class BlockingClient:
    """`Client` for code without an event loop. Threads may share one; close it when done.

    Arguments, answers and errors are those of `Client`.

    ::

        with BlockingClient("http://127.0.0.1:2379,http://127.0.0.1:2389") as store:
            store.put("greeting", "hello")
            for entry in store.list(prefix="gre"):
                print(entry.key, entry.value)
    """

    def __init__(
        self,
        endpoints: str | list[str] | tuple[str, ...] = "http://127.0.0.1:2379",
        timeout_s: float = 10.0,
        attempt_timeout_s: float | None = None,
    ) -> None:
        self._client = Client(endpoints, timeout_s, attempt_timeout_s)
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a forgotten close() does not keep the interpreter from ending.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="kvstore-client", daemon=True
        )
        self._thread.start()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The base addresses, in the order in which they are tried."""
        return self._client.endpoints

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections and end the thread."""
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread. A second call does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def put(
        self,
        key: str | bytes,
        value: str | bytes,
        *,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_exists: bool = False,
        ttl_s: int | None = None,
        lease: int = 0,
    ) -> PutResult:
        """See `Client.put`."""
        return self._run(
            self._client.put(
                key,
                value,
                if_revision=if_revision,
                if_absent=if_absent,
                if_exists=if_exists,
                ttl_s=ttl_s,
                lease=lease,
            )
        )

    def get(
        self, key: str | bytes, *, revision: int = 0, serializable: bool = False
    ) -> Entry | None:
        """See `Client.get`."""
        return self._run(self._client.get(key, revision=revision, serializable=serializable))

    def delete(
        self, key: str | bytes, *, if_revision: int | None = None, if_exists: bool = False
    ) -> DeleteResult:
        """See `Client.delete`."""
        return self._run(self._client.delete(key, if_revision=if_revision, if_exists=if_exists))

    def page(
        self,
        *,
        limit: int = PAGE_ITEMS,
        cursor: str | None = None,
        **selection: Unpack[Selection],
    ) -> Page:
        """See `Client.page`."""
        return self._run(self._client.page(limit=limit, cursor=cursor, **selection))

    def list(
        self,
        *,
        limit: int | None = None,
        page_items: int = PAGE_ITEMS,
        **selection: Unpack[Selection],
    ) -> Iterator[Entry]:
        """See `Client.list`."""
        entries = self._client.list(limit=limit, page_items=page_items, **selection)
        while chunk := self._run(_take(entries, page_items)):
            yield from chunk

    def txn(
        self,
        *compares: Compare,
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnResult:
        """See `Client.txn`."""
        return self._run(self._client.txn(*compares, then=then, otherwise=otherwise))

    def txn_document(self, document: dict[str, Any]) -> TxnResult:
        """See `Client.txn_document`."""
        return self._run(self._client.txn_document(document))

    def batch(self, operations: Sequence[Operation]) -> tuple[BatchResult, ...]:
        """See `Client.batch`."""
        return self._run(self._client.batch(operations))

    def history_page(
        self, key: str | bytes, *, limit: int = HISTORY_ITEMS, revision: int = 0
    ) -> History:
        """See `Client.history_page`."""
        return self._run(self._client.history_page(key, limit=limit, revision=revision))

    def history(self, key: str | bytes, *, limit: int | None = None) -> Iterator[Event]:
        """See `Client.history`."""
        events = self._client.history(key, limit=limit)
        while chunk := self._run(_take(events, HISTORY_ITEMS)):
            yield from chunk

    def watch(
        self,
        key: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        from_revision: int = 0,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
        resume_s: float | None = None,
    ) -> BlockingWatch:
        """See `Client.watch`."""
        watch = self._client.watch(
            key,
            prefix=prefix,
            start=start,
            end=end,
            from_revision=from_revision,
            previous=previous,
            puts=puts,
            deletes=deletes,
            resume_s=resume_s,
        )
        return BlockingWatch(self._run, watch)

    def lease(self, ttl_s: int, *, lease_id: int | None = None) -> BlockingLease:
        """Grant a lease. `with` keeps it alive in the background; see `Client.lease`.

        ::

            with store.lease(10) as lease:
                store.put("workers/7", "up", lease=lease.id)
                while not lease.lost.wait(1):
                    work()
        """
        lease = self._client.lease(ttl_s, lease_id=lease_id)
        self._run(_granted(lease))
        return BlockingLease(self._run, lease)

    def leases(self) -> tuple[LeaseStatus, ...]:
        """See `Client.leases`."""
        return self._run(self._client.leases())

    def lease_status(self, lease: int) -> LeaseStatus:
        """See `Client.lease_status`."""
        return self._run(self._client.lease_status(lease))

    def keep_alive(self, lease: int) -> LeaseStatus:
        """See `Client.keep_alive`."""
        return self._run(self._client.keep_alive(lease))

    def revoke(self, lease: int) -> DeleteResult:
        """See `Client.revoke`."""
        return self._run(self._client.revoke(lease))

    def lock(
        self, name: str | bytes, *, ttl_s: int = LOCK_TTL_S, wait_s: float | None = None
    ) -> BlockingTurn[Lock]:
        """See `Client.lock`; `BlockingTurn` says what differs.

        ::

            with store.lock("reports") as lock:
                for part in parts:
                    lock.check()
                    store.txn(lock.held, then=[put(part.name, part.text)])
        """
        return BlockingTurn(self._run, self._client.lock(name, ttl_s=ttl_s, wait_s=wait_s))

    def elect(
        self,
        name: str | bytes,
        value: str | bytes,
        *,
        ttl_s: int = LOCK_TTL_S,
        wait_s: float | None = None,
    ) -> BlockingLeadership:
        """See `Client.elect`."""
        leadership = self._client.elect(name, value, ttl_s=ttl_s, wait_s=wait_s)
        return BlockingLeadership(self._run, leadership)

    def leader(self, name: str | bytes) -> Entry | None:
        """See `Client.leader`."""
        return self._run(self._client.leader(name))

    def observe(self, name: str | bytes) -> Iterator[Entry]:
        """See `Client.observe`."""
        leaders = self._client.observe(name)
        while taken := self._run(_take(leaders, 1)):
            yield from taken

    def status(self, endpoint: str | None = None) -> ClusterStatus:
        """See `Client.status`."""
        return self._run(self._client.status(endpoint))

    def compact(self, revision: int) -> CompactResult:
        """See `Client.compact`."""
        return self._run(self._client.compact(revision))

    def hand_over(self, to: int | None = None) -> HandOverResult:
        """See `Client.hand_over`."""
        return self._run(self._client.hand_over(to))

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        if self._loop.is_closed():
            call.close()
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C here must not leave the call retrying over there.
            future.cancel()
            raise


async def _take(items: AsyncIterator[_T], count: int) -> tuple[_T, ...]:
    # One hop between the threads per page instead of one per item.
    taken = []
    async for item in items:
        taken.append(item)
        if len(taken) >= count:
            break
    return tuple(taken)


async def _granted(lease: Lease) -> Lease:
    return await lease
