"""How many client connections are open at most: file descriptors are kept in reserve.

Failing schedule otherwise: clients that reconnect take every descriptor that comes free, a node
that restarts never gets its links to the peers, and the cluster is without a leader for as long as
the clients hold on.
"""

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Any

from http_api.core.problems import problem
from kvstore.config import Config
from kvstore.errors import Overloaded

RESERVE = 128
"""Descriptors that clients never get: files, copies of the state, the listeners, the log."""
RESERVE_PER_MEMBER = 8
"""Links to and from each member, strangers at the peer port included."""
LINGERING_MAX = 32
"""Refused connections that are still open, so that the client gets to see why; part of RESERVE."""
LINGER_S = 1.0
LOOK_S = 1.0
BELOW = 0.9
"""Share of the bound at which the trouble counts as over."""

_log = logging.getLogger("http_api.connections")


def room_for_clients(members: int) -> int:
    """Connections that the descriptors of this process allow for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 1 << 30
    return max(limit - RESERVE - RESERVE_PER_MEMBER * members, limit // 2)


def connections_max(config: Config) -> int:
    """How many clients a node takes: what the setting and the descriptors allow for."""
    return min(config.pending_requests_max, room_for_clients(len(config.members)))


class ConnectionBound:
    """At most `most` connections, of which `count()` are open; what is over is refused."""

    def __init__(self, most: int, count: Callable[[], int]) -> None:
        self.most = most
        self.count = count
        self.refused = 0
        self.full = False
        self._lingering = 0

    def refuse(self) -> asyncio.Protocol | None:
        """The protocol of a new connection, if there is no room for it."""
        if self.count() < self.most:
            return None
        self.refused += 1
        if not self.full:
            self.full = True
            _log.warning("client connections are at their bound, %d: more are refused", self.most)
            asyncio.get_running_loop().call_later(LOOK_S, self._look)
        return _Refusal(self)

    def _look(self) -> None:
        if self.count() > BELOW * self.most:
            asyncio.get_running_loop().call_later(LOOK_S, self._look)
            return
        self.full = False
        _log.warning("client connections are below their bound again; refused: %d", self.refused)

    def linger(self, transport: Any) -> None:
        """Close it in a while, if not too many linger already."""
        if self._lingering >= LINGERING_MAX:
            transport.abort()
            return
        self._lingering += 1

        def close() -> None:
            self._lingering -= 1
            transport.close()

        asyncio.get_running_loop().call_later(LINGER_S, close)


class _Refusal(asyncio.Protocol):
    """A connection over the bound: one answer, then the end."""

    def __init__(self, bound: ConnectionBound) -> None:
        self._bound = bound

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        """Answer at once; closing right away could destroy the answer before it is read."""
        transport.write(problem(Overloaded("too many connections are open")).closing())
        if transport.can_write_eof():  # not under TLS
            transport.write_eof()
        self._bound.linger(transport)
