"""How available the store was, from the times at which writes were acknowledged."""

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from proof.torture.nemesis import Injected

WINDOW_S = 0.1


@dataclass(frozen=True)
class FaultRow:
    """All injections of one kind. Gaps are in seconds, the longest one of each injection, looked
    for until the next fault."""

    kind: str
    injected: int
    availability: float
    """While the fault lasted."""
    gap_min_s: float
    gap_median_s: float
    gap_max_s: float


def windows(times_s: Sequence[float], begin_s: float, end_s: float) -> tuple[int, int]:
    """Windows of WINDOW_S between the two times: those with an acknowledgement, and all."""
    count = int((end_s - begin_s) / WINDOW_S + 1e-9)
    first, last = bisect_left(times_s, begin_s), bisect_left(times_s, end_s)
    hit = {int((time_s - begin_s) / WINDOW_S) for time_s in times_s[first:last]}
    return sum(1 for window in hit if window < count), count


def availability(times_s: Sequence[float], begin_s: float, end_s: float) -> float:
    """The share of windows with an acknowledgement; 0 if there is no whole window."""
    hit, count = windows(times_s, begin_s, end_s)
    return hit / count if count else 0.0


def longest_gap_s(times_s: Sequence[float], begin_s: float, end_s: float) -> float:
    """The longest time without an acknowledgement between the two times."""
    first, last = bisect_left(times_s, begin_s), bisect_right(times_s, end_s)
    points = [begin_s, *times_s[first:last], end_s]
    return max(b - a for a, b in pairwise(points))


def fault_rows(times_s: Sequence[float], injected: Sequence[Injected]) -> list[FaultRow]:
    """One row per kind of fault, in the order of their names."""
    rows = []
    for kind in sorted({fault.kind for fault in injected}):
        of_kind = [fault for fault in injected if fault.kind == kind]
        parts = [windows(times_s, fault.began_s, fault.ended_s) for fault in of_kind]
        hit, count = (sum(column) for column in zip(*parts, strict=True))
        gaps = [longest_gap_s(times_s, fault.began_s, fault.until_s) for fault in of_kind]
        rows.append(
            FaultRow(
                kind,
                len(of_kind),
                hit / count if count else 0.0,
                min(gaps),
                statistics.median(gaps),
                max(gaps),
            )
        )
    return rows
