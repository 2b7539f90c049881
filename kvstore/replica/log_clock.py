"""Time as the log has it, and wall clocks that differ. `docs/decisions/0017-log-clock.md`."""

from typing import Protocol

from kvstore.event_log import EventLog
from kvstore.replica.ports import Clock
from paxos.ballot import NodeId

DIFFERENT_S = 5.0
"""Wall clocks that differ by more are told of; a message may be under way for a while."""


class ClockedState(Protocol):
    """The applied state as far as its clock goes."""

    clock_ms: int


class LogClock:
    """What this node would stamp on a batch as leader: the highest clock that it saw applied, and
    the time that has elapsed since. It must be asked for with each tick at least."""

    def __init__(self, state: ClockedState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._seen_ms = state.clock_ms
        self._seen_s = clock.monotonic()

    def now_ms(self) -> int:
        """It never goes back, and never jumps, whatever the wall clock does."""
        now_s = self._clock.monotonic()
        now_ms = self._seen_ms + int((now_s - self._seen_s) * 1000)
        if self._state.clock_ms > now_ms:
            self._seen_ms, self._seen_s = self._state.clock_ms, now_s
            return self._seen_ms
        return now_ms


class WallClocks:
    """How far the peers' wall clocks are from this node's, as they said last."""

    def __init__(self, clock: Clock, events: EventLog) -> None:
        self._clock = clock
        self._events = events
        self._differences_s: dict[NodeId, float] = {}
        self._told: set[NodeId] = set()

    @property
    def difference_s(self) -> float:
        """The largest one."""
        return max(map(abs, self._differences_s.values()), default=0.0)

    @property
    def warning(self) -> str:
        """Whose clock differs, and by how much; "" if nobody's does."""
        told = (
            f"that of node {peer} by {self._differences_s[peer]:+.1f} s"
            for peer in sorted(self._told)
        )
        differing = ", ".join(told)
        return f"wall clocks differ from this node's: {differing}" if differing else ""

    def now_ms(self) -> int:
        """This node's."""
        return self._clock.wall_ms()

    def heard(self, peer: NodeId, wall_ms: int | None) -> None:
        """The clock of `peer` shows `wall_ms` now; None: it did not say."""
        if wall_ms is None:
            return
        difference_s = self._differences_s[peer] = (wall_ms - self._clock.wall_ms()) / 1000
        different = abs(difference_s) > DIFFERENT_S
        if different and peer not in self._told:
            self._told.add(peer)
            self._events.event("clocks differ", peer=peer, seconds=f"{difference_s:+.1f}")
        elif not different and peer in self._told:
            self._told.discard(peer)
            self._events.event("clocks agree again", peer=peer)
