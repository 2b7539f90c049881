"""Long reads go in slices, so that nobody waits for one: a slice takes a few milliseconds, and all
long reads of a server take turns, however many there are.

What is read is that of one revision, whatever is written meanwhile. A short read is one slice, and
waits for nobody.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from kvstore.commands.operations import KeyValue
from kvstore.commands.results import Result
from kvstore.state.budget import OverBudget
from kvstore.state.mvcc import PAGE_BYTES_MAX, KeyPage
from kvstore.state.reading import Reading
from kvstore.state.selection import RangeSelection

STEP_ENTRIES = 128
"""Keys looked at between two looks at the clock; and all that the first slice looks at."""
STEP_BYTES = 256 << 10
DROPPED_ITEMS = 2_000
"""So many are freed in a slice."""
SLICE_S = 0.002


class ReadTurns:
    """The turns of one server's long reads."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def next(self) -> None:
        """Wait until it is this read's turn; the loop does everything else in between."""
        async with self._lock:
            await asyncio.sleep(0)

    async def read(self, reading: Reading) -> Result:
        """A transaction that writes nothing, in slices. Raises RevisionCompacted if compaction
        overtakes it, WorkTooLarge if its answer is larger than it may be."""
        slice_s = 0.0
        while True:
            until_s = time.monotonic() + slice_s
            try:
                while not reading.step(STEP_ENTRIES, STEP_BYTES):
                    if time.monotonic() >= until_s:
                        break
            except OverBudget as over:
                raise over.error from None
            if reading.result is not None:
                return reading.result
            await self.next()
            slice_s = SLICE_S


class SlicedSelection:
    """A selection under way. `count` and `more` are right once all `pieces` were taken."""

    def __init__(self, selection: RangeSelection, turns: ReadTurns) -> None:
        self._selection = selection
        self._turns = turns
        self.revision = selection.revision

    @property
    def count(self) -> int:
        return self._selection.count

    @property
    def more(self) -> bool:
        return self._selection.more

    async def page(self, items_max: int) -> KeyPage:
        """The first items, whether there are more, and the revision that they show. Large values
        make a page shorter. Raises like `pieces`."""
        items: list[KeyValue] = []
        size = 0
        async for piece in self.pieces():
            for at, item in enumerate(piece):
                items.append(item)
                size += len(item.key) + len(item.value)
                if len(items) == items_max or size >= PAGE_BYTES_MAX:
                    more = at + 1 < len(piece) or not self._selection.done
                    return KeyPage(items, more, self.revision)
        return KeyPage(items, False, self.revision)

    async def pieces(self) -> AsyncIterator[list[KeyValue]]:
        """The items in order, some at a time; a piece may be empty.

        Raises RevisionCompacted if compaction overtakes it, WorkTooLarge if there is more to sort
        than may be held.
        """
        selection, slice_s = self._selection, 0.0
        while True:
            until_s = time.monotonic() + slice_s
            items: list[KeyValue] = []
            size = 0
            try:
                while True:
                    found = selection.step(STEP_ENTRIES, STEP_BYTES)
                    items += found
                    # Whoever takes the piece encodes it, which large values make slow.
                    size += sum(len(item.value) for item in found)
                    if selection.done or size >= STEP_BYTES or time.monotonic() >= until_s:
                        break
            except OverBudget as over:
                while selection.drop(DROPPED_ITEMS):
                    await self._turns.next()
                raise over.error from None
            yield items
            if selection.done:
                return
            await self._turns.next()
            slice_s = SLICE_S
