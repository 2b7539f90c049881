"""Sorted tables with an overlay: what is applied and not yet checkpointed lies in front of LMDB."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import lmdb

from kvstore.storage.sealed import SEAL_BYTES, DamagedRecord, is_sound, seal
from kvstore.storage.sorted_keys import SortedKeys

Changed = dict[bytes, bytes | None]
"""Key -> new value, or None if deleted."""

_NO_CHANGE: tuple[None, None] = (None, None)
"""There are no more."""


_ENTRY_BYTES = 100
"""What an entry of the overlay costs beside its bytes, about."""
_WRITTEN_TOGETHER = 500
"""Pairs that a checkpoint gives LMDB in one call."""


class Backing:
    """What the tables of one file share: the last checkpoint, and the size of what is in front."""

    __slots__ = ("_listens_on", "_on_damage", "overlay_bytes", "path", "reader", "written")

    reader: "lmdb.Transaction[bytes]"
    """At the last checkpoint; there is one while the file is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.overlay_bytes = 0
        self._on_damage: Callable[[DamagedRecord], None] = _nobody_listens
        self._listens_on = 0
        self.written: list[tuple[Changed, SortedKeys]] = []
        """What a checkpoint has written, to be freed by the thread of the next one."""

    def listen(self, on_damage: Callable[[DamagedRecord], None]) -> None:
        """`on_damage` hears what is damaged from now on, on the thread that calls this."""
        self._on_damage, self._listens_on = on_damage, threading.get_ident()

    def damaged(self, table: str, key: bytes) -> DamagedRecord:
        """The error for a record that is not what was written; who listens hears it first. On
        another thread than the listener's (a checkpoint) only the caller hears it."""
        error = DamagedRecord(self.path, table, key)
        if threading.get_ident() == self._listens_on:
            self._on_damage(error)
        return error


def _nobody_listens(_: DamagedRecord) -> None:
    """Before the node runs: whoever reads hears the error."""


class StoredTable:
    """One sorted map of bytes to bytes; `active` and `frozen` are its overlay.

    Reads raise DamagedRecord.
    """

    __slots__ = (
        "_backing",
        "_order",
        "active",
        "database",
        "frozen",
        "frozen_order",
        "name",
    )
    active: Changed
    frozen: Changed
    _order: SortedKeys
    frozen_order: SortedKeys

    def __init__(self, backing: Backing, name: str) -> None:
        self.name = name
        self._backing = backing
        self.database: lmdb._Database | None = None
        self.forget()

    def attach(self, database: "lmdb._Database") -> None:
        self.database = database

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        if key in self.active:
            return self.active[key]
        if key in self.frozen:
            return self.frozen[key]
        return self._stored_value(key)

    @property
    def unfrozen_entries(self) -> int:
        """How many keys were put or deleted since the last `freeze`."""
        return len(self.active)

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.active:
            self._order.add(key)
        self.active[key] = value
        self._backing.overlay_bytes += len(key) + len(value) + _ENTRY_BYTES

    def delete(self, key: bytes) -> None:
        if key not in self.active:
            self._order.add(key)
        self.active[key] = None
        self._backing.overlay_bytes += len(key) + _ENTRY_BYTES

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """`put` each of them."""
        self._change(entries, sum(map(len, entries.values())))

    def delete_all(self, keys: Sequence[bytes]) -> None:
        """`delete` each of them."""
        self._change(dict.fromkeys(keys), 0)

    def _change(self, changes: Mapping[bytes, bytes | None], value_bytes: int) -> None:
        active = self.active
        self._order.add_all([key for key in changes if key not in active])
        active.update(changes)
        size = sum(map(len, changes)) + value_bytes + _ENTRY_BYTES * len(changes)
        self._backing.overlay_bytes += size

    def freeze(self) -> None:
        """The active changes are set aside for a checkpoint."""
        self._order.settle()  # what is frozen is read by two threads, and changed by neither
        self.frozen, self.frozen_order = self.active, self._order
        self.active, self._order = {}, SortedKeys()

    def thaw(self) -> None:
        """The frozen changes are in the database; the thread of the next checkpoint frees them."""
        self._backing.written.append((self.frozen, self.frozen_order))
        self.frozen, self.frozen_order = {}, SortedKeys()

    def forget(self) -> None:
        """Drop all changes."""
        self.active, self._order = {}, SortedKeys()
        self.frozen, self.frozen_order = {}, SortedKeys()

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, in key order. To be consumed before the loop goes on.

        Nothing is read ahead: who stops early has paid for what was read.
        """
        changes = self._changed(start, end, reverse)
        change, new = next(changes, _NO_CHANGE)
        for key, value in self._stored(start, end, reverse):
            while change is not None and (change > key if reverse else change < key):
                if new is not None:
                    yield change, new
                change, new = next(changes, _NO_CHANGE)
            if change == key:
                continue
            yield key, value
        while change is not None:
            if new is not None:
                yield change, new
            change, new = next(changes, _NO_CHANGE)

    def _changed(
        self, start: bytes, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """What the overlay changes in a range, in order; the newest change of each key."""
        active = _between(self.active, self._order, start, end, reverse)
        frozen = _between(self.frozen, self.frozen_order, start, end, reverse)
        older, old = next(frozen, _NO_CHANGE)
        for key, value in active:
            while older is not None and (older > key if reverse else older < key):
                yield older, old
                older, old = next(frozen, _NO_CHANGE)
            if older == key:
                older, old = next(frozen, _NO_CHANGE)
            yield key, value
        if older is not None:
            yield older, old
            yield from frozen

    # -- what LMDB holds --------------------------------------------------------------------

    def _cursor(self) -> "lmdb.Cursor[bytes]":
        """At the last checkpoint."""
        return self._backing.reader.cursor(db=self.database)

    def _stored_value(self, key: bytes) -> bytes | None:
        sealed = self._backing.reader.get(key, db=self.database)
        return None if sealed is None else self._unsealed(key, sealed)

    def _unsealed(self, key: bytes, sealed: bytes) -> bytes:
        if not is_sound(key, sealed):
            raise self._backing.damaged(self.name, key)
        return sealed[:-SEAL_BYTES]

    def _stored(
        self, start: bytes, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursor()
        if not reverse:
            if cursor.set_range(start):
                for key, sealed in cursor:
                    if end is not None and key >= end:
                        return
                    yield key, self._unsealed(key, sealed)
            return
        at_end = cursor.set_range(end) if end is not None else False
        if cursor.prev() if at_end else cursor.last():
            for key, sealed in cursor.iterprev():
                if key < start:
                    return
                yield key, self._unsealed(key, sealed)

    def write(self, transaction: "lmdb.Transaction[bytes]") -> None:
        """Write the frozen changes. Runs on the thread of the checkpoint; in order, as the file
        wants it, and nothing is sorted here, which would hold the interpreter."""
        cursor = transaction.cursor(db=self.database)
        puts: list[tuple[bytes, bytes]] = []
        for key in self.frozen_order:
            value = self.frozen[key]
            if value is None:
                transaction.delete(key, db=self.database)
                continue
            puts.append((key, seal(key, value)))
            if len(puts) == _WRITTEN_TOGETHER:
                cursor.putmulti(puts)
                puts.clear()
        if puts:
            cursor.putmulti(puts)

    def check(
        self, transaction: "lmdb.Transaction[bytes]", after: bytes, pairs_max: int, bytes_max: int
    ) -> tuple[int, bytes | None]:
        """Look at the checksums of the records behind the key `after` (b"": from the first), until
        they are `pairs_max` pairs of LMDB or `bytes_max` bytes: how many records, and behind which
        key to go on, None at the end.

        Runs on any thread, so nobody hears of what it finds but by the error. Raises DamagedRecord.
        """
        cursor = transaction.cursor(db=self.database)
        found = cursor.set_range(after) if after else cursor.first()
        if found and after and cursor.key() == after:
            found = cursor.next()
        records = pairs = size = 0
        while found:
            key, stored = cursor.key(), cursor.value()
            records += self._check_pair(key, stored)
            pairs += 1
            size += len(stored)
            if pairs >= pairs_max or size >= bytes_max:
                return records, key
            found = cursor.next()
        return records, None

    def _check_pair(self, key: bytes, stored: bytes) -> int:
        """How many records are in it. Raises DamagedRecord."""
        if not is_sound(key, stored):
            raise DamagedRecord(self._backing.path, self.name, key)
        return 1

    def written_value(self, transaction: "lmdb.Transaction[bytes]", key: bytes) -> bytes | None:
        """What `transaction`, which writes a checkpoint, has under `key`."""
        sealed = transaction.get(key, db=self.database)
        return None if sealed is None else self._unsealed(key, sealed)


class RecentTable(StoredTable):
    """A table of which only checkpoints change what is stored, and no housekeeping.

    What the last checkpoint wrote of it stays in memory until the next one: what was written
    lately is what is asked for most, and there it is found in half the time.
    """

    __slots__ = ("_recent", "_recent_order")
    _recent: Changed
    _recent_order: SortedKeys

    def _stored_value(self, key: bytes) -> bytes | None:
        if key in self._recent:
            return self._recent[key]
        return super()._stored_value(key)

    def freeze(self) -> None:
        self._backing.written.append((self._recent, self._recent_order))
        self._recent, self._recent_order = {}, SortedKeys()
        super().freeze()

    def thaw(self) -> None:
        self._recent, self._recent_order = self.frozen, self.frozen_order
        self.frozen, self.frozen_order = {}, SortedKeys()

    def forget(self) -> None:
        self._recent, self._recent_order = {}, SortedKeys()
        super().forget()


def _between(
    layer: Changed, order: SortedKeys, start: bytes, end: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, bytes | None]]:
    """The changes of one layer to a range, in order."""
    for key in order.between(start, end, reverse) if layer else ():
        yield key, layer[key]
