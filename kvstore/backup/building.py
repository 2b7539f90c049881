"""Builds the state of a new cluster out of an old one's: keys, leases, users, and nothing else.

What belonged to the old cluster stays behind: its history, sessions of its nodes, ballots, the
secret that its tokens are signed with. Revisions go on far above all that it may have handed out.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kvstore.commands.operations import KeyValue
from kvstore.errors import BackupError, RevisionCompacted, RevisionInFuture
from kvstore.state.changes import DIGEST_BYTES, Changes
from kvstore.state.lease_table import LeaseTable
from kvstore.state.mvcc import lease_of_stored, stored_alone
from kvstore.state.state_machine import StateMachine
from kvstore.state.users import with_secret
from kvstore.storage.state import StateStore, WriteTransaction

PAGE_KEYS = 1000
UNWRITTEN_BYTES_MAX = 16 << 20
LEASE_AGAIN_S = 60
"""A key that is put back, and whose lease has ended since, is on a lease of that id again, for so
long: a holder that is still there keeps it, and else the key goes as it went before."""
SECRET_BYTES = 32


class KeyChange(NamedTuple):
    """One change of a key, of a change log."""

    revision: int
    key: bytes
    item: KeyValue | None
    """None: it was deleted."""


class Built(NamedTuple):
    """What was built: the revision as of which it shows the old cluster, its own, and how much."""

    as_of: int
    revision: int
    keys: int
    leases: int
    leases_again: int
    """Granted again, because keys that were put back were on them."""


def keys_of(state: StateMachine, revision: int, start: bytes = b"") -> Iterator[KeyValue]:
    """All keys from `start` on as of `revision`, in order. Raises BackupError if that revision is
    not in this state."""
    at: bytes | None = start
    while at is not None:
        try:
            page = state.range(at, None, revision=revision, limit=PAGE_KEYS)
        except RevisionCompacted as error:
            raise BackupError(
                f"revision {revision} is not in this backup: it holds revisions from "
                f"{error.compacted_revision} to {state.revision}"
            ) from None
        except RevisionInFuture:
            raise BackupError(
                f"revision {revision} is not in this backup: it ends at {state.revision}"
            ) from None
        yield from page.items
        at = page.items[-1].key + b"\0" if page.more else None


class StateBuilder:
    """A new state's file at `path`; `close` it, and nobody else may use it before.

    The order is: `take` the old state, `change` what happened since, `finish`.
    """

    def __init__(self, path: Path) -> None:
        self._store = StateStore(path)
        self._changes = Changes()
        self._leases = LeaseTable(self._store, self._changes)
        self._keys = self._store.tables["keys"]
        self._count = 0
        self._as_of = 0
        self._slot = 1
        self._clock_ms = 0
        self._digest = b""

    def take(self, store: StateStore, state: StateMachine, revision: int) -> None:
        """Everything of the old cluster's state, its keys as of `revision`. Raises BackupError."""
        self._as_of, self._slot = revision, max(1, state.applied_through)
        self._clock_ms, self._digest = state.clock_ms, state.digest
        for lease, ttl_s in state.leases.all():
            self._leases.grant(lease, ttl_s, state.leases.granted_in(lease))
            self._settle()
        self._take_users(store)
        if revision == state.revision:  # else they answer for writes that are not there
            for table in ("once", "once_expiry"):
                for key, value in store.tables[table].scan(b"", None):
                    self._store.tables[table].put(key, value)
                    self._settle()
        for item in keys_of(state, revision):
            self._put(item, None)

    def _take_users(self, store: StateStore) -> None:
        secret = os.urandom(SECRET_BYTES)
        for key, value in store.tables["auth"].scan(b"", None):
            self._store.tables["auth"].put(key, with_secret(key, value, secret))

    def change(self, change: KeyChange) -> None:
        """What happened next, in the order of revisions. Raises BackupError."""
        before = self._keys.get(change.key)
        self._as_of = change.revision
        if change.item is not None:
            self._put(change.item, before)
            return
        if before is None:
            raise BackupError(
                f"the change log does not fit: revision {change.revision} deletes a key that is "
                "not there"
            )
        self._detach(change.key, before)
        self._keys.delete(change.key)
        self._count -= 1
        self._settle()

    def pass_over(self, revision: int) -> None:
        """Everything up to `revision` was given."""
        self._as_of = max(self._as_of, revision)

    def _put(self, item: KeyValue, before: bytes | None) -> None:
        if before is None:
            self._count += 1
        else:
            self._detach(item.key, before)
        if item.lease:
            self._leases.attach(item.lease, item.key)
        self._keys.put(item.key, stored_alone(item))
        self._settle()

    def _detach(self, key: bytes, stored: bytes) -> None:
        if lease := lease_of_stored(stored):
            self._leases.detach(lease, key)

    def finish(self, revision: int) -> Built:
        """Make it durable, as a state whose revisions begin at `revision`."""
        again = self._grant_again()
        self._write()
        seed = self._digest + os.urandom(DIGEST_BYTES)
        state = StateMachine(self._store)
        digest = hashlib.blake2b(seed, digest_size=DIGEST_BYTES).digest()
        state.found(self._slot, revision, self._clock_ms, digest)
        frozen = state.freeze()
        if frozen is None:
            raise BackupError("nothing was built")
        self._store.write_frozen(frozen.housekeeping)
        state.checkpointed(frozen.through)
        leases = sum(1 for _ in self._leases.all())
        return Built(self._as_of, revision, self._count, leases, again)

    def _grant_again(self) -> int:
        """Leases that keys are on and that are not there any more; how many."""
        wanted = set(self._leases.holding())
        missing = sorted(lease for lease in wanted if self._leases.ttl_s(lease) is None)
        for lease in missing:
            self._leases.grant(lease, LEASE_AGAIN_S, self._slot)
        return len(missing)

    def _settle(self) -> None:
        """Write now and then what is held in memory."""
        if self._store.unwritten_bytes > UNWRITTEN_BYTES_MAX:
            self._write()

    def _write(self) -> None:
        self._leases.changed.clear()
        self._changes.take_digest(b"")
        if self._store.freeze():
            self._store.write_frozen(_nothing_else)
            self._store.finish()

    def close(self) -> None:
        """Give the file back."""
        self._store.close()


def _nothing_else(_: WriteTransaction) -> None:
    """Nothing has expired meanwhile."""
