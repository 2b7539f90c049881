"""Keys in order, to which more are added a few at a time: nothing ever sorts all of them at once.

A sorted list takes a new key in one step, however long it is. To sort a hundred thousand new ones
together, once a scan or a checkpoint wants their order, holds everybody up. So they lie in chunks,
and new ones go to their chunk soon.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

CHUNK_KEYS = 512
"""A chunk is cut in two at twice that."""
FEW_KEYS = 16
"""So many are put into a chunk one by one; for more it is sorted."""
WAITING_KEYS_MAX = 256
"""So many new keys wait to be put in place together."""


class SortedKeys:
    """A set of keys that only grows; the caller adds none twice."""

    __slots__ = ("_chunks", "_lasts", "_waiting")

    def __init__(self) -> None:
        self._chunks: list[list[bytes]] = []
        self._lasts: list[bytes] = []
        self._waiting: list[bytes] = []

    def add(self, key: bytes) -> None:
        """One more."""
        waiting = self._waiting
        waiting.append(key)
        if len(waiting) >= WAITING_KEYS_MAX:
            self.settle()

    def add_all(self, keys: list[bytes]) -> None:
        """More, none of them twice."""
        self._waiting += keys
        if len(self._waiting) >= WAITING_KEYS_MAX:
            self.settle()

    def between(self, start: bytes, end: bytes | None, reverse: bool = False) -> Iterator[bytes]:
        """Those with start <= key < end (None: no end), in order. To be consumed before more are
        added."""
        self.settle()
        chunks = self._chunks
        first = bisect_left(self._lasts, start)
        last = len(chunks) - 1 if end is None else bisect_left(self._lasts, end)
        places = range(first, min(last, len(chunks) - 1) + 1)
        for at in reversed(places) if reverse else places:
            chunk = chunks[at]
            low = bisect_left(chunk, start) if at == first else 0
            high = len(chunk) if end is None or at < last else bisect_left(chunk, end)
            yield from chunk[low:high][::-1] if reverse else chunk[low:high]

    def __iter__(self) -> Iterator[bytes]:
        """All, in order. To be consumed before more are added."""
        self.settle()
        for chunk in self._chunks:
            yield from chunk

    def clear(self) -> None:
        """Forget all, chunk by chunk."""
        self._lasts, self._waiting = [], []
        while self._chunks:
            self._chunks.pop()

    def settle(self) -> None:
        """What waits goes to its place."""
        waiting = self._waiting
        if not waiting:
            return
        waiting.sort()
        chunks, lasts = self._chunks, self._lasts
        begin, count = 0, len(waiting)
        while begin < count:
            at = bisect_left(lasts, waiting[begin])
            if at >= len(chunks) - 1:  # all others belong to the last chunk
                self._extend_last(waiting[begin:])
                break
            past = bisect_right(waiting, lasts[at], begin)
            self._merge(at, waiting[begin:past])
            begin = past
        waiting.clear()

    def _extend_last(self, keys: list[bytes]) -> None:
        if self._chunks:
            self._merge(len(self._chunks) - 1, keys)
        else:
            self._chunks.append(keys)
            self._lasts.append(keys[-1])
            self._cut(0)

    def _merge(self, at: int, keys: list[bytes]) -> None:
        chunk = self._chunks[at]
        if len(keys) <= FEW_KEYS:
            for key in keys:
                insort(chunk, key)
        else:
            chunk += keys
            chunk.sort()
        self._lasts[at] = chunk[-1]
        self._cut(at)

    def _cut(self, at: int) -> None:
        chunk = self._chunks[at]
        if len(chunk) > 2 * CHUNK_KEYS:
            pieces = [chunk[i : i + CHUNK_KEYS] for i in range(0, len(chunk), CHUNK_KEYS)]
            self._chunks[at : at + 1] = pieces
            self._lasts[at : at + 1] = [piece[-1] for piece in pieces]
