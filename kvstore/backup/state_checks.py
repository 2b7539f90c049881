"""Whether a state is one that this store can have made: every record, and each index against the
others. Checksums say that a record is what was written; this says that it fits."""

import struct
from collections.abc import Callable, Iterator

from kvstore.backup.state_files import UNREADABLE
from kvstore.state.chains import (
    NOWHERE,
    PLACE_BYTES,
    change_of,
    head_of,
    head_of_deleted,
    record_of,
    revision_at,
)
from kvstore.state.mvcc import key_value
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore

PROBLEMS_MAX = 100
"""No more are told of one state."""
EVERY = 1000

_LEASE = struct.Struct(">q")
Looked = Callable[[int, int], None]
"""Hears how many records were looked at, of how many."""


class StateCheck:
    """Looks at all records of a state; `problems` are sentences."""

    def __init__(self, store: StateStore, state: StateMachine, looked: Looked) -> None:
        self._store = store
        self._state = state
        self._looked = looked
        self._count = 0
        self._of = sum(store.records(table) for table in store.tables)
        self.problems: list[str] = []
        self.keys = 0

    def run(self) -> None:
        """Fill `problems`. What cannot be read at all is one, too."""
        for check in (self._meta, self._history, self._keys, self._deleted, self._leases):
            try:
                check()
            except UNREADABLE as error:
                self._problem(str(error))
        for table in ("once", "once_expiry", "auth"):
            try:
                for _ in self._scan(table):
                    pass
            except UNREADABLE as error:
                self._problem(str(error))
        self._looked(self._of, self._of)

    def _problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)

    def _scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        for pair in self._store.tables[table].scan(b"", None):
            self._count += 1
            if self._count % EVERY == 0:
                self._looked(min(self._count, self._of), self._of)
            yield pair

    def _meta(self) -> None:
        state = self._state
        if not 0 <= state.compacted_revision <= state.revision:
            self._problem(
                f"compacted through {state.compacted_revision}, and the revision is "
                f"{state.revision}"
            )

    def _history(self) -> None:
        """From the compacted revision to the current one each has its changes."""
        expected = max(self._state.compacted_revision + 1, 2)
        for place, entry in self._scan("history"):
            change = change_of(entry)
            revision = revision_at(place)
            if len(place) != PLACE_BYTES or change.place_before >= place:
                self._problem(f"history: revision {revision} leads forward")
            if revision < expected - 1:
                continue  # compacted, and not yet dropped
            if revision > expected:
                self._problem(f"history: revisions {expected} to {revision - 1} are missing")
            expected = max(expected, revision + 1)
        if expected <= self._state.revision:
            self._problem(f"history: revisions {expected} to {self._state.revision} are missing")

    def _keys(self) -> None:
        state = self._state
        held = self._store.tables["lease_keys"]
        for key, stored in self._scan("keys"):
            self.keys += 1
            item = key_value(key, record_of(stored))
            if not 0 < item.create_revision <= item.mod_revision <= state.revision:
                self._problem(f"keys: {key!r} has revisions that cannot be")
            if item.version < 1 or item.version > item.mod_revision:
                self._problem(f"keys: {key!r} has a version that cannot be")
            head = head_of(stored, item.mod_revision)
            if item.mod_revision > state.compacted_revision:
                self._named(key, head.place, "keys", deletion=False)
            if item.lease and held.get(_LEASE.pack(item.lease) + key) is None:
                self._problem(f"lease_keys: lease {item.lease} does not name its key {key!r}")

    def _named(self, key: bytes, place: bytes, table: str, *, deletion: bool) -> None:
        """The head of a chain is the change of that key in the history."""
        entry = self._store.tables["history"].get(place)
        if entry is None:
            self._problem(f"{table}: the last change of {key!r} is not in the history")
            return
        change = change_of(entry)
        if change.key != key or change.deletion != deletion:
            self._problem(f"{table}: the last change of {key!r} is another one in the history")

    def _deleted(self) -> None:
        keys = self._store.tables["keys"]
        for key, stored in self._scan("deleted"):
            head = head_of_deleted(stored)
            if keys.get(key) is not None:
                self._problem(f"deleted: {key!r} is there and deleted")
            if head.place != NOWHERE and revision_at(head.place) > self._state.compacted_revision:
                self._named(key, head.place, "deleted", deletion=True)

    def _leases(self) -> None:
        known = {lease for lease, _ in self._state.leases.all()}
        for _ in self._scan("leases"):
            pass
        keys = self._store.tables["keys"]
        for row, _ in self._scan("lease_keys"):
            lease, key = _LEASE.unpack_from(row)[0], row[_LEASE.size :]
            stored = keys.get(key)
            if lease not in known:
                self._problem(f"lease_keys: {key!r} is on lease {lease}, which is not there")
            if stored is None or key_value(key, record_of(stored)).lease != lease:
                self._problem(f"lease_keys: {key!r} is not on lease {lease}")
