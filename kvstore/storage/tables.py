"""Sorted tables with an overlay: what is applied and not yet checkpointed lies in front of LMDB."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

from kvstore.storage.sealed import SEAL_BYTES, DamagedRecord, is_sound, seal

Changed = dict[bytes, bytes | None]
"""Key -> new value, or None if deleted."""

_NO_CHANGE: tuple[None, None] = (None, None)
"""There are no more."""

_INSERTS_MAX = 16
"""So many new keys are put into their place one by one; more are sorted in together."""
_UNSORTED_MAX = 2_048
"""No more new keys wait for that: sorting a whole overlay at once would hold the loop."""
_WRITTEN_TOGETHER = 500
"""Pairs that a checkpoint gives LMDB in one call."""


class Backing:
    """What the tables of one file share: the last checkpoint, and the size of what is in front."""

    __slots__ = ("on_damage", "overlay_bytes", "path", "reader")

    reader: "lmdb.Transaction[bytes]"
    """At the last checkpoint; there is one while the file is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.overlay_bytes = 0
        self.on_damage: Callable[[DamagedRecord], None] = _nobody_listens

    def damaged(self, table: str, key: bytes) -> DamagedRecord:
        """The error for a record that is not what was written; who listens hears it first."""
        error = DamagedRecord(self.path, table, key)
        self.on_damage(error)
        return error


def _nobody_listens(_: DamagedRecord) -> None:
    """Before the node runs: whoever reads hears the error."""


class StoredTable:
    """One sorted map of bytes to bytes; `active` and `frozen` are its overlay.

    The keys of the overlay are brought into order by the first scan that needs it, or once many
    wait; `_new` are those since the last time. Reads raise DamagedRecord.
    """

    __slots__ = (
        "_backing",
        "_frozen_order",
        "_new",
        "_order",
        "active",
        "database",
        "frozen",
        "name",
    )
    active: Changed
    frozen: Changed
    _order: list[bytes]
    _frozen_order: list[bytes]

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
        active = self.active
        if key not in active:
            self._new.append(key)
            if len(self._new) > _UNSORTED_MAX:
                self._sort()
        active[key] = value
        self._backing.overlay_bytes += len(key) + len(value) + 100

    def delete(self, key: bytes) -> None:
        if key not in self.active:
            self._new.append(key)
            if len(self._new) > _UNSORTED_MAX:
                self._sort()
        self.active[key] = None
        self._backing.overlay_bytes += len(key) + 100

    def freeze(self) -> None:
        """The active changes are set aside for a checkpoint."""
        self._sort()
        self.frozen, self._frozen_order = self.active, self._order
        self.active, self._order = {}, []

    def thaw(self) -> None:
        """The frozen changes are in the database."""
        self.frozen, self._frozen_order = {}, []

    def forget(self) -> None:
        """Drop all changes."""
        self.active, self._order = {}, []
        self.frozen, self._frozen_order = {}, []
        self._new: list[bytes] = []

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
        self._sort()
        active = _between(self.active, self._order, start, end, reverse)
        frozen = _between(self.frozen, self._frozen_order, start, end, reverse)
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

    def _sort(self) -> None:
        if len(self._new) > _INSERTS_MAX:
            self._order += self._new
            self._order.sort()
        else:
            for key in self._new:
                insort(self._order, key)
        self._new.clear()

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
        """Write the frozen changes. Runs on the thread of the checkpoint."""
        cursor = transaction.cursor(db=self.database)
        puts: list[tuple[bytes, bytes]] = []
        for key in self._frozen_order:
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

    def written_value(self, transaction: "lmdb.Transaction[bytes]", key: bytes) -> bytes | None:
        """What `transaction`, which writes a checkpoint, has under `key`."""
        sealed = transaction.get(key, db=self.database)
        return None if sealed is None else self._unsealed(key, sealed)


def _between(
    layer: Changed, order: list[bytes], start: bytes, end: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, bytes | None]]:
    """The changes of one layer to a range, in order."""
    if not order:
        return
    first = bisect_left(order, start)
    past = len(order) if end is None else bisect_left(order, end)
    for at in range(past - 1, first - 1, -1) if reverse else range(first, past):
        key = order[at]
        yield key, layer[key]
