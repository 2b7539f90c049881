"""Many versions of each key: the current one in one lookup, older ones until compacted.

Every write takes the next revision. Three tables:

- `keys`: key -> current record. One lookup answers the common read.
- `versions`: (key, its mod revision) -> the revision that superseded it, and the old record.
- `history`: (revision, sub) -> which key was put or deleted, and the mod revision that it
  superseded. Read forward it is the change feed; the values are in the other two tables.

A value is thus stored once at a time, and moves when it is superseded. After compaction at C the
state as of C and everything later stays readable.
"""

import struct
from collections.abc import Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import NamedTuple

import msgspec

from kvstore.commands.operations import Field, KeyValue, only
from kvstore.errors import DivergedState, RevisionCompacted, RevisionInFuture
from kvstore.state.tables import CheckpointTransaction, Tables

_RECORD = struct.Struct(">QQQq")
_LEASE = struct.Struct(">q")
_REVISION = struct.Struct(">Q")
_POSITION = struct.Struct(">QI")
_CHANGE = struct.Struct(">BQ")
_PUT, _DELETE = 0, 1
_AT = {Field.CREATE: 0, Field.MOD: 1, Field.VERSION: 2, Field.LEASE: 3}
"""Where a record has its numbers."""

PAGE_BYTES_MAX = 1 << 20
"""A page ends once its values reach this many bytes, however many items were asked for."""

EVENT_BYTES = 500
"""What an event counts beside its values, so that changes of many small keys end a read, too."""

VERSIONS_IN_A_ROW = 8
"""So many versions of one key are walked through before the wanted one is looked up."""


class KeyEvent(NamedTuple):
    """One key put or deleted. Of a deleted one only key and mod_revision are set.

    `previous` is what was there before; None if there was nothing, or if it was compacted.
    """

    item: KeyValue
    deleted: bool
    previous: KeyValue | None


class KeyPut(msgspec.Struct, frozen=True, gc=False):
    """What a put made of a key: `record` is stored now, and `previous` was before, or None."""

    version: int
    create_revision: int
    record: bytes
    previous: bytes | None


class KeyPage(NamedTuple):
    """Items in key order, whether there are more, and the revision they show."""

    items: list[KeyValue]
    more: bool
    revision: int


class KeyHistory(NamedTuple):
    """What happened to one key, newest first, and whether there is more before it."""

    events: list[KeyEvent]
    more: bool


def version_key(key: bytes, revision: int) -> bytes:
    """Orders by key, then by revision. Zero bytes are escaped, so that no key's versions can lie
    between those of another: `a` ends in 00 00, and `a 00 b` goes on with 00 FF."""
    return _escaped(key) + _REVISION.pack(revision)


def _escaped(key: bytes) -> bytes:
    return key.replace(b"\0", b"\0\xff") + b"\0\0"


def _key_of_version(encoded: bytes) -> bytes:
    return encoded[:-10].replace(b"\0\xff", b"\0")


def key_value(key: bytes, record: bytes) -> KeyValue:
    """A record of the tables, unpacked."""
    create, mod, version, lease = _RECORD.unpack_from(record)
    return KeyValue(key, record[32:], create, mod, version, lease)


def field_of(record: bytes, field: Field) -> int | bytes:
    """One field of a record."""
    at = _AT.get(field)
    return record[32:] if at is None else int(_RECORD.unpack_from(record)[at])


def lease_of(record: bytes) -> int:
    """The lease that holds it, or 0."""
    return int(_LEASE.unpack_from(record, 24)[0])


class Mvcc:
    """The multi-version map. `revision` and `compacted_revision` are the caller's to restore and
    to keep."""

    def __init__(self, store: Tables) -> None:
        self._keys = store.tables["keys"]
        self._versions = store.tables["versions"]
        self._history = store.tables["history"]
        self.revision = 1
        self.compacted_revision = 0

    # -- writing ----------------------------------------------------------------------------

    def mod_revision(self, key: bytes) -> int:
        """The revision that last wrote `key`; 0 if it does not exist."""
        record = self._keys.get(key)
        return 0 if record is None else int(_RECORD.unpack_from(record)[1])

    def put(self, key: bytes, value: bytes, revision: int, sub: int = 0, lease: int = 0) -> KeyPut:
        """Put at `revision`, as part `sub` of its change."""
        old = self._keys.get(key)
        if old is None:
            create, superseded, version = revision, 0, 1
        else:
            create, superseded, version, _ = _RECORD.unpack_from(old)
            version += 1
            self._versions.put(version_key(key, superseded), _REVISION.pack(revision) + old)
        record = _RECORD.pack(create, revision, version, lease) + value
        self._keys.put(key, record)
        self._history.put(_POSITION.pack(revision, sub), _CHANGE.pack(_PUT, superseded) + key)
        return KeyPut(version, create, record, old)

    def delete_all(
        self, found: Sequence[tuple[bytes, bytes]], revision: int, sub: int = 0
    ) -> list[bytes]:
        """Delete keys with the records that they hold, at `revision`, as parts `sub` and following
        of its change; what that wrote to `history`, in order."""
        superseded_by, deletion = _REVISION.pack(revision), bytes((_DELETE,))
        # Of a record the second eight bytes are its mod revision, as the tables write it.
        self._versions.put_all(
            {_escaped(key) + record[8:16]: superseded_by + record for key, record in found}
        )
        self._keys.delete_all([key for key, _ in found])
        changes = [deletion + record[8:16] + key for key, record in found]
        position = _POSITION.pack
        self._history.put_all(
            {position(revision, part): change for part, change in enumerate(changes, sub)}
        )
        return changes

    # -- reading ----------------------------------------------------------------------------

    def check_revision(self, revision: int) -> None:
        """Raises RevisionInFuture or RevisionCompacted unless `revision` can be read."""
        if revision > self.revision:
            raise RevisionInFuture(revision, self.revision)
        if revision < self.compacted_revision:
            raise RevisionCompacted(revision, self.compacted_revision)

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        """`key` as of `revision`, 0 meaning now; None if it did not exist then.

        Raises RevisionInFuture or RevisionCompacted.
        """
        record = self._keys.get(key)
        if revision == 0:
            return None if record is None else key_value(key, record)
        self.check_revision(revision)
        if record is not None and _RECORD.unpack_from(record)[1] <= revision:
            return key_value(key, record)
        found = self._superseded(_escaped(key), revision)
        return None if found is None else key_value(key, found)

    def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        revision: int = 0,
        limit: int,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> KeyPage:
        """Keys with start <= key < end (None: no end) as of `revision` (0: now), at most `limit`.

        Raises RevisionInFuture or RevisionCompacted.
        """
        if revision:
            self.check_revision(revision)
        items: list[KeyValue] = []
        size = 0
        as_of = 0 if revision == self.revision else revision
        for key, record in self.records(start, end, as_of, reverse):
            if len(items) == limit or size >= PAGE_BYTES_MAX:
                return KeyPage(items, True, revision or self.revision)
            size += len(key) + (0 if keys_only else len(record))
            items.append(key_value(key, record[:32] if keys_only else record))
        return KeyPage(items, False, revision or self.revision)

    def record(self, key: bytes) -> bytes | None:
        """The current record of `key`, as the tables hold it."""
        return self._keys.get(key)

    def records(
        self, start: bytes, end: bytes | None, revision: int = 0, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and raw records as of `revision`, which must be readable; 0 means now."""
        if end is not None and end <= start:
            return iter(())
        if revision == 0 and end == only(start):
            record = self._keys.get(start)
            return iter(() if record is None else ((start, record),))
        if revision == 0:
            return self._keys.scan(start, end, reverse)
        found = self.looked_at(start, end, revision, reverse)
        return ((key, record) for key, record, there in found if there)

    def looked_at(
        self, start: bytes, end: bytes | None, revision: int = 0, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes, bool]]:
        """All that `records` has to look at, in the order of keys: key, record, and whether that
        is what the key held as of `revision`. Of each key some follow each other."""
        if revision == 0 or (end is not None and end <= start):
            for key, record in self.records(start, end, 0, reverse):
                yield key, record, True
            return
        current = (
            (key, record, _RECORD.unpack_from(record)[1] <= revision)
            for key, record in self._keys.scan(start, end, reverse)
        )
        # A key held at most one of them: what is current was written after all its versions.
        yield from merge(
            current, self._old(start, end, revision, reverse), key=itemgetter(0), reverse=reverse
        )

    def _old(
        self, start: bytes, end: bytes | None, revision: int, reverse: bool
    ) -> Iterator[tuple[bytes, bytes, bool]]:
        """Superseded records, as `looked_at` shows them. Of a key with many versions the one that
        is wanted is looked up: a key that was written 100,000 times costs no more than ten."""
        first, past = version_key(start, 0), None if end is None else version_key(end, 0)
        while True:
            last, steps, found = b"", 0, False
            for encoded, stored in self._versions.scan(first, past, reverse):
                if encoded[:-8] != last:
                    last, steps, found = encoded[:-8], 0, False
                elif steps == VERSIONS_IN_A_ROW:
                    break
                steps += 1
                written = _REVISION.unpack_from(encoded, len(encoded) - 8)[0]
                there = written <= revision < _REVISION.unpack_from(stored)[0]
                found = found or there
                yield _key_of_version(encoded), stored[8:], there
            else:
                return
            if not found and (record := self._superseded(last, revision)) is not None:
                yield _key_of_version(last + b"\0" * 8), record, True
            first, past = (first, last) if reverse else (last + b"\xff" * 8, past)

    def _superseded(self, prefix: bytes, revision: int) -> bytes | None:
        """Of the versions below `prefix`, a `version_key` without revision, that of `revision`."""
        first, past = prefix + _REVISION.pack(0), prefix + _REVISION.pack(revision + 1)
        for _, stored in self._versions.scan(first, past, reverse=True):
            return stored[8:] if _REVISION.unpack_from(stored)[0] > revision else None
        return None

    def key_history(self, key: bytes, limit: int, revision: int = 0) -> KeyHistory:
        """Puts and deletions of `key` up to `revision` (0: now), as far as compaction left them.

        `previous` is set for deletions only; for a put it would be the item of the next event.
        Raises RevisionInFuture or RevisionCompacted.
        """
        if revision:
            self.check_revision(revision)
        events: list[KeyEvent] = []
        size = 0
        for event in self._versions_of(key, revision or self.revision):
            if len(events) == limit or size >= PAGE_BYTES_MAX:
                return KeyHistory(events, True)
            size += len(event.item.value)
            events.append(event)
        return KeyHistory(events, False)

    def _versions_of(self, key: bytes, revision: int) -> Iterator[KeyEvent]:
        """Newest first. A version that was superseded by no later one ended in a deletion."""
        newer = 0
        record = self._keys.get(key)
        if record is not None:
            item = key_value(key, record)
            newer = item.mod_revision
            if newer <= revision:
                yield KeyEvent(item, False, None)
        first, past = version_key(key, 0), version_key(key, revision + 1)
        for _, stored in self._versions.scan(first, past, reverse=True):
            item = key_value(key, stored[8:])
            ended = _REVISION.unpack_from(stored)[0]
            if ended <= self.compacted_revision:
                return
            if ended != newer and ended <= revision:
                yield KeyEvent(KeyValue(key, b"", 0, ended, 0, 0), True, item)
            newer = item.mod_revision
            if newer <= revision:
                yield KeyEvent(item, False, None)

    # -- the change feed --------------------------------------------------------------------

    def changes(self, first_revision: int, revisions_max: int) -> list[tuple[int, list[KeyEvent]]]:
        """What happened from `first_revision` on, revision by revision, none left out: at most so
        many, and fewer if they are large.

        Raises RevisionCompacted.
        """
        if first_revision < self.compacted_revision:
            raise RevisionCompacted(first_revision, self.compacted_revision)
        found: list[tuple[int, list[KeyEvent]]] = []
        size = 0
        end = _POSITION.pack(first_revision + revisions_max, 0)
        for position, change in self._history.scan(_POSITION.pack(first_revision, 0), end):
            revision, _ = _POSITION.unpack(position)
            if not found or found[-1][0] != revision:
                if size >= PAGE_BYTES_MAX:
                    break
                found.append((revision, []))
            event = self._event(revision, change)
            size += EVENT_BYTES
            size += len(event.item.value) + len(event.previous.value if event.previous else b"")
            found[-1][1].append(event)
        return found

    def _event(self, revision: int, change: bytes) -> KeyEvent:
        kind, superseded = _CHANGE.unpack_from(change)
        key = change[9:]
        before = self._version(key, superseded) if superseded else None
        if kind == _DELETE:
            return KeyEvent(KeyValue(key, b"", 0, revision, 0, 0), True, before)
        record = self._keys.get(key)
        if record is not None and _RECORD.unpack_from(record)[1] == revision:
            return KeyEvent(key_value(key, record), False, before)
        item = self._version(key, revision)
        if item is None:
            raise DivergedState(f"the history names revision {revision} of a key, and it is gone")
        return KeyEvent(item, False, before)

    def _version(self, key: bytes, mod_revision: int) -> KeyValue | None:
        stored = self._versions.get(version_key(key, mod_revision))
        return None if stored is None else key_value(key, stored[8:])

    # -- compaction -------------------------------------------------------------------------

    @staticmethod
    def discard(
        transaction: CheckpointTransaction, compacted_revision: int, entries_max: int
    ) -> int:
        """Physically delete up to `entries_max` history entries that compaction gave up, and the
        versions they superseded; how many. Runs inside a checkpoint, unseen by readers, who are
        refused by `compacted_revision` from the slot that raised it."""
        cursor = transaction.cursor("history")
        deleted = 0
        found = cursor.first()
        while found and deleted < entries_max:
            revision, _ = _POSITION.unpack(cursor.key())
            if revision > compacted_revision:
                break
            change = cursor.value()
            superseded = _CHANGE.unpack_from(change)[1]
            # What was put and deleted in the compacted revision itself is in the feed still.
            if superseded and not superseded == revision == compacted_revision:
                transaction.delete("versions", version_key(change[9:], superseded))
            if revision == compacted_revision:
                # The feed may still be read from the compacted revision itself.
                found = cursor.next()
                continue
            cursor.delete()
            deleted += 1
            found = bool(cursor.key())
        return deleted
