"""The leader's clocks of all leases: when each ends unless it is kept alive. In memory only.

A new leader starts all of them in full, so a lease may last longer than promised when the leader
changes, and never shorter. Time is the leader's monotonic clock.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush, heapreplace

_ENDED_MAX = 1000
"""So many entries of leases that have ended stay in the heap, beside one for each that has not."""


class LeaseTimers:
    """Running while this node leads; `running` is false otherwise, and nothing is due."""

    def __init__(self) -> None:
        self.running = False
        self._ttl_s: dict[int, int] = {}
        self._deadline_s: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def start(self, leases: Iterable[tuple[int, int]], now_s: float) -> None:
        """Begin to lead: every lease, given as (id, seconds), has its full time from now."""
        self.running = True
        self._ttl_s = dict(leases)
        self._deadline_s = {lease: now_s + ttl_s for lease, ttl_s in self._ttl_s.items()}
        self._rebuild()

    def stop(self) -> None:
        """No longer the leader."""
        self.running = False
        self._ttl_s, self._deadline_s, self._heap = {}, {}, []

    def granted(self, lease: int, ttl_s: int, now_s: float) -> None:
        """A grant was applied."""
        self._ttl_s[lease] = ttl_s
        self._set(lease, now_s + ttl_s)

    def ended(self, lease: int) -> None:
        """A revocation or expiry was applied."""
        self._ttl_s.pop(lease, None)
        self._deadline_s.pop(lease, None)
        if len(self._heap) > 2 * len(self._deadline_s) + _ENDED_MAX:
            self._rebuild()

    def renew(self, lease: int, now_s: float) -> int | None:
        """Full time again from now; the seconds, or None if there is none or its end is under way.

        The caller has made sure, after the request came, that this node still leads.
        """
        if lease not in self._deadline_s:
            return None
        ttl_s = self._ttl_s[lease]
        # The heap keeps the earlier entry, and `due` moves it when it comes up.
        self._deadline_s[lease] = now_s + ttl_s
        return ttl_s

    def look(self, lease: int, now_s: float) -> tuple[int, float] | None:
        """Seconds granted and seconds left, or None as for `renew`."""
        deadline_s = self._deadline_s.get(lease)
        return None if deadline_s is None else (self._ttl_s[lease], max(0.0, deadline_s - now_s))

    def due(
        self,
        now_s: float,
        leases_max: int,
        keys_of: Callable[[int], int] = lambda lease: 0,
        keys_max: int = 1,
    ) -> tuple[int, ...]:
        """Leases whose time is up; the caller proposes their end, and they are not due again.

        Those found hold no more than `keys_max` keys by `keys_of`, unless it is one alone: the
        others come the next time.
        """
        found: list[int] = []
        heap, keys = self._heap, 0
        while heap and heap[0][0] <= now_s and len(found) < leases_max:
            lease = heap[0][1]
            deadline_s = self._deadline_s.get(lease)
            if deadline_s is None:
                heappop(heap)
            elif deadline_s > now_s:
                heapreplace(heap, (deadline_s, lease))
            else:
                keys += keys_of(lease)
                if found and keys > keys_max:
                    break
                heappop(heap)
                del self._deadline_s[lease]
                found.append(lease)
        return tuple(found)

    def _rebuild(self) -> None:
        self._heap = [(deadline_s, lease) for lease, deadline_s in self._deadline_s.items()]
        heapify(self._heap)

    def _set(self, lease: int, deadline_s: float) -> None:
        self._deadline_s[lease] = deadline_s
        heappush(self._heap, (deadline_s, lease))
