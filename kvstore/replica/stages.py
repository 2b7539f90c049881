"""Where the time of writes goes, stage by stage: what `/metrics` and `python -m benchmarks
--profile` show. A batch costs each stage one reading of the clock, however many writes it holds.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from paxos.ballot import Slot

BOUNDS_S = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
)  # fmt: skip


class Durations:
    """A histogram as integers; Prometheus's types are built when it asks."""

    __slots__ = ("_bounds_s", "_buckets", "_total_s")

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._buckets = [0] * (len(bounds_s) + 1)
        self._total_s = 0.0

    def observe(self, seconds: float) -> None:
        """One more that took so long."""
        self._buckets[bisect_left(self._bounds_s, seconds)] += 1
        self._total_s += seconds

    @property
    def bounds_s(self) -> tuple[float, ...]:
        """Upper bounds of all buckets but the last."""
        return self._bounds_s

    @property
    def counts(self) -> Sequence[int]:
        """Of each bucket by itself."""
        return self._buckets

    @property
    def total_s(self) -> float:
        """The sum."""
        return self._total_s

    def histogram(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets by upper bound, and the sum."""
        buckets: list[tuple[str, float]] = []
        count = 0
        names = [*(str(bound) for bound in self._bounds_s), "+Inf"]
        for name, more in zip(names, self._buckets, strict=True):
            count += more
            buckets.append((name, count))
        return buckets, self._total_s


class Stages:
    """The stages of a write inside a replica, by `now()`, the replica's clock.

    `batch`: the oldest write of a bundle, from its arrival until the bundle is sealed. `commit`: a
    group of records, until it is durable and the loop knows. `quorum`: a slot on its leader, from
    then until it is chosen, 0 if it was sooner. `apply`: a slot, from then until its writes have
    their results.
    """

    __slots__ = ("_voted", "apply", "batch", "commit", "now", "quorum")

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.batch = Durations()
        self.commit = Durations()
        self.quorum = Durations()
        self.apply = Durations()
        self._voted: dict[Slot, float] = {}

    def voted(self, slot: Slot, chosen_through: Slot) -> None:
        """The leader's own vote for `slot` is durable; a quorum of others may have been faster."""
        if slot > chosen_through:
            self._voted[slot] = self.now()
        else:
            self.quorum.observe(0.0)

    def chosen(self, slots: Iterable[Slot]) -> float:
        """These are chosen; the time now."""
        now = self.now()
        for slot in slots:
            since = self._voted.pop(slot, None)
            if since is not None:
                self.quorum.observe(now - since)
        return now

    def leader_changed(self) -> None:
        """What this node voted for as leader is no longer its business."""
        self._voted.clear()

    def items(self) -> Iterator[tuple[str, Durations]]:
        """All of them by name, in the order of a write's way."""
        yield from (
            ("batch", self.batch),
            ("commit", self.commit),
            ("quorum", self.quorum),
            ("apply", self.apply),
        )
