"""What the hot calls of one turn of the loop ask of the store, asked together.

The writes of all connections make one group with one future, and their reads share one barrier. So
a request costs its own parsing and its own answer, and little else.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol, TypeVar

from http_api.core.hot import KeyWrite
from http_api.core.metrics import HttpStages
from http_api.core.session import GROUP_BYTES_MAX, GROUP_MAX, Session
from kvstore.commands.commands import Put
from kvstore.commands.operations import Transaction
from kvstore.commands.results import Outcome, Result
from kvstore.replica.prompt import PromptFuture
from kvstore.state.rights import Caller

PROMPT_MAX = 4
"""So many requests are answered before their turn of the loop ends."""
T = TypeVar("T")


class Asker(Protocol):
    """Who waits. It is told at once if what it asks for is refused at once."""

    def written(self, outcomes: Sequence[Outcome]) -> None:
        """The outcome of each of its commands."""
        ...

    def readable(self, error: BaseException | None) -> None:
        """The state may be read now, or why it may not."""
        ...


class Gathering:
    """Shared by all connections of a server; all that are in it have the same time-out. `session`
    waits for reads; the writes of each caller make a group of their own."""

    def __init__(self, session: Session, timeout_s: float, stages: HttpStages) -> None:
        self._session = session
        self._timeout_s = timeout_s
        self._stages = stages
        self._groups: dict[Caller | None, _Group] = {}
        self._readers: list[Asker] = []
        self._reads = 0
        self._scheduled = False

    def write(self, asker: Asker, session: Session, writes: Sequence[KeyWrite]) -> None:
        """Writes of different keys, fewer than make a group, in `session`."""
        size = 0
        for write in writes:
            size += len(write.key)
            if isinstance(write, Put):
                size += len(write.value)
        group = self._groups.get(session.caller)
        if group is None or not group.has_room(len(writes), size):
            if group is not None:
                self._submit(group)
            group = self._groups[session.caller] = _Group(session, self._stages)
        group.add(asker, writes, size)
        if not self._scheduled:
            self._schedule()

    def transact(self, asker: Asker, session: Session, transaction: Transaction) -> None:
        """A write that may cost more than that of a key: it is submitted by itself."""
        try:
            future = session.submit(transaction, self._timeout_s)
        except Exception as error:
            asker.written((error,))
            return

        def done(future: "asyncio.Future[Result]") -> None:
            asker.written((future.exception() or future.result(),))

        future.add_done_callback(done)

    def read(self, asker: Asker, reads: int) -> None:
        """So many reads, which are to see every write acknowledged before this."""
        self._readers.append(asker)
        self._reads += reads
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        """The turn has delivered all its requests."""
        self._scheduled = False
        groups, self._groups = self._groups, {}
        for group in groups.values():
            self._submit(group)
        if self._readers:
            self._read()

    def _submit(self, group: "_Group") -> None:
        group.asked()
        try:
            future = group.session.submit_group(group.writes, self._timeout_s)
        except Exception as error:
            group.failed(error)
        else:
            _when_done(future, group.done, len(group.writes))

    def _read(self) -> None:
        readers, self._readers = self._readers, []
        reads, self._reads = self._reads, 0
        try:
            barrier = self._session.barrier(self._timeout_s, reads)
        except Exception as error:
            _tell_readable(readers, error)
            return

        def done(barrier: "asyncio.Future[None]") -> None:
            _tell_readable(readers, barrier.exception())

        _when_done(barrier, done, reads)


class _Group:
    """Writes that go together, in one session, and who asks for them."""

    __slots__ = ("_askers", "_since", "_size", "_stages", "session", "writes")

    def __init__(self, session: Session, stages: HttpStages) -> None:
        self.session = session
        self.writes: list[KeyWrite] = []
        self._askers: list[tuple[Asker, int]] = []
        self._size = 0
        self._stages = stages
        self._since = 0.0

    def has_room(self, count: int, size: int) -> bool:
        """Whether so many more, of so many bytes, may join."""
        return len(self.writes) + count <= GROUP_MAX and self._size + size <= GROUP_BYTES_MAX

    def add(self, asker: Asker, writes: Sequence[KeyWrite], size: int) -> None:
        if not self.writes:
            self._since = perf_counter()
        self.writes += writes
        self._askers.append((asker, len(writes)))
        self._size += size

    def asked(self) -> None:
        """The group is complete, and goes to the store."""
        now = perf_counter()
        self._stages.into.observe(now - self._since)
        self._since = now

    def failed(self, error: BaseException) -> None:
        self._tell((error,) * len(self.writes))

    def done(self, future: "asyncio.Future[list[Outcome]]") -> None:
        answered = perf_counter()
        self._stages.store.observe(answered - self._since)
        error = future.exception()
        if error is None:
            self._tell(future.result())
        else:
            self.failed(error)
        self._stages.out.observe(perf_counter() - answered)

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        at = 0
        for asker, count in self._askers:
            end = at + count
            try:
                asker.written(outcomes[at:end])
            except Exception as fault:
                _report(fault)
            at = end


def _tell_readable(readers: Sequence[Asker], error: BaseException | None) -> None:
    for reader in readers:
        try:
            reader.readable(error)
        except Exception as fault:
            _report(fault)


def _when_done(
    future: "asyncio.Future[T]", call: "Callable[[asyncio.Future[T]], None]", answers: int
) -> None:
    """Few are told in the turn in which `future` is done. Many are told in the next one: to make so
    many answers takes longer than what the others wait for, which this turn still has to send."""
    if answers <= PROMPT_MAX and isinstance(future, PromptFuture):
        future.tell(call)
    else:
        future.add_done_callback(call)


def _report(fault: Exception) -> None:
    """What goes wrong with one who waits must not leave the others without an answer."""
    context = {"message": "a connection failed at its answer", "exception": fault}
    asyncio.get_running_loop().call_exception_handler(context)
