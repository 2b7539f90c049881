"""Reading a range the long way: filtered, sorted by any field, limited, counted.

A range can be long, so it is read in steps, all at one revision: between two steps the state may
move on. A transaction, whose reads are bounded, makes all steps at once.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from kvstore.commands.operations import Field, KeyValue, Order, Select, Selected
from kvstore.commands.results import Limit
from kvstore.state.budget import SORTED_BYTES_MAX, OverBudget
from kvstore.state.key_space import Keyspace
from kvstore.state.mvcc import key_value

LIMIT_KEPT_MAX = 1000
"""Of a sorted answer with no more items than this, no more are ever held."""
ITEM_BYTES = 200
"""About what an item takes beside its key and value."""

_SORT_KEYS: dict[Field, Callable[[KeyValue], Any]] = {
    Field.KEY: attrgetter("key"),
    Field.VERSION: attrgetter("version"),
    Field.CREATE: attrgetter("create_revision"),
    Field.MOD: attrgetter("mod_revision"),
    Field.VALUE: attrgetter("value"),
}


class RangeScan:
    """A range as of `revision`, read in steps."""

    def __init__(
        self,
        keyspace: Keyspace,
        start: bytes,
        end: bytes | None,
        revision: int,
        reverse: bool = False,
    ) -> None:
        self._keyspace = keyspace
        self._start = start
        self._end = end
        self.revision = revision
        self._reverse = reverse
        self.done = False

    def step(self, entries_max: int, bytes_max: int) -> Iterator[tuple[bytes, bytes]]:
        """The next keys and records, after looking at about so many; to be consumed at once.

        Raises RevisionCompacted if compaction has overtaken it.
        """
        keyspace = self._keyspace
        as_of = self.revision
        if as_of == keyspace.revision:
            as_of = 0
        else:
            keyspace.mvcc.check_revision(as_of)
        last = None
        for key, record, there in keyspace.mvcc.looked_at(
            self._start, self._end, as_of, self._reverse
        ):
            if key != last:
                if entries_max <= 0 or bytes_max <= 0:
                    # All that there is of the last key was looked at.
                    assert last is not None
                    if self._reverse:
                        self._end = last
                    else:
                        self._start = last + b"\0"
                    return
                last = key
            entries_max -= 1
            bytes_max -= len(record)
            if there:
                yield key, record
        self.done = True


class RangeSelection:
    """What a `Select` finds, in steps. `count` and `more` are right once it is `done`."""

    def __init__(self, keyspace: Keyspace, wanted: Select, now: int | None = None) -> None:
        """`now` is the revision that counts as the current one, by default what is.

        Raises RevisionCompacted or RevisionInFuture.
        """
        self.revision = keyspace.revision if now is None else now
        """What is read is what was there then, or at an older one."""
        at = max(0, wanted.revision) or self.revision
        if at != self.revision:
            keyspace.mvcc.check_revision(at)
        self._wanted = wanted
        in_key_order = wanted.sort_by is Field.KEY
        reverse = in_key_order and wanted.order is Order.DESCEND
        self._scan = RangeScan(keyspace, wanted.start, wanted.end, at, reverse)
        self._sorter = None if in_key_order or wanted.count_only else _Sorter(wanted)
        self._filtered = _filters(wanted)
        self._limit = wanted.limit if wanted.limit > 0 else None
        self._passed = 0
        self.count = 0
        self.done = False

    @property
    def more(self) -> bool:
        """Whether the limit left some out."""
        return self._limit is not None and self._passed > self._limit

    def step(self, entries_max: int, bytes_max: int) -> list[KeyValue]:
        """The next items, in the order of the answer, after looking at about so many keys.

        Raises RevisionCompacted if compaction has overtaken it, and OverBudget if it has more to
        sort than it may hold.
        """
        if self._scan.done:
            return self._drain(entries_max)
        found = self._look(entries_max, bytes_max)
        if self._sorter is None:
            self.done = self._scan.done
            return found
        self._sorter.add(found)
        if self._scan.done and not self._passed:
            self.done = True
        return []

    def drop(self, items_max: int) -> bool:
        """After OverBudget: free so many items of those that it holds; whether it holds more."""
        return self._sorter is not None and self._sorter.drop(items_max)

    def _look(self, entries_max: int, bytes_max: int) -> list[KeyValue]:
        wanted, limit = self._wanted, self._limit
        keys_only = wanted.keys_only and wanted.sort_by is not Field.VALUE
        items: list[KeyValue] = []
        for key, record in self._scan.step(entries_max, bytes_max):
            self.count += 1
            if wanted.count_only:
                continue
            if self._filtered:
                item = key_value(key, record[:32] if keys_only else record)
                if not _passes(item, wanted):
                    continue
            self._passed += 1
            if self._sorter is None and limit is not None and self._passed > limit:
                continue
            if not self._filtered:
                item = key_value(key, record[:32] if keys_only else record)
            items.append(item)
        return items

    def _drain(self, items_max: int) -> list[KeyValue]:
        assert self._sorter is not None
        items = self._sorter.take(items_max)
        self.done = self._sorter.done
        return items


class _Sorter:
    """Sorts what comes piece by piece, without ever sorting it all at once."""

    def __init__(self, wanted: Select) -> None:
        self._key = _SORT_KEYS[wanted.sort_by]
        self._reverse = wanted.order is Order.DESCEND
        self._keys_only = wanted.keys_only
        self._limit = wanted.limit if wanted.limit > 0 else None
        self._runs: list[list[KeyValue]] = []
        self._bytes = 0
        self._merged: Iterator[KeyValue] | None = None
        self.done = False

    def add(self, items: list[KeyValue]) -> None:
        """Raises OverBudget."""
        if not items:
            return
        if self._limit is not None and self._limit <= LIMIT_KEPT_MAX:
            items = [*self._runs.pop(), *items] if self._runs else items
            self._bytes = 0
        items.sort(key=self._key, reverse=self._reverse)
        if self._limit is not None:
            del items[self._limit :]
        self._runs.append(items)
        self._bytes += sum(len(item.key) + len(item.value) + ITEM_BYTES for item in items)
        if self._bytes > SORTED_BYTES_MAX:
            raise OverBudget(Limit.SORTED_BYTES)

    def take(self, items_max: int) -> list[KeyValue]:
        """The next ones in order; `done` once there are no more."""
        if self._merged is None:
            runs, self._runs = self._runs, []
            merged = merge(*map(_given, runs), key=self._key, reverse=self._reverse)
            self._merged = islice(merged, self._limit)
        items = list(islice(self._merged, items_max))
        self.done = len(items) < items_max
        if self._keys_only:
            items = [msgspec.structs.replace(item, value=b"") for item in items]
        return items

    def drop(self, items_max: int) -> bool:
        """To free hundreds of thousands of items at once takes long, too."""
        while self._runs and items_max > 0:
            items_max -= len(self._runs.pop())
        return bool(self._runs)


def _given(run: list[KeyValue]) -> Iterator[KeyValue]:
    """The items of a run, each of which leaves it."""
    run.reverse()
    while run:
        yield run.pop()


def select(keyspace: Keyspace, wanted: Select) -> Selected:
    """All of it at once. Raises RevisionCompacted, RevisionInFuture or OverBudget."""
    selection = RangeSelection(keyspace, wanted)
    items: list[KeyValue] = []
    while not selection.done:
        items += selection.step(_ALL, _ALL)
    return Selected(selection.revision, tuple(items), selection.count, selection.more)


_ALL = 1 << 62


def _filters(wanted: Select) -> bool:
    return bool(
        wanted.min_mod_revision
        or wanted.max_mod_revision
        or wanted.min_create_revision
        or wanted.max_create_revision
    )


def _passes(item: KeyValue, wanted: Select) -> bool:
    modified, created = item.mod_revision, item.create_revision
    return (
        (not wanted.min_mod_revision or modified >= wanted.min_mod_revision)
        and (not wanted.max_mod_revision or modified <= wanted.max_mod_revision)
        and (not wanted.min_create_revision or created >= wanted.min_create_revision)
        and (not wanted.max_create_revision or created <= wanted.max_create_revision)
    )
