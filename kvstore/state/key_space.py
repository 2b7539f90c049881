"""The key space: versions of keys, the leases that hold them, and one revision per change.

A change is everything between two calls of `commit`: a single put, or all writes of a transaction.
It takes one revision, in which its parts are numbered.
"""

from collections.abc import Callable, Sequence

from kvstore.commands.operations import KeyValue
from kvstore.state.budget import LEASE_KEYS_MAX
from kvstore.state.changes import Changes
from kvstore.state.lease_table import LeaseTable
from kvstore.state.mvcc import KeyEvent, KeyPut, Mvcc, key_value, lease_of
from kvstore.state.tables import Tables

_NO_LEASE = bytes(8)
"""In a record, of a key that no lease holds."""


class Keyspace:
    """`on_change`, while it is set, is told of every revision and its events."""

    def __init__(self, store: Tables, changes: Changes) -> None:
        self.mvcc = Mvcc(store)
        self.leases = LeaseTable(store, changes)
        self.on_change: Callable[[int, list[KeyEvent]], None] | None = None
        self._changes = changes
        self._events: list[KeyEvent] = []
        self._writes = 0

    @property
    def revision(self) -> int:
        """The store's, as reads inside a change see it: the new one after its first write."""
        return self.mvcc.revision + (1 if self._writes else 0)

    def lease_has_room(self, lease: int, key: bytes) -> bool:
        """Whether `key` may be put on `lease`: it is there already, or the lease holds fewer keys
        than it may."""
        if self.leases.count(lease) < LEASE_KEYS_MAX:
            return True
        record = self.mvcc.record(key)
        return record is not None and lease_of(record) == lease

    def put(self, key: bytes, value: bytes, lease: int) -> KeyPut:
        """Put a key; it leaves the lease it was on, if that is another."""
        mvcc = self.mvcc
        put = mvcc.put(key, value, mvcc.revision + 1, self._writes, lease)
        previous = put.previous
        self._writes += 1
        self._changes.key_put(key, put.record)
        held_by = 0 if previous is None else lease_of(previous)
        if held_by != lease:
            if held_by:
                self.leases.detach(held_by, key)
            if lease:
                self.leases.attach(lease, key)
        if self.on_change is not None:
            new = KeyValue(key, value, put.create_revision, mvcc.revision + 1, put.version, lease)
            before = None if previous is None else key_value(key, previous)
            self._events.append(KeyEvent(new, False, before))
        return put

    def put_each(self, puts: Sequence[tuple[bytes, bytes]]) -> list[KeyPut]:
        """`put` and `commit` of each key and value, on no lease, while nobody wants to hear of
        changes: then most of what a change costs is paid once."""
        mvcc = self.mvcc
        made = mvcc.put_each(puts, mvcc.revision + 1)
        mvcc.revision += len(made)
        changed = []
        for (key, _), done in zip(puts, made, strict=True):
            changed.append(key + done.record)
            previous = done.previous
            if previous is not None and previous[24:32] != _NO_LEASE:
                self.leases.detach(lease_of(previous), key)
        self._changes.keys_put(changed)
        return made

    def delete(self, key: bytes) -> bytes | None:
        """Delete a key; the record that was there, or None."""
        record = self.mvcc.record(key)
        if record is not None:
            self.delete_all([(key, record)])
        return record

    def delete_all(self, found: Sequence[tuple[bytes, bytes]]) -> None:
        """`delete` of keys whose records are known, in this order, none twice."""
        mvcc, revision = self.mvcc, self.mvcc.revision + 1
        changes = mvcc.delete_all(found, revision, self._writes)
        self._writes += len(changes)
        self._changes.keys_deleted(changes)
        self._detach(found)
        if self.on_change is not None:
            self._events += [
                KeyEvent(KeyValue(key, b"", 0, revision, 0, 0), True, key_value(key, record))
                for key, record in found
            ]

    def _detach(self, found: Sequence[tuple[bytes, bytes]]) -> None:
        """Keys that are deleted leave their leases."""
        leaving: dict[int, list[bytes]] = {}
        for key, record in found:
            if record[24:32] != _NO_LEASE:
                leaving.setdefault(lease_of(record), []).append(key)
        for lease, keys in leaving.items():
            self.leases.detach_all(lease, keys)

    def end_lease(self, lease: int) -> int:
        """Delete the keys of a lease, in order, and the lease; how many keys it held."""
        record_of = self.mvcc.record
        found = [(key, record_of(key)) for key in self.leases.keys(lease)]
        held = [(key, record) for key, record in found if record is not None]
        if held:
            self.delete_all(held)
        self.leases.end(lease)
        return len(found)

    def commit(self) -> int:
        """The change is complete: it takes a revision if it wrote anything. The store's now."""
        if self._writes:
            self._writes = 0
            self.mvcc.revision += 1
            if self.on_change is not None:
                events, self._events = self._events, []
                self.on_change(self.mvcc.revision, events)
        return self.mvcc.revision
