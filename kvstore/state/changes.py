"""What a slot changed, as the bytes that the running digest of the state covers.

Replicas compare their digests, so each entry's bytes, and the order of entries, are part of the
replicated format: changing them makes nodes of two releases take each other for damaged.
"""

import hashlib
import struct
from collections.abc import Iterable

from kvstore.commands.accounts import AuthChange
from kvstore.commands.binary import encode
from paxos.ballot import Ballot

DIGEST_BYTES = 16

_REVISION = struct.Struct(">Q")
_BALLOT = struct.Struct(">QQ")
_LEASE = struct.Struct(">q")


class Changes:
    """Collects the changes of one slot, in the order in which they happen."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []

    def key_put(self, key: bytes, record: bytes) -> None:
        self._entries.append(key + record)

    def keys_put(self, puts: Iterable[bytes]) -> None:
        """`key_put` of each, key and record joined."""
        self._entries += puts

    def keys_deleted(self, changes: Iterable[bytes]) -> None:
        """`changes` are the deletions as the table `history` holds them."""
        self._entries += changes

    def lease_granted(self, lease: int, grant: bytes) -> None:
        """`grant` is what the table `leases` holds."""
        self._entries.append(b"grant" + _LEASE.pack(lease) + grant)

    def lease_ended(self, lease: int) -> None:
        self._entries.append(b"end" + _LEASE.pack(lease))

    def auth_changed(self, change: AuthChange) -> None:
        self._entries.append(b"auth" + encode(change))

    def members_changed(self, record: bytes) -> None:
        """`record` is what the members are from now on."""
        self._entries.append(b"members" + record)

    def compacted(self, revision: int) -> None:
        self._entries.append(b"compact" + _REVISION.pack(revision))

    def answer_kept(self, idempotency_key: bytes) -> None:
        self._entries.append(idempotency_key)

    def led_by(self, ballot: Ballot) -> None:
        """A higher ballot than any before."""
        self._entries.append(b"ballot" + _BALLOT.pack(*ballot))

    def bundle_refused(self) -> None:
        self._entries.append(b"refused")

    def take_digest(self, before: bytes) -> bytes:
        """The digest after this slot, given the one before it; the next slot starts empty."""
        digest = hashlib.blake2b(before, digest_size=DIGEST_BYTES)
        digest.update(b"".join(self._entries))
        self._entries.clear()
        return digest.digest()
