"""Leases: which there are, how long they were granted for, and which keys they hold.

Replicated state only: when a lease ends is decided by the leader
(`kvstore.replica.lease_timers`), and reaches every replica through the log. Two tables:
`leases`, id -> (seconds granted, the slot that granted it); `lease_keys`, (id, key) -> nothing.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kvstore.state.changes import Changes
from kvstore.state.tables import Tables
from paxos.ballot import Slot

LEASE_TTL_S_MIN = 2
"""Shorter ones are granted for this long: a leader needs that time to be replaced."""
LEASE_TTL_S_MAX = 9_000_000_000

_ID = struct.Struct(">q")
_GRANT = struct.Struct(">qQ")
_PAST_ALL_KEYS = b"\xff" * 2048
"""Longer than any key."""


class LeaseTtl(NamedTuple):
    """A lease and the seconds it was granted for; 0 for one that has ended."""

    lease: int
    ttl_s: int


class LeaseTable:
    """All leases. `changed` collects those granted and ended, until the caller clears it."""

    def __init__(self, store: Tables, changes: Changes) -> None:
        self._changes = changes
        self._leases = store.tables["leases"]
        self._keys = store.tables["lease_keys"]
        self.changed: list[LeaseTtl] = []
        self._counts: dict[int, int] = {}
        """How many keys a lease holds; counted when first asked for, and kept up from then on."""

    def load(self) -> None:
        """The tables were replaced: a snapshot was installed."""
        self._counts.clear()

    def ttl_s(self, lease: int) -> int | None:
        """Seconds it was granted for, or None if there is no such lease."""
        data = self._leases.get(_ID.pack(lease))
        return None if data is None else int(_GRANT.unpack(data)[0])

    def granted_in(self, lease: int) -> Slot:
        """The slot that granted it, 0 if there is no such lease."""
        data = self._leases.get(_ID.pack(lease))
        return 0 if data is None else int(_GRANT.unpack(data)[1])

    def all(self, after: int | None = None) -> Iterator[LeaseTtl]:
        """In the order of the table, in which negative ids come last; `after`: those behind it."""
        start = b"" if after is None else _ID.pack(after) + b"\0"
        for key, data in self._leases.scan(start, None):
            yield LeaseTtl(_ID.unpack(key)[0], _GRANT.unpack(data)[0])

    def keys(self, lease: int) -> list[bytes]:
        """The keys it holds, in order."""
        prefix = _ID.pack(lease)
        return [key[8:] for key, _ in self._keys.scan(prefix, prefix + _PAST_ALL_KEYS)]

    def holding(self) -> Iterator[int]:
        """The ids that hold keys, once for each key, whether or not there are such leases."""
        for key, _ in self._keys.scan(b"", None):
            yield _ID.unpack_from(key)[0]

    def count(self, lease: int) -> int:
        """How many keys it holds."""
        found = self._counts.get(lease)
        if found is None:
            prefix = _ID.pack(lease)
            found = sum(1 for _ in self._keys.scan(prefix, prefix + _PAST_ALL_KEYS))
            self._counts[lease] = found
        return found

    def first_key(self, lease: int, start: bytes) -> bytes | None:
        """The first of its keys from `start` on; None if there is none."""
        prefix = _ID.pack(lease)
        for key, _ in self._keys.scan(prefix + start, prefix + b"\xff" * 2048):
            return key[8:]
        return None

    def grant(self, lease: int, ttl_s: int, slot: Slot) -> None:
        """Begin a lease in `slot`. There must be none of that id."""
        data = _GRANT.pack(ttl_s, slot)
        self._leases.put(_ID.pack(lease), data)
        self.changed.append(LeaseTtl(lease, ttl_s))
        self._changes.lease_granted(lease, data)

    def end(self, lease: int) -> None:
        """Delete a lease that holds no keys any more."""
        self._leases.delete(_ID.pack(lease))
        self._counts.pop(lease, None)
        self.changed.append(LeaseTtl(lease, 0))
        self._changes.lease_ended(lease)

    def attach(self, lease: int, key: bytes) -> None:
        """It holds `key`, which it did not before."""
        if lease in self._counts:
            self._counts[lease] += 1
        self._keys.put(_ID.pack(lease) + key, b"")

    def detach_all(self, lease: int, keys: Sequence[bytes]) -> None:
        """It does not hold `keys` any more, which it held; none twice."""
        if lease in self._counts:
            self._counts[lease] -= len(keys)
        prefix = _ID.pack(lease)
        self._keys.delete_all([prefix + key for key in keys])

    def detach(self, lease: int, key: bytes) -> None:
        """It does not hold `key` any more."""
        if lease in self._counts:
            self._counts[lease] -= 1
        self._keys.delete(_ID.pack(lease) + key)
