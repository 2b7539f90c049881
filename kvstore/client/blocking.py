"""The blocking client: the async one, run by a private event-loop thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from kvstore.client.aio import PAGE_ITEMS, Client
from kvstore.client.results import (
    ClusterStatus,
    CompactResult,
    DeleteResult,
    Entry,
    HandOverResult,
    Page,
    PutResult,
    Selection,
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
    ) -> PutResult:
        """See `Client.put`."""
        return self._run(
            self._client.put(
                key, value, if_revision=if_revision, if_absent=if_absent, if_exists=if_exists
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


async def _take(entries: AsyncIterator[Entry], count: int) -> tuple[Entry, ...]:
    # One hop between the threads per page instead of one per entry.
    taken = []
    async for entry in entries:
        taken.append(entry)
        if len(taken) >= count:
            break
    return tuple(taken)
