"""What watchers want of a change, and who waits for it: found by the keys that change, however many
watchers there are, and however many keys one revision changes."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, Protocol, TypeVar

from kvstore.commands.operations import only, prefix_end
from kvstore.state.mvcc import EVENT_BYTES, KeyEvent

FEW_EVENTS = 16
"""Of a change with no more events all are looked at."""


@dataclass(slots=True)
class RevisionEvents:
    """Everything that one revision changed, in the order of its transaction. Not to be changed."""

    revision: int
    events: tuple[KeyEvent, ...]
    _order: list[tuple[bytes, int]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def between(self, start: bytes, end: bytes | None) -> Iterable[KeyEvent]:
        """The events of keys with start <= key < end (None: no end), in order. Of many they are
        found by the order of their keys, which is made once for all who ask."""
        events = self.events
        if len(events) <= FEW_EVENTS:
            return [e for e in events if start <= e.item.key and (end is None or e.item.key < end)]
        order = self._order
        if order is None:
            order = self._order = sorted((event.item.key, at) for at, event in enumerate(events))
        first = bisect_left(order, (start, 0))
        past = len(order) if end is None else bisect_left(order, (end, 0))
        if past - first == len(events):
            return events
        return [events[at] for at in sorted(at for _, at in order[first:past])]


@dataclass(frozen=True, slots=True)
class Interest:
    """Which events a watcher wants: keys with start <= key < end (None: no end)."""

    start: bytes
    end: bytes | None
    puts: bool = True
    deletes: bool = True

    def of(self, change: RevisionEvents) -> RevisionEvents | None:
        """The part of a change that is wanted, if any is."""
        events = tuple(
            event
            for event in change.between(self.start, self.end)
            if (self.deletes if event.deleted else self.puts)
        )
        if len(events) == len(change.events):
            return change
        return RevisionEvents(change.revision, events) if events else None

    @property
    def key(self) -> bytes | None:
        """The one key that is meant, if it is one."""
        return self.start if self.end == only(self.start) else None

    @property
    def prefix(self) -> bytes | None:
        """What all keys that are meant begin with, if exactly those are."""
        start = b"" if self.start == b"\0" and self.end is None else self.start
        return start if self.end == prefix_end(start) else None


class Waiter(Protocol):
    """Who waits for changes; `next_revision` is the first that it has not seen."""

    interest: Interest
    next_revision: int


W = TypeVar("W", bound=Waiter)


class WaitingFor(Generic[W]):
    """Watchers that wait, to be found by the keys that change."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, dict[W, None]] = {}
        self._by_prefix: dict[bytes, dict[W, None]] = {}
        self._prefix_lengths: dict[int, int] = {}
        self._others: dict[W, None] = {}

    def add(self, watcher: W) -> None:
        interest = watcher.interest
        if (key := interest.key) is not None:
            self._by_key.setdefault(key, {})[watcher] = None
        elif (prefix := interest.prefix) is not None:
            if prefix not in self._by_prefix:
                self._by_prefix[prefix] = {}
                self._prefix_lengths[len(prefix)] = self._prefix_lengths.get(len(prefix), 0) + 1
            self._by_prefix[prefix][watcher] = None
        else:
            self._others[watcher] = None

    def discard(self, watcher: W) -> None:
        interest = watcher.interest
        if (key := interest.key) is not None:
            if (watchers := self._by_key.get(key)) is not None:
                watchers.pop(watcher, None)
                if not watchers:
                    del self._by_key[key]
        elif (prefix := interest.prefix) is not None:
            if (watchers := self._by_prefix.get(prefix)) is not None:
                watchers.pop(watcher, None)
                if not watchers:
                    self._forget_prefix(prefix)
        else:
            self._others.pop(watcher, None)

    def _forget_prefix(self, prefix: bytes) -> None:
        del self._by_prefix[prefix]
        self._prefix_lengths[len(prefix)] -= 1
        if not self._prefix_lengths[len(prefix)]:
            del self._prefix_lengths[len(prefix)]

    def all(self) -> list[W]:
        groups = chain(self._by_key.values(), self._by_prefix.values(), (self._others,))
        return [watcher for group in groups for watcher in group]

    def of(self, change: RevisionEvents) -> list[W]:
        """Those that want something of it."""
        found = dict.fromkeys(watcher for watcher in self._others if _wants(watcher, change))
        for watchers, (puts, deletes) in self._touched(change):
            for watcher in watchers:
                wanted = watcher.interest
                if (puts and wanted.puts) or (deletes and wanted.deletes):
                    found[watcher] = None
        return [watcher for watcher in found if watcher.next_revision <= change.revision]

    def _touched(self, change: RevisionEvents) -> Iterable[tuple[dict[W, None], tuple[bool, bool]]]:
        """Watchers of the same keys, and whether there are puts and deletions of those keys: each
        event and each watcher is looked at once, however many there are of both."""
        touched: dict[tuple[bool, bytes], tuple[bool, bool]] = {}
        for event in change.events:
            key, deleted = event.item.key, event.deleted
            names = [(False, key)] if key in self._by_key else []
            for length in self._prefix_lengths:
                if key[:length] in self._by_prefix:
                    names.append((True, key[:length]))
            for name in names:
                puts, deletes = touched.get(name, (False, False))
                touched[name] = puts or not deleted, deletes or deleted
        for (is_prefix, key), kinds in touched.items():
            yield (self._by_prefix if is_prefix else self._by_key)[key], kinds


def _wants(watcher: Waiter, change: RevisionEvents) -> bool:
    return change.revision >= watcher.next_revision and watcher.interest.of(change) is not None


def change_bytes(change: RevisionEvents) -> int:
    """About what it takes in memory."""
    size = 0
    for event in change.events:
        size += EVENT_BYTES + len(event.item.key) + len(event.item.value)
        if event.previous is not None:
            size += len(event.previous.value)
    return size


def event_identity(event: KeyEvent) -> tuple[object, ...]:
    """Equal for equal events of one revision, however they were read: what was before an event may
    be compacted for who reads it later."""
    item = event.item
    return item.key, item.mod_revision, item.version, event.previous is not None
