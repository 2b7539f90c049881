"""What one command may cost, as docs/decisions/0015-bounded-work.md has it."""

from collections.abc import Iterable

from kvstore.commands.results import Limit, OverLimit, Result


class Failing(Exception):
    """A command changes nothing, and answers `result`."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


KEYS_MAX, BYTES_MAX, KEPT_BYTES_MAX = 5_000, 4 << 20, 64 << 10
"""docs/decisions/0015-bounded-work.md"""
RECORD_HEAD_BYTES = 32
"""What is stored of a key beside its value: three revisions and a lease."""


class Bill:
    """What one command costs. Over the budget it raises Failing."""

    def __init__(self) -> None:
        self.keys = self.size = 0

    def foresee(self, keys: int) -> None:
        """So many will come at least."""
        if self.keys + keys > KEYS_MAX:
            raise Failing(OverLimit(Limit.KEYS, KEYS_MAX))

    def add(self, size: int, keys: int = 1) -> None:
        """Of so many bytes."""
        self.keys += keys
        self.size += size
        self.foresee(0)
        if self.size > BYTES_MAX:
            raise Failing(OverLimit(Limit.BYTES, BYTES_MAX))

    def add_range(self, sizes: Iterable[int], deleted: bool) -> None:
        """What finds nothing counts as one key; what is deleted counts twice."""
        found = 0
        for size in sizes:
            self.add(size)
            found += 1
        self.add(0, not found)
        if deleted:
            self.add(0, found)
