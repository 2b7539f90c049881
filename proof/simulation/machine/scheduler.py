"""Virtual time. One scheduler decides what runs next; each simulated program has an event loop.

A `Process` is a whole asyncio event loop, so production code runs on it unchanged: tasks, timers,
locks, executors, streams. Unlike a real one it can be frozen, killed, and given a clock that runs
fast or slow. Nothing here reads a real clock or draws randomness, so the order of callbacks is a
function of what was scheduled: by time, then by order of scheduling.
"""

import asyncio
import heapq
import inspect
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from proof.simulation.machine.hanging import Hang

Item = tuple["Process", asyncio.Handle]


class Scheduler:
    """All that is to happen, and when. `now_s` is the time of the world, from 0."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.defects: list[str] = []
        self._ready: deque[Item] = deque()
        self._later: list[tuple[float, int, Item]] = []
        self._sequence = 0
        self._current: Process | None = None

    @property
    def spent_s(self) -> float:
        """The world's time as the program that runs now sees it: after what it has spent."""
        return self.now_s if self._current is None else max(self.now_s, self._current.busy_until_s)

    @property
    def now_us(self) -> int:
        """The world's time in whole microseconds, for traces."""
        return round(self.now_s * 1e6)

    def soon(self, item: Item) -> None:
        """Run after everything that is ready already."""
        self._ready.append(item)

    def at(self, when_s: float, item: Item) -> None:
        """Run at `when_s` of the world's time, or at once if that has passed."""
        self._sequence += 1
        heapq.heappush(self._later, (max(when_s, self.now_s), self._sequence, item))

    def run(self, until_s: float, done: Callable[[], bool]) -> bool:
        """Run until `done()`, or until nothing is left before `until_s`; whether it is done.

        `done` is asked after every callback.
        """
        ready = self._ready
        try:
            while not done():
                if not ready and not self._next_moment(until_s):
                    return False
                process, handle = ready.popleft()
                if not process.alive or handle.cancelled():
                    continue
                if process.frozen:
                    process.backlog.append((process, handle))
                    continue
                if process.busy_until_s > self.now_s:
                    self.at(process.busy_until_s, (process, handle))
                    continue
                events._set_running_loop(process)
                self._current = process
                handle._run()
        finally:
            events._set_running_loop(None)
        return True

    def _next_moment(self, until_s: float) -> bool:
        """All that is due at the next moment becomes ready together, as in any event loop."""
        later = self._later
        if not later or later[0][0] > until_s:
            self.now_s = until_s
            return False
        self.now_s = later[0][0]
        while later and later[0][0] == self.now_s:
            self._ready.append(heapq.heappop(later)[2])
        return True


def moment_from(time_s: float, moment_s: float) -> float:
    """The first multiple of `moment_s` from then on."""
    return math.ceil(time_s / moment_s) * moment_s


class Blocking(Protocol):
    """How long a call on another thread takes, and what of it a crash keeps."""

    hang: Hang

    def ends_at_s(self, now_s: float) -> float:
        """When the next call, which begins now, is over; the world's time."""

    def survives_crash(self) -> bool:
        """Whether a call under way at a crash still has its effect; all of it or nothing."""


class Sockets(Protocol):
    """The network as an event loop uses it."""

    def listen(
        self, process: "Process", factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> Any:
        """A server."""

    def connect(
        self, process: "Process", factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> Coroutine[Any, Any, tuple[asyncio.Transport, asyncio.Protocol]]:
        """Like `create_connection`."""


if TYPE_CHECKING:
    _Loop = asyncio.BaseEventLoop  # what is missing here is never called, and raises if it is
else:
    _Loop = asyncio.AbstractEventLoop


class Process(_Loop):
    """One running program: an event loop in virtual time.

    `rate` is how many seconds its clock counts in one second of the world.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        name: str,
        *,
        rate: float = 1.0,
        sockets: Sockets | None = None,
        blocking: Blocking | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.name = name
        self.alive = True
        self.frozen = False
        self.busy_until_s = 0.0
        self.backlog: deque[Item] = deque()
        self.on_kill: list[Callable[[], None]] = []
        self._rate = rate
        self._sockets = sockets
        self._blocking = blocking
        self._jobs: dict[asyncio.Future[Any], Callable[[], Any]] = {}
        # A task that nobody references is collected, and its `finally` would run at some moment.
        self._tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return f"<Process {self.name}>"

    # -- what can befall a program ----------------------------------------------------------

    def kill(self) -> tuple[int, int]:
        """End it at this instant. Blocking calls under way take effect wholly or not at all; how
        many did, and how many did not."""
        kept, jobs = 0, list(self._jobs.values())
        for call in jobs:
            if self._blocking is not None and self._blocking.survives_crash():
                kept += 1
                with suppress(Exception):  # the disk failed too: nothing was written
                    call()
        self._jobs.clear()
        self.alive = False
        self.backlog.clear()
        for callback in list(self.on_kill):
            callback()
        self.abandon()
        return kept, len(jobs) - kept

    def abandon(self) -> None:
        """Nothing of it will run again, and its unfinished tasks are no reason to complain."""
        self.alive = False
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()

    def freeze(self) -> None:
        """Stop it as SIGSTOP does; the world and its clock go on."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on as if nothing had happened: all that was due meanwhile is due now."""
        self.frozen = False
        for item in self.backlog:
            self.scheduler.soon(item)
        self.backlog.clear()

    def spend(self, cost_s: float) -> None:
        """What runs now takes so long of the world's time: everything else of it waits."""
        if cost_s == 0:
            return
        self.busy_until_s = max(self.scheduler.now_s, self.busy_until_s) + cost_s

    def post(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Have the world call `callback(*args)` in this program after `delay_s` of its time."""
        handle = asyncio.Handle(callback, args, self)
        self.scheduler.at(self.scheduler.now_s + delay_s, (self, handle))

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Begin a task in this program from outside."""
        return self.create_task(coroutine)

    def made(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """What `factory` makes when it is called in this program, by whatever runs now."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            return factory()
        finally:
            events._set_running_loop(before)

    # -- asyncio's side ---------------------------------------------------------------------

    def time(self) -> float:
        now_s, busy_until_s = self.scheduler.now_s, self.busy_until_s
        return (busy_until_s if busy_until_s > now_s else now_s) * self._rate

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.alive

    def is_closed(self) -> bool:
        return not self.alive

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.scheduler.soon((self, handle))
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.scheduler.at(when / self._rate, (self, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio tells; the scheduler skips cancelled handles anyway."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "handle" in context and self.alive:
            self.scheduler.defects.append(f"{self.name}: {context.get('exception')!r}")

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """A blocking call: it has its effect, all at once, when its time is up."""
        assert self._blocking is not None, f"{self.name} has no threads"
        future = self.create_future()
        self._jobs[future] = lambda: func(*args)
        handle = asyncio.Handle(self._finish, (future, self._blocking.hang), self)
        self.scheduler.at(self._blocking.ends_at_s(self.scheduler.now_s), (self, handle))
        return future

    def _finish(self, future: "asyncio.Future[Any]", hang: Hang) -> None:
        if hang.park(partial(self.post, 0, self._finish, future, hang)):
            return
        call = self._jobs.pop(future)
        try:
            result = call()
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    async def getaddrinfo(  # type: ignore[override]
        self, host: str, port: int, **_: Any
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """Every name is its own address."""
        return [(0, 0, 0, "", (host, port))]

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], hosts: list[str], port: int
    ) -> Any:
        """A program has one address."""
        assert self._sockets is not None, f"{self.name} has no network"
        (host,) = hosts
        return self._sockets.listen(self, protocol_factory, host, port)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> Any:
        assert self._sockets is not None, f"{self.name} has no network"
        return await self._sockets.connect(self, protocol_factory, host, port)
