"""The key space: versions of keys, the leases that hold them, and one revision per change.

A change is everything between two calls of `commit`: a single put, or all writes of a transaction.
It takes one revision, in which its parts are numbered.
"""

from collections.abc import Callable

from kvstore.commands.operations import KeyValue
from kvstore.state.lease_table import LeaseTable
from kvstore.state.mvcc import KeyEvent, Mvcc, key_value, lease_of
from kvstore.storage.state import StateStore


class Keyspace:
    """`digest_parts` collects all that changed, as bytes; `on_change` is told of every revision
    while somebody watches."""

    def __init__(self, store: StateStore) -> None:
        self.mvcc = Mvcc(store)
        self.leases = LeaseTable(store)
        self.digest_parts: list[bytes] = []
        self.on_change: Callable[[int, list[KeyEvent]], None] | None = None
        self._events: list[KeyEvent] = []
        self._writes = 0

    @property
    def revision(self) -> int:
        """The store's, as reads inside a change see it: the new one after its first write."""
        return self.mvcc.revision + (1 if self._writes else 0)

    def put(self, key: bytes, value: bytes, lease: int) -> tuple[int, int, bytes | None]:
        """Write; the new version, its create revision, and the record that was there before."""
        mvcc = self.mvcc
        version, create, changed, old = mvcc.put(key, value, mvcc.revision + 1, self._writes, lease)
        self._writes += 1
        self.digest_parts.append(changed)
        held_by = 0 if old is None else lease_of(old)
        if held_by != lease:
            if held_by:
                self.leases.detach(held_by, key)
            if lease:
                self.leases.attach(lease, key)
        if self.on_change is not None:
            new = KeyValue(key, value, create, mvcc.revision + 1, version, lease)
            self._events.append(KeyEvent(new, False, None if old is None else key_value(key, old)))
        return version, create, old

    def delete(self, key: bytes) -> bytes | None:
        """Remove; the record that was there, or None."""
        mvcc = self.mvcc
        removed = mvcc.delete(key, mvcc.revision + 1, self._writes)
        if removed is None:
            return None
        changed, old = removed
        self._writes += 1
        self.digest_parts.append(changed)
        held_by = lease_of(old)
        if held_by:
            self.leases.detach(held_by, key)
        if self.on_change is not None:
            gone = KeyValue(key, b"", 0, mvcc.revision + 1, 0, 0)
            self._events.append(KeyEvent(gone, True, key_value(key, old)))
        return old

    def end_lease(self, lease: int) -> int:
        """Delete its keys, in order, and the lease; how many keys went."""
        keys = self.leases.keys(lease)
        for key in keys:
            self.delete(key)
        self.digest_parts.append(self.leases.end(lease))
        return len(keys)

    def commit(self) -> int:
        """The change is complete: it takes a revision if it wrote anything. The store's now."""
        if self._writes:
            self._writes = 0
            self.mvcc.revision += 1
            if self.on_change is not None:
                events, self._events = self._events, []
                self.on_change(self.mvcc.revision, events)
        return self.mvcc.revision
