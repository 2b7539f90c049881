"""Many versions of each key: the current one in one lookup, older ones until compacted.

Every write takes the next revision. Three tables:

- `keys`: key -> the head of its chain, and the current record. One lookup answers the common read.
- `history`: place -> the change there, with the record that it superseded. Read forward it is the
  change feed; read along the chain of one key it is what the key held before.
- `deleted`: key -> the head of its chain, while compaction has left a part of that.

A value moves to the history when it is superseded. After compaction at C the state as of C and
everything later stays readable. See `kvstore.state.chains`.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import NamedTuple

import msgspec

from kvstore.commands.operations import Field, KeyValue, only
from kvstore.errors import DivergedState, RevisionCompacted, RevisionInFuture
from kvstore.state.chains import (
    DELETION,
    FIRST,
    HEAD,
    NOWHERE,
    PLACE_BYTES,
    STEP,
    ChainEntry,
    ChainHead,
    Place,
    change_of,
    entry_of,
    head_of,
    head_of_deleted,
    last_place,
    place_of,
    record_of,
    revision_at,
    with_head,
)
from kvstore.state.tables import CheckpointTransaction, Tables

_RECORD = struct.Struct(">QQQq")
_LEASE = struct.Struct(">q")
_DELETED = b"\1"
"""What the digest covers of a deletion: this, the revision that wrote what is deleted, the key."""

_AT = {Field.CREATE: 0, Field.MOD: 1, Field.VERSION: 2, Field.LEASE: 3}
"""Where a record has its numbers."""

PAGE_BYTES_MAX = 1 << 20
"""A page ends once its values reach this many bytes, however many items were asked for."""

EVENT_BYTES = 500
"""What an event counts beside its values, so that changes of many small keys end a read, too."""


class KeyEvent(msgspec.Struct, frozen=True, gc=False):
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


def key_value(key: bytes, record: bytes) -> KeyValue:
    """A record of the tables, unpacked."""
    create, mod, version, lease = _RECORD.unpack_from(record)
    return KeyValue(key, record[32:], create, mod, version, lease)


def stored_alone(item: KeyValue) -> bytes:
    """What `keys` holds of a key of whose history nothing is kept."""
    record = _RECORD.pack(item.create_revision, item.mod_revision, item.version, item.lease)
    return with_head(0, 0, b"", record + item.value)


def lease_of_stored(stored: bytes) -> int:
    """The lease that holds a key, of what `keys` holds of it; or 0."""
    return lease_of(record_of(stored))


def field_of(record: bytes, field: Field) -> int | bytes:
    """One field of a record."""
    at = _AT.get(field)
    return record[32:] if at is None else int(_RECORD.unpack_from(record)[at])


def lease_of(record: bytes) -> int:
    """The lease that holds it, or 0."""
    return int(_LEASE.unpack_from(record, 24)[0])


class Mvcc:
    """The multi-version map. `revision` and `compacted_revision` are the caller's to restore and
    raise. Nothing here changes them."""

    def __init__(self, store: Tables) -> None:
        self._keys = store.tables["keys"]
        self._deleted = store.tables["deleted"]
        self._history = store.tables["history"]
        self.revision = 1
        self.compacted_revision = 0

    # -- writing ----------------------------------------------------------------------------

    def mod_revision(self, key: bytes) -> int:
        """The revision that last wrote `key`; 0 if it does not exist."""
        record = self.record(key)
        return 0 if record is None else int(_RECORD.unpack_from(record)[1])

    def put(self, key: bytes, value: bytes, revision: int, sub: int = 0, lease: int = 0) -> KeyPut:
        """Put at `revision`, as part `sub` of its change."""
        stored = self._keys.get(key)
        if stored is None:
            done, entry, stored = self._created(key, value, revision, sub, lease)
        else:
            done, entry, stored = self._replaced(key, value, stored, revision, sub, lease)
        self._history.put(place_of(revision, sub), entry)
        self._keys.put(key, stored)
        return done

    def put_each(self, puts: Iterable[tuple[bytes, bytes]], revision: int) -> list[KeyPut]:
        """`put` of each key and value, as a change of its own each, the first one at `revision`; on
        no lease. Most commands come this way, many at a time."""
        get, made = self._keys.get, []
        entries: dict[bytes, bytes] = {}
        written: dict[bytes, bytes] = {}
        for key, value in puts:
            stored = written.get(key) or get(key)
            if stored is None:
                done, entry, stored = self._created(key, value, revision, 0, 0)
            else:
                done, entry, stored = self._replaced(key, value, stored, revision, 0, 0)
            entries[place_of(revision, 0)] = entry
            written[key] = stored
            made.append(done)
            revision += 1
        self._history.put_all(entries)
        self._keys.put_all(written)
        return made

    def _replaced(
        self, key: bytes, value: bytes, stored: bytes, revision: int, sub: int, lease: int
    ) -> tuple[KeyPut, bytes, bytes]:
        """What a put makes of a key that is there, and what `history` and `keys` are to hold."""
        cuts, part, number = HEAD.unpack_from(stored)
        at = HEAD.size + PLACE_BYTES * cuts
        old, shortcuts = stored[at:], stored[HEAD.size : at]
        create, superseded, version, _ = _RECORD.unpack_from(old)
        if superseded <= self.compacted_revision:
            number, shortcuts = 0, b""
        elif number % STEP == 0 or (
            cuts and shortcuts[-PLACE_BYTES:] <= last_place(self.compacted_revision)
        ):
            shortcuts = self._retained(head_of(stored, superseded)).next(NOWHERE).shortcuts
        # From here on as in `_following`, in fewer steps: most commands come this way.
        record = _RECORD.pack(create, revision, version + 1, lease) + value
        entry = entry_of(False, key, superseded, part, old, record, shortcuts)
        done = KeyPut(version + 1, create, record, old)
        return done, entry, with_head(sub, number + 1, shortcuts, record)

    def _created(
        self, key: bytes, value: bytes, revision: int, sub: int, lease: int
    ) -> tuple[KeyPut, bytes, bytes]:
        """`_replaced`, for a key that is not there."""
        record = _RECORD.pack(revision, revision, 1, lease) + value
        before = self._head_of_deleted(key)
        head, entry = _following(before, place_of(revision, sub), key, b"", record)
        if before is not FIRST:
            self._deleted.delete(key)
        return KeyPut(1, revision, record, None), entry, head.with_record(record)

    def delete_all(
        self, found: Sequence[tuple[bytes, bytes]], revision: int, sub: int = 0
    ) -> list[bytes]:
        """Delete keys with the records that they hold, at `revision`, as parts `sub` and following
        of its change; what the digest covers of that, in order."""
        entries: dict[bytes, bytes] = {}
        heads: dict[bytes, bytes] = {}
        for part, (key, old) in enumerate(found, sub):
            head, _ = self._head(key)
            new, entry = _following(self._retained(head), place_of(revision, part), key, old, b"")
            entries[new.place] = entry
            heads[key] = new.of_deleted
        self._history.put_all(entries)
        self._keys.delete_all(list(heads))
        self._deleted.put_all(heads)
        # Of a record the second eight bytes are its mod revision, as the tables write it.
        return [_DELETED + record[8:16] + key for key, record in found]

    def _head_of_deleted(self, key: bytes) -> ChainHead:
        """The head of a chain that ended in a deletion, if compaction left it. The feed may still
        be read from the compacted revision itself."""
        stored = self._deleted.get(key)
        if stored is None or not self._kept(stored):
            return FIRST
        return self._retained(head_of_deleted(stored))

    def _kept(self, stored: bytes) -> bool:
        """Whether this head of a deleted key is at or after the compacted revision: one before
        it may be gone already."""
        return revision_at(head_of_deleted(stored).place) >= self.compacted_revision

    def _retained(self, head: ChainHead) -> ChainHead:
        """`head` without what compaction dropped, or may drop, behind it."""
        if revision_at(head.place) <= self.compacted_revision:
            return ChainHead(head.place, 0, b"")
        return head.without(last_place(self.compacted_revision)) if head.shortcuts else head

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
        if revision == 0:
            stored = self._keys.get(key)
            if stored is None:
                return None
            # `key_value` of `record_of`, in one step: most reads come this way.
            at = HEAD.size + PLACE_BYTES * stored[0]
            create, mod, version, lease = _RECORD.unpack_from(stored, at)
            return KeyValue(key, stored[at + _RECORD.size :], create, mod, version, lease)
        self.check_revision(revision)
        found = self._as_of(key, revision)
        return key_value(key, found) if found else None

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
        """The current record of `key`."""
        stored = self._keys.get(key)
        return None if stored is None else record_of(stored)

    def records(
        self, start: bytes, end: bytes | None, revision: int = 0, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and records as of `revision`, which must be readable; 0 means now."""
        if end is not None and end <= start:
            return iter(())
        if revision == 0 and end == only(start):
            record = self.record(start)
            return iter(() if record is None else ((start, record),))
        if revision == 0:
            found = self._keys.scan(start, end, reverse)
            return ((key, record_of(stored)) for key, stored in found)
        looked_at = self.looked_at(start, end, revision, reverse)
        return ((key, record) for key, record, there in looked_at if there)

    def looked_at(
        self, start: bytes, end: bytes | None, revision: int = 0, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes, bool]]:
        """All that `records` has to look at, in the order of keys, each once: key, record, and
        whether that is what the key held as of `revision`; else it was not there, and the record
        is empty. The same on all replicas, whatever compaction has left of what nobody reads."""
        if revision == 0 or (end is not None and end <= start):
            for key, record in self.records(start, end, 0, reverse):
                yield key, record, True
            return
        heads = merge(
            self._keys.scan(start, end, reverse),
            (
                (key, b"")
                for key, stored in self._deleted.scan(start, end, reverse)
                if self._kept(stored)
            ),
            key=itemgetter(0),
            reverse=reverse,
        )
        for key, _ in heads:
            found = self._as_of(key, revision)
            yield key, found, found != b""

    def _as_of(self, key: bytes, revision: int) -> bytes:
        """The record that `key` held as of `revision`, which must be readable; b"" if none."""
        head, record = self._head(key)
        place = last_place(revision)
        if head.place <= place:
            return record or b""
        for change in self._search(head.place, place):
            record = change.before
        return record or b""

    def _head(self, key: bytes) -> tuple[ChainHead, bytes | None]:
        """The head of the chain of `key` and its current record, None if it has none; FIRST if
        there is no chain."""
        stored = self._keys.get(key)
        if stored is None:
            return self._head_of_deleted(key), None
        record = record_of(stored)
        return head_of(stored, _RECORD.unpack_from(record)[1]), record

    def _search(self, head: Place, place: Place) -> Iterator[ChainEntry]:
        """From the change at `head`, which is after `place`, to the oldest one of its key that is
        after `place`, which comes last. What compaction dropped is never asked for: `place` is
        behind none of that."""
        following: Place | None = head
        while following is not None:
            change = self._change_at(following)
            yield change
            following = change.towards(place)

    def _change_at(self, place: Place) -> ChainEntry:
        entry = self._history.get(place)
        if entry is None:
            raise DivergedState(
                f"a change of revision {revision_at(place)} is named, and it is gone"
            )
        return change_of(entry)

    def key_history(self, key: bytes, limit: int, revision: int = 0) -> KeyHistory:
        """Puts and deletions of `key` up to `revision` (0: now), as far as compaction left them.

        `previous` is set for deletions only; for a put it would be the item of the next event.
        Raises RevisionInFuture or RevisionCompacted.
        """
        if revision:
            self.check_revision(revision)
        events: list[KeyEvent] = []
        size = 0
        for event in self._events_of(key, revision or self.revision):
            if len(events) == limit or size >= PAGE_BYTES_MAX:
                return KeyHistory(events, True)
            size += len(event.item.value)
            events.append(event)
        return KeyHistory(events, False)

    def _events_of(self, key: bytes, revision: int) -> Iterator[KeyEvent]:
        """Newest first, up to `revision`."""
        head, record = self._head(key)
        at, limit = head.place, last_place(revision)
        if at > limit:
            for change in self._search(at, limit):
                at, record = change.place_before, change.before or None
        # Of what was put at or before the compacted revision only the last is visible.
        oldest = last_place(self.compacted_revision)
        while at != NOWHERE:
            ended = at <= oldest
            if record is not None:
                yield KeyEvent(key_value(key, record), False, None)
            if ended:
                return
            change = self._change_at(at)
            if record is None:
                gone = KeyValue(key, b"", 0, revision_at(at), 0, 0)
                yield KeyEvent(gone, True, key_value(key, change.before))
            at, record = change.place_before, change.before or None

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
        found_in = self._history.scan(
            place_of(first_revision, 0), place_of(first_revision + revisions_max, 0)
        )
        for place, entry in found_in:
            revision = revision_at(place)
            if not found or found[-1][0] != revision:
                if size >= PAGE_BYTES_MAX:
                    break
                found.append((revision, []))
            event = self._event(place, change_of(entry))
            size += EVENT_BYTES
            size += len(event.item.value) + len(event.previous.value if event.previous else b"")
            found[-1][1].append(event)
        return found

    def _event(self, place: Place, change: ChainEntry) -> KeyEvent:
        key, revision = change.key, revision_at(place)
        before = None
        # Of what the compacted revision superseded only what it had made itself is readable.
        own = revision_at(change.place_before) == revision
        if change.before and (own or revision > self.compacted_revision):
            before = key_value(key, change.before)
        if change.deletion:
            return KeyEvent(KeyValue(key, b"", 0, revision, 0, 0), True, before)
        return KeyEvent(key_value(key, change.after or self._made_at(place, key)), False, before)

    def _made_at(self, place: Place, key: bytes) -> bytes:
        """The record that the put of `key` at `place` made."""
        head, record = self._head(key)
        if head.place > place:
            for change in self._search(head.place, place):
                record = change.before
        if not record:
            raise DivergedState(f"what revision {revision_at(place)} made of a key is gone")
        return record

    # -- compaction -------------------------------------------------------------------------

    @staticmethod
    def discard(
        transaction: CheckpointTransaction, compacted_revision: int, entries_max: int
    ) -> None:
        """Physically delete about `entries_max` history entries that compaction gave up, and what
        leads to them from keys that are deleted. Runs inside a checkpoint, unseen by readers, who
        are refused by `compacted_revision` from the slot that raised it. The feed may still be
        read from the compacted revision itself."""
        first = place_of(compacted_revision, 0)
        for place, entry in transaction.drop_before("history", first, entries_max, DELETION):
            key = change_of(entry).key
            stored = transaction.get("deleted", key)
            # The key may have been put, and deleted again, since.
            if stored is not None and head_of_deleted(stored).place == place:
                transaction.delete("deleted", key)


def _following(
    head: ChainHead, place: Place, key: bytes, old: bytes, new: bytes
) -> tuple[ChainHead, bytes]:
    """The chain's head once `key` holds `new`, b"" if it is deleted, and its entry in history."""
    following = head.next(place)
    change = ChainEntry(not new, key, head.place, old, new, following.shortcuts)
    return following, change.entry
