"""Whether a node notices that its disk hangs, as docs/decisions/0015 and `DiskWatch` promise."""

COMMIT_S_MIN = 1.0
"""A commit that takes no longer need not be told of."""


class HangCheck:
    """Of one start of a node. All times are those of its own clock.

    A commit older than an election time-out must be told of within `patience_s`.
    """

    def __init__(self, election_s: float, patience_s: float) -> None:
        self._commit_s_max = max(election_s, COMMIT_S_MIN)
        self._patience_s = patience_s
        self._since_s: float | None = None

    def well(self) -> None:
        """After a step: nothing is under way, or it was told that it takes long."""
        self._since_s = None

    def look(self, now_s: float, oldest_s: float) -> str:
        """After a step; the oldest commit under way was asked for at `oldest_s`, and nothing was
        told of it. A complaint, or "" if all is well. The first look after a pause excuses: the
        node has had no time."""
        if now_s - oldest_s <= self._commit_s_max:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s > self._patience_s:
            return f"does not notice that its disk hangs for {now_s - oldest_s:.1f} s"
        return ""
