"""Leases, locks and watches for code without an event loop."""

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from kvstore.client.leasing import Lease
from kvstore.client.locking import Leadership, Turn
from kvstore.client.operations import Compare
from kvstore.client.results import Change, DeleteResult, Event, LeaseStatus
from kvstore.client.watching import Watch

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a call on the client's loop, and waits for it."""

_Turn = TypeVar("_Turn", bound=Turn)


class BlockingLease:
    """See `Lease`. It is granted already; `with lease:` keeps it alive, and revokes it at the end.

    The loop thread keeps it alive, whatever this one does.
    """

    def __init__(self, run: Run, lease: Lease) -> None:
        self._run, self._lease = run, lease
        self.lost = _lost_event(lease)
        """Set when it is lost."""

    @property
    def id(self) -> int:
        """Its number."""
        return self._lease.id

    @property
    def ttl_s(self) -> int:
        """Seconds granted."""
        return self._lease.ttl_s

    def __enter__(self) -> Self:
        """Keep it alive from here on."""
        self._run(self._lease.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Revoke it."""
        self._run(self._lease.__aexit__(None, None, None))

    def keep_alive(self) -> LeaseStatus:
        """See `Lease.keep_alive`."""
        status: LeaseStatus = self._run(self._lease.keep_alive())
        return status

    def status(self) -> LeaseStatus:
        """See `Lease.status`."""
        status: LeaseStatus = self._run(self._lease.status())
        return status

    def revoke(self) -> DeleteResult:
        """See `Lease.revoke`."""
        result: DeleteResult = self._run(self._lease.revoke())
        return result

    def check(self) -> None:
        """Raises LeaseLost once it is lost."""
        self._lease.check()


class BlockingTurn(Generic[_Turn]):
    """See `Turn`. A block without an event loop cannot be stopped from outside.

    So ask `lost` or `check()` between steps; the end of the block raises LeaseLost in any case.
    """

    def __init__(self, run: Run, turn: _Turn) -> None:
        self._run, self._turn = run, turn
        self.lost = _lost_event(turn.lease)
        """Set when it is lost."""

    @property
    def key(self) -> bytes:
        """See `Turn.key`."""
        return self._turn.key

    @property
    def revision(self) -> int:
        """See `Turn.revision`."""
        return self._turn.revision

    @property
    def lease_id(self) -> int:
        """The lease that holds it."""
        return self._turn.lease.id

    @property
    def held(self) -> Compare:
        """See `Turn.held`."""
        return self._turn.held

    def check(self) -> None:
        """Raises LeaseLost once it is lost."""
        self._turn.lease.check()

    def __enter__(self) -> Self:
        """Wait for the turn."""
        self._run(self._turn.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it up."""
        self._run(self._turn.__aexit__(kind, error, trace))


class BlockingLeadership(BlockingTurn[Leadership]):
    """See `Leadership`."""

    def proclaim(self, value: str | bytes) -> None:
        """See `Leadership.proclaim`."""
        self._run(self._turn.proclaim(value))

    def resign(self) -> None:
        """See `Leadership.resign`."""
        self._run(self._turn.resign())


class BlockingWatch:
    """See `Watch`: `with client.watch(prefix="a/") as watch: for event in watch: ...`.

    Another thread may `close()` it; then the loop ends.
    """

    def __init__(self, run: Run, watch: Watch) -> None:
        self._run, self._watch = run, watch
        self._events: deque[Event] = deque()

    @property
    def seen_revision(self) -> int:
        """See `Watch.seen_revision`."""
        return self._events[0].revision - 1 if self._events else self._watch.seen_revision

    def __enter__(self) -> Self:
        """Wait until it has begun."""
        self._run(self._watch.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    def __iter__(self) -> Self:
        """The watch itself."""
        return self

    def __next__(self) -> Event:
        """The next event."""
        while not self._events:
            change: Change | None = self._run(self._watch.next_change())
            if change is None:
                raise StopIteration
            self._events.extend(change.events)
        return self._events.popleft()

    def changes(self) -> Iterator[Change]:
        """Whole changes instead: everything that one transaction did, together."""
        while (change := self._run(self._watch.next_change())) is not None:
            yield change

    def close(self) -> None:
        """End it."""
        self._run(self._watch.aclose())


def _lost_event(lease: Lease) -> threading.Event:
    lost = threading.Event()
    lease.on_lost(lost.set)
    return lost
