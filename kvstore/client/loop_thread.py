"""An event loop on a thread of its own, on which code without one runs the async client."""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LoopThread:
    """Runs calls on its loop, and waits for them. Any thread may use it, but for its own.

    Every method raises RuntimeError once it has ended.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a forgotten close() does not keep the interpreter from ending.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="kvstore-client", daemon=True
        )
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, _T]) -> _T:
        """What `call` returns or raises."""
        if self._loop.is_closed():
            call.close()
            raise RuntimeError("this client is closed")
        if threading.current_thread() is self._thread:
            call.close()
            raise RuntimeError("a callback of the client must not wait for the client")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("this client was closed during the call") from None
        except BaseException:
            # Ctrl-C here must not leave the call retrying over there.
            future.cancel()
            raise

    def obtain(self, item: Awaitable[_T]) -> _T:
        """The same for anything that can be awaited."""
        return self.run(_awaited(item))

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What a plain function returns there: what belongs to the loop is touched only by it."""
        return self.run(_called(lambda: function(*args, **kwargs)))

    def advance(self, call: Coroutine[Any, Any, _T]) -> _T:
        """What an `__anext__` returns; raises StopIteration at the end."""
        try:
            return self.run(call)
        except StopAsyncIteration:
            raise StopIteration from None

    def iterate(self, items: AsyncIterator[_T], at_once: int) -> Iterator[_T]:
        """The items, fetched `at_once` at a time: one hop between the threads for so many.

        When the caller drops the iterator, the loop ends an asynchronous generator behind it.
        """
        while chunk := self.run(_take(items, at_once)):
            yield from chunk

    def end(self, last_call: Coroutine[Any, Any, None]) -> None:
        """Run `last_call` and end the thread. A second end does nothing.

        Calls of other threads that still wait raise RuntimeError.
        """
        if self._loop.is_closed():
            last_call.close()
            return
        self.run(_last(last_call))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingEvent:
    """An `asyncio.Event` of the client's, for other threads."""

    def __init__(self, loop: LoopThread, event: asyncio.Event) -> None:
        self._loop, self._event = loop, event

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until it has happened, or for `timeout_s` seconds; whether it has happened."""
        return self._event.is_set() or self._loop.run(_happened(self._event, timeout_s))


async def _awaited(item: Awaitable[_T]) -> _T:
    return await item


async def _called(function: Callable[[], _T]) -> _T:
    return function()


async def _take(items: AsyncIterator[_T], count: int) -> tuple[_T, ...]:
    taken = []
    async for item in items:
        taken.append(item)
        if len(taken) >= count:
            break
    return tuple(taken)


async def _last(call: Coroutine[Any, Any, None]) -> None:
    await call
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _happened(event: asyncio.Event, timeout_s: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
