"""An event loop on a thread of its own, on which code without one runs the async client."""

import asyncio
import concurrent.futures
import ctypes
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

END_S = 2.0
"""How long calls have to end when the client is closed, and connections to close."""
_CLOSED_MEANWHILE = "this client was closed during the call"


class LoopThread:
    """Runs calls on its loop, and waits for them. Any thread may use it, but for its own.

    `close` is the last call, when it ends. That is also when nobody holds this any more, and when
    the interpreter ends: a forgotten close() leaves nothing open. Every method raises RuntimeError
    once it has ended, and in a child that was forked: there is no such thread there, and the
    sockets belong to the parent.
    """

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a forgotten close() does not keep the interpreter from ending.
        self._thread = threading.Thread(
            target=_serve, args=(self._loop,), name="kvstore-client", daemon=True
        )
        self._close = close
        self._lock = threading.RLock()
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._ended = ""
        self._forgotten = weakref.finalize(self, _end_loop, self._loop, self._thread, close)
        _living.add(self)
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, _T]) -> _T:
        """What `call` returns or raises."""
        if threading.current_thread() is self._thread:
            call.close()
            raise RuntimeError("a callback of the client must not wait for the client")
        with self._lock:
            # Within the lock, so that `end` finds every call that might wait for ever.
            if self._ended:
                call.close()
                raise RuntimeError(self._ended)
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
            self._waiting.add(future)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError(_CLOSED_MEANWHILE) from None
        except BaseException:
            # Ctrl-C here must not leave the call retrying over there.
            if not self._ended:
                future.cancel()
            raise
        finally:
            with self._lock:
                self._waiting.discard(future)

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

    def end(self) -> None:
        """Close what is open and end the thread, within a few seconds. A second end does nothing.

        Calls of other threads that still wait raise RuntimeError.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a callback of the client must not close the client")
        with self._lock:
            if self._ended:
                return
            self._ended = "this client is closed"
        self._forgotten.detach()
        _end_loop(self._loop, self._thread, self._close)
        with self._lock:
            left = [future for future in self._waiting if not future.done()]
        for future in left:  # what came too late for the loop, or would not be cancelled
            with suppress(concurrent.futures.InvalidStateError):
                future.set_exception(RuntimeError(_CLOSED_MEANWHILE))

    def after_fork(self) -> None:
        """In the child: touch nothing that is shared with the parent, not even to close it.

        Closing a connection here would take it out of the epoll set, which is the parent's too. So
        what holds connections is never freed.
        """
        self._lock = threading.RLock()
        if not self._ended:
            self._ended = "this client was made before a fork: make one in the child"
            self._forgotten.detach()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._close))


_living: "weakref.WeakSet[LoopThread]" = weakref.WeakSet()


def _after_fork() -> None:
    for thread in list(_living):
        thread.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end_loop(
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    close: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Cancel what runs, `close()`, and end the thread; bounded, whatever the calls do."""
    if loop.is_closed():
        return
    if threading.current_thread() is thread:  # the last reference went there
        last = loop.create_task(_last(close))
        last.add_done_callback(lambda _: loop.stop())
        return
    done = asyncio.run_coroutine_threadsafe(_last(close), loop)
    with suppress(Exception):
        done.result(3 * END_S)
    with suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(loop.stop)
    thread.join(END_S)


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


async def _last(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Calls first, connections then: a call that goes on would open new ones."""
    for _ in range(2):  # one that was cancelled may want a moment, to give back what it took
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=END_S)
    with suppress(Exception):
        await asyncio.get_running_loop().shutdown_asyncgens()
    with suppress(Exception):
        await asyncio.wait_for(close(), END_S)


async def _happened(event: asyncio.Event, timeout_s: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
