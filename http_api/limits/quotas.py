"""What one user may have of a node at a time, so that a noisy neighbour slows down only itself.

A user is over its quota before anything of its request is read or replicated, so refusing costs
little. It waits a moment before it hears of it: a client that is back at once would be refused some
thousand times a second, which slows down all others as much as serving it. Without authentication
there are no users, and only the bounds of the whole node hold.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvstore.errors import Overloaded
from kvstore.state.rights import Caller

USERS_MAX = 10_000
"""Users whose use is remembered; those who have nothing in work are forgotten first."""
REFUSED_S = 0.1
"""How long who is over its quota waits."""
BURST_S = 1.0
"""So much of the bytes of a second may come at once."""


class Use:
    """What one user has in work; `bytes` may be taken, as of `at_s`."""

    __slots__ = ("at_s", "bytes", "requests", "streams")

    def __init__(self, bytes: float, at_s: float) -> None:
        self.requests = self.streams = 0
        self.bytes, self.at_s = bytes, at_s


class Quotas:
    """Of the users of one server; 0 is no bound. `clock` counts seconds."""

    def __init__(
        self,
        requests_max: int,
        streams_max: int,
        bytes_per_s: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests_max = requests_max
        self._streams_max = streams_max
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._users: OrderedDict[str, Use] = OrderedDict()
        self.refused = 0

    @contextmanager
    def request(self, caller: Caller | None, size: int) -> Iterator[None]:
        """A block that is a request of the caller's, whose body has so many bytes. Raises
        Overloaded."""
        self.begin(caller, size)
        try:
            yield
        finally:
            self.end(caller)

    def begin(self, caller: Caller | None, size: int) -> None:
        """A request of the caller's is in work from now on, until `end`. Raises Overloaded."""
        if caller is None:
            return
        use = self._use(caller.user)
        if excess := self._excess(use, size):
            self._refuse(excess)
        if self._bytes_per_s:
            use.bytes -= size
        use.requests += 1

    async def wait_if_over(self, caller: Caller | None, size: int) -> None:
        """Before such a request begins: wait, if it would be refused. Perhaps it is not then."""
        if not self.has_room(caller, size):
            await asyncio.sleep(REFUSED_S)

    def has_room(self, caller: Caller | None, size: int) -> bool:
        """Whether `begin` would take such a request."""
        return caller is None or not self._excess(self._use(caller.user), size)

    def end(self, caller: Caller | None) -> None:
        """A request for which `begin` was called is done."""
        if caller is not None:
            self._users[caller.user].requests -= 1

    @contextmanager
    def stream(self, caller: Caller | None) -> Iterator[None]:
        """A block that is a stream of the caller's. Raises Overloaded."""
        if caller is None:
            yield
            return
        use = self._use(caller.user)
        if self._streams_max and use.streams >= self._streams_max:
            self._refuse(f"this user has {use.streams} streams open already")
        use.streams += 1
        try:
            yield
        finally:
            use.streams -= 1

    def _use(self, user: str) -> Use:
        use = self._users.get(user)
        if use is None:
            use = self._users[user] = Use(self._bytes_per_s * BURST_S, self._clock())
            if len(self._users) > USERS_MAX:
                self._forget_one()
        self._users.move_to_end(user)
        return use

    def _forget_one(self) -> None:
        for user, use in self._users.items():
            if not use.requests and not use.streams:
                del self._users[user]
                return

    def _excess(self, use: Use, size: int) -> str:
        """Why a request with such a body is too much; "" if it is not. A body that is larger than
        a second's may begin once all of that is there, and is paid for afterwards."""
        if self._requests_max and use.requests >= self._requests_max:
            return f"this user has {use.requests} requests in work already"
        if not self._bytes_per_s:
            return ""
        now_s = self._clock()
        most = self._bytes_per_s * BURST_S
        use.bytes = min(most, use.bytes + (now_s - use.at_s) * self._bytes_per_s)
        use.at_s = now_s
        if use.bytes < min(size, most):
            return f"this user sends more than {self._bytes_per_s} bytes a second"
        return ""

    def _refuse(self, text: str) -> None:
        self.refused += 1
        raise Overloaded(text)
