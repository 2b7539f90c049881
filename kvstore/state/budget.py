"""What one command may cost where it is applied, on every replica.

The bounds are part of the replicated format: a replica with others would decide otherwise
(docs/decisions/0015-bounded-work.md). What a command costs is known before it writes anything.
"""

from kvstore.commands.results import Limit, OverLimit
from kvstore.errors import WorkTooLarge

KEYS_MAX = 5_000
"""Keys that one command looks at, in all its compares, ranges and inner transactions together; one
that it deletes counts twice."""
BYTES_MAX = 4 << 20
"""Bytes of keys and values that one command reads and writes."""
LEASE_KEYS_MAX = KEYS_MAX // 2
"""Keys that one lease holds: they are deleted together when it ends."""
ANSWER_KEPT_BYTES_MAX = 64 << 10
"""An answer that is larger is not kept for its idempotency key, only that there was one."""
SORTED_BYTES_MAX = 64 << 20
"""What a read outside of the log must sort is held in memory first: so much of it."""
ANSWER_BYTES_MAX = 4 << 20
"""Keys and values in the answer to a transaction that only reads, each item with a KiB more."""

_MAXIMA = {
    Limit.KEYS: KEYS_MAX,
    Limit.BYTES: BYTES_MAX,
    Limit.LEASE_KEYS: LEASE_KEYS_MAX,
    Limit.SORTED_BYTES: SORTED_BYTES_MAX,
    Limit.ANSWER_BYTES: ANSWER_BYTES_MAX,
}

WRITE_WORK = 4
"""A put, or another command of one key or lease, costs about as much as looking at so many keys."""

PAST_WORK = 4
"""What a key held at an earlier revision costs about as much as looking at so many keys does."""

_BYTES_PER_UNIT = 1024
"""Bytes that cost about as much as looking at a key."""


class OverBudget(Exception):
    """A command would cost more than it may."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.name)
        self.limit = limit

    @property
    def result(self) -> OverLimit:
        """What the command answers."""
        return OverLimit(self.limit, _MAXIMA[self.limit])

    @property
    def error(self) -> WorkTooLarge:
        """What is told where it is found out before the log."""
        return WorkTooLarge(self.limit.name.lower(), _MAXIMA[self.limit])


class Budget:
    """What is spent of it; it stops the count at the bound, whatever there is beyond."""

    __slots__ = ("bytes", "keys")

    def __init__(self) -> None:
        self.keys = 0
        self.bytes = 0

    def take(self, size: int, keys: int = 1) -> None:
        """So many keys of `size` bytes, values included, are read or written. Raises OverBudget."""
        self.keys += keys
        self.bytes += size
        if self.keys > KEYS_MAX:
            raise OverBudget(Limit.KEYS)
        if self.bytes > BYTES_MAX:
            raise OverBudget(Limit.BYTES)

    def take_keys(self, keys: int) -> None:
        """So many more are looked at or deleted, whose bytes have been taken. Raises OverBudget."""
        self.take(0, keys)

    def check_keys(self, keys: int) -> None:
        """Raises OverBudget if so many more keys would be too many."""
        if self.keys + keys > KEYS_MAX:
            raise OverBudget(Limit.KEYS)

    @property
    def work(self) -> int:
        """What was spent, as one number: keys, and bytes in what costs about as much."""
        return self.keys + self.bytes // _BYTES_PER_UNIT
