"""Latencies in an HdrHistogram: three digits at any size, and histograms of clients can be united.

Percentiles of latencies cannot be averaged or added; histograms can.
"""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

LATENCY_US_MAX = 600_000_000
"""Longer ones count as this."""


class Latencies:
    """Recorded in whole microseconds, read in milliseconds."""

    def __init__(self, histogram: Iterable[tuple[int, int]] = ()) -> None:
        """`histogram`: latencies and how often each was seen."""
        self._counts = HdrHistogram(1, LATENCY_US_MAX, 3)
        self.add(histogram)

    def add(self, histogram: Iterable[tuple[int, int]]) -> None:
        """More of them."""
        for latency_us, count in histogram:
            self._counts.record_value(min(max(latency_us, 1), LATENCY_US_MAX), count)

    @property
    def count(self) -> int:
        """How many."""
        return int(self._counts.get_total_count())

    def percentile_ms(self, percent: float) -> float:
        """What at least `percent` of them did not exceed, 0 if there are none."""
        return float(self._counts.get_value_at_percentile(percent)) / 1000 if self.count else 0.0

    @property
    def mean_ms(self) -> float:
        """The mean, 0 if there are none."""
        return float(self._counts.get_mean_value()) / 1000 if self.count else 0.0
