"""What holders were promised of their leases, and when each ended."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Promise:
    ttl_s: int
    since_s: float


class LeaseBook:
    """All times are the world's. A leader whose clock runs fast by `fastest` may be early by that
    much, and by no more."""

    def __init__(self, fastest: float, now_s: Callable[[], float]) -> None:
        self._fastest = fastest
        self._now_s = now_s
        self._promises: dict[int, _Promise] = {}
        self._ended_s: dict[int, float] = {}

    def granted(self, lease: int, ttl_s: int, called_s: float) -> None:
        """A holder was told that it has `lease`, for which it had asked at `called_s`."""
        self._promises[lease] = _Promise(ttl_s, called_s)

    def renewed(self, lease: int, called_s: float) -> str:
        """A holder was told that `lease` lasts; a complaint if it had ended before the call."""
        ended_s = self._ended_s.get(lease)
        if ended_s is not None and ended_s < called_s:
            return f"lease {lease} ended at {ended_s:.3f} s, and is kept alive at {called_s:.3f} s"
        promise = self._promises.get(lease)
        if promise is not None:
            promise.since_s = max(promise.since_s, called_s)
        return ""

    def expired(self, lease: int) -> str:
        """The log ends `lease`, for the first time anywhere; a complaint if that is too early."""
        now_s = self._now_s()
        self._ended_s.setdefault(lease, now_s)
        promise = self._promises.get(lease)
        if promise is None:
            return ""
        due_s = promise.since_s + promise.ttl_s / self._fastest
        if now_s < due_s - 1e-6:
            return f"lease {lease} expired at {now_s:.3f} s, promised until {due_s:.3f} s"
        return ""

    def revoked(self, lease: int) -> None:
        """The log ends `lease` because somebody asked for it."""
        self._ended_s.setdefault(lease, self._now_s())
