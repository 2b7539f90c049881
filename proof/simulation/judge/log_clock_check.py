"""Whether the log's clock goes by elapsed time: docs/decisions/0017-log-clock.md."""

from collections.abc import Callable, Sequence

from kvstore.commands.batches import Batch
from paxos.ballot import Ballot, Slot

ROUNDED_MS = 2


class LogClockCheck:
    """All times are the world's, which began with the log at 0. `rates` are those of the nodes'
    monotonic clocks."""

    def __init__(self, rates: Sequence[float], now_s: Callable[[], float]) -> None:
        self._slowest, self._fastest = min(rates), max(rates)
        self._now_s = now_s
        self._proposed_s: dict[tuple[Slot, Ballot], float] = {}
        self._stamped: dict[Ballot, tuple[float, int]] = {}

    def proposed(self, slot: Slot, ballot: Ballot) -> None:
        """The leader of `ballot` proposes in `slot`, for the first time or again."""
        self._proposed_s.setdefault((slot, ballot), self._now_s())

    def chosen(self, slot: Slot, batch: Batch) -> str:
        """The next slot; a complaint if its clock ran ahead, or stood still, or "". What another
        leader than its own had chosen was stamped when its own proposed it."""
        proposed_s = self._proposed_s.get((slot, batch.ballot))
        if proposed_s is None:
            return ""
        if batch.clock_ms > self._fastest * proposed_s * 1000 + ROUNDED_MS:
            return f"slot {slot} is stamped {batch.clock_ms} ms, at {proposed_s:.3f} s"
        before_s, before_ms = self._stamped.get(batch.ballot, (proposed_s, batch.clock_ms))
        self._stamped[batch.ballot] = (proposed_s, batch.clock_ms)
        if batch.clock_ms - before_ms < self._slowest * (proposed_s - before_s) * 1000 - ROUNDED_MS:
            return (
                f"slot {slot} is stamped {batch.clock_ms} ms, at {proposed_s:.3f} s; before it was "
                f"{before_ms} ms at {before_s:.3f} s"
            )
        return ""
