"""The state machine: apply(batch) -> results, the same on every replica.

Nothing here reads a clock, draws randomness, or depends on the order of a dict (D5). Time is the
leader's timestamp in the batch, and never goes back. A running digest over everything that changes
lets replicas check that they agree.
"""

import hashlib
import struct
from collections.abc import Callable

import msgspec

from kvstore.commands.commands import (
    Administer,
    AsUser,
    AuthRefused,
    BadRevision,
    Batch,
    Bundle,
    Command,
    Compact,
    Compacted,
    Condition,
    Delete,
    Deleted,
    Grant,
    Granted,
    LeaseTaken,
    Mismatched,
    NoLease,
    NotHeld,
    Once,
    Put,
    Result,
    Revoke,
    Revoked,
    StoreCommand,
    Written,
    decode_batch,
    decode_bundle,
    decode_result,
    encode,
)
from kvstore.commands.operations import KeyValue, Select, Selected, Transaction
from kvstore.state import transactions as transaction
from kvstore.state.auth import Auth
from kvstore.state.key_space import Keyspace
from kvstore.state.mvcc import KeyEvent, KeyHistory, KeyPage, Mvcc
from kvstore.state.selection import select
from kvstore.state.sessions import Sessions
from kvstore.storage.state import Housekeeping, StateStore
from paxos.ballot import ZERO, Ballot, Slot

_ONCE = struct.Struct(">Q16s")
_EXPIRY = struct.Struct(">Q")
_BALLOT = struct.Struct(">QQ")

HOUSEKEEPING_MIN = 1_000
"""At least this many expired or compacted entries are removed with each checkpoint."""


class _Meta(msgspec.Struct, array_like=True):
    """The scalar part of the state, checkpointed with the tables in the same transaction."""

    applied_through: Slot
    revision: int
    compacted_revision: int
    clock_ms: int
    digest: bytes
    sessions: bytes
    leader_ballot: Ballot = ZERO
    """The highest ballot of a batch that was applied."""


_decode_meta = msgspec.msgpack.Decoder(_Meta).decode


class StateMachine:
    """The replicated state over a StateStore. Everything runs on the loop's thread."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._keyspace = Keyspace(store)
        self._mvcc = self._keyspace.mvcc
        self.leases = self._keyspace.leases
        self.auth = Auth(store.tables["auth"], self._keyspace.digest_parts, self.leases.keys)
        self._once = store.tables["once"]
        self._once_expiry = store.tables["once_expiry"]
        self.load()

    def load(self) -> None:
        """Start from what the store holds: at start, or after a snapshot was installed."""
        data = self._store.tables["meta"].get(b"state")
        meta = _Meta(0, 1, 0, 0, b"", b"") if data is None else _decode_meta(data)
        self.applied_through = meta.applied_through
        self.checkpointed_through = meta.applied_through
        self._mvcc.revision = meta.revision
        self._mvcc.compacted_revision = meta.compacted_revision
        self.clock_ms = meta.clock_ms
        self.digest = meta.digest
        self.leader_ballot = meta.leader_ballot
        self._sessions = Sessions()
        if meta.sessions:
            self._sessions.restore(meta.sessions)
        self._changes = self._keyspace.digest_parts
        self.auth.load()

    # -- reading ----------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The store's revision: 1 when empty, one more with each write."""
        return self._mvcc.revision

    @property
    def compacted_revision(self) -> int:
        """The oldest revision that is readable."""
        return self._mvcc.compacted_revision

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        """See `Mvcc.get`."""
        return self._mvcc.get(key, revision)

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
        """See `Mvcc.range`."""
        return self._mvcc.range(
            start, end, revision=revision, limit=limit, reverse=reverse, keys_only=keys_only
        )

    def select(self, wanted: Select) -> Selected:
        """See `kvstore.state.selection.select`."""
        return select(self._mvcc, wanted, self._mvcc.revision)

    def history(self, key: bytes, limit: int, revision: int = 0) -> KeyHistory:
        """See `Mvcc.key_history`."""
        return self._mvcc.key_history(key, limit, revision)

    def changes(self, first_revision: int, revisions_max: int) -> list[tuple[int, list[KeyEvent]]]:
        """See `Mvcc.changes`."""
        return self._mvcc.changes(first_revision, revisions_max)

    def watch(self, on_change: Callable[[int, list[KeyEvent]], None] | None) -> None:
        """Have every revision told from now on, as it is applied; None: no more."""
        self._keyspace.on_change = on_change

    @property
    def unwritten_bytes(self) -> int:
        """Applied and not yet checkpointed."""
        return self._store.unwritten_bytes

    # -- applying ---------------------------------------------------------------------------

    def apply(self, slot: Slot, value: bytes) -> list[tuple[Bundle, list[Result]]]:
        """Apply the chosen value of the next slot; the results of each bundle that was admitted.

        An empty value is the no-op that fills a gap.
        """
        assert slot == self.applied_through + 1, "slots are applied in order, each once"
        self.applied_through = slot
        if not value:
            return []
        batch: Batch = decode_batch(value)
        self.clock_ms = max(self.clock_ms, batch.clock_ms)
        if batch.ballot >= self.leader_ballot:
            self._lead(batch.ballot)
            known = batch.known_through
            for lease in batch.expired:
                if known is None or self.leases.granted_in(lease) <= known:
                    self._end_lease(lease)
        applied = []
        for encoded in batch.bundles:
            bundle = decode_bundle(encoded)
            if self._sessions.admit(bundle):
                applied.append((bundle, [self._command(command) for command in bundle.commands]))
            else:
                self._changes.append(b"refused")
        digest = hashlib.blake2b(self.digest, digest_size=16)
        digest.update(b"".join(self._changes))
        self.digest = digest.digest()
        self._changes.clear()
        return applied

    def _lead(self, ballot: Ballot) -> None:
        """From here on no word of an earlier leader counts about what has expired."""
        if ballot > self.leader_ballot:
            self.leader_ballot = ballot
            self._changes.append(b"ballot" + _BALLOT.pack(*ballot))

    def _command(self, command: Command) -> Result:
        if self.auth.enabled and (reason := self.auth.refusal(command)) is not None:
            return AuthRefused(reason)
        if isinstance(command, AsUser):
            command = command.command
        if isinstance(command, Administer):
            return self.auth.apply(command.change)
        if isinstance(command, Once):
            return self._apply_once(command)
        return self._write(command)

    def _write(self, command: StoreCommand) -> Result:
        match command:
            case Put():
                return self._put(command)
            case Delete(key, condition):
                if condition is not None and (refused := self._refusal(key, condition)):
                    return refused
                deleted = self._keyspace.delete(key)
                return Deleted(self._keyspace.commit(), 0 if deleted is None else 1)
            case Transaction():
                return transaction.apply(self._keyspace, command)
            case Compact(revision):
                return self._compact(revision)
            case Grant(lease, ttl_s):
                if self.leases.ttl_s(lease) is not None:
                    return LeaseTaken(lease)
                self._changes.append(self.leases.grant(lease, ttl_s, self.applied_through))
                return Granted(self._mvcc.revision, lease, ttl_s)
            case Revoke(lease):
                return self._end_lease(lease)

    def _put(self, put: Put) -> Result:
        lease = put.lease
        if put.condition is not None and (refused := self._refusal(put.key, put.condition)):
            return refused
        if lease:
            known = self.leases.ttl_s(lease) is not None
            if put.ttl_s and known:
                return LeaseTaken(lease)
            if put.ttl_s:
                granted = self.leases.grant(lease, put.ttl_s, self.applied_through)
                self._changes.append(granted)
            elif not known:
                return NoLease(lease)
        version, create, _ = self._keyspace.put(put.key, put.value, lease)
        return Written(self._keyspace.commit(), version, create)

    def _end_lease(self, lease: int) -> Result:
        if self.leases.ttl_s(lease) is None:
            return NoLease(lease)
        deleted = self._keyspace.end_lease(lease)
        return Revoked(self._keyspace.commit(), deleted)

    def _refusal(self, key: bytes, condition: Condition) -> NotHeld | None:
        found = self._mvcc.mod_revision(key)
        wanted = condition.mod_revision
        held = found > 0 if wanted < 0 else found == wanted
        return None if held else NotHeld(found)

    def _compact(self, revision: int) -> Result:
        current, compacted = self._mvcc.revision, self._mvcc.compacted_revision
        if not compacted < revision <= current:
            return BadRevision(revision, compacted, current)
        self._mvcc.compacted_revision = revision
        self._changes.append(b"compact" + _EXPIRY.pack(revision))
        return Compacted(revision)

    def _apply_once(self, once: Once) -> Result:
        """The first answer again, until it expires by the log's clock."""
        fingerprint = hashlib.blake2b(encode(once.command), digest_size=16).digest()
        held = self._once.get(once.idempotency_key)
        if held is not None:
            expires_ms, before = _ONCE.unpack_from(held)
            if expires_ms > self.clock_ms:
                if before != fingerprint:
                    return Mismatched()
                return decode_result(held[_ONCE.size :])
        result = self._write(once.command)
        expires_ms = self.clock_ms + once.ttl_ms
        self._once.put(once.idempotency_key, _ONCE.pack(expires_ms, fingerprint) + encode(result))
        self._once_expiry.put(_EXPIRY.pack(expires_ms) + once.idempotency_key, b"")
        self._changes.append(once.idempotency_key)
        return result

    # -- checkpointing ----------------------------------------------------------------------

    def freeze(self) -> tuple[Slot, Housekeeping] | None:
        """Begin a checkpoint: the slot it will cover and the work to do along, or None.

        A checkpoint that failed is frozen still and is tried again as it was.
        """
        if self._store.freezing:
            frozen = self._store.tables["meta"].frozen[b"state"]
            assert frozen is not None
            return _decode_meta(frozen).applied_through, self._housekeeping(0)
        if self.applied_through == self.checkpointed_through:
            return None
        writes = len(self._store.tables["history"].active)
        meta = _Meta(
            self.applied_through,
            self._mvcc.revision,
            self._mvcc.compacted_revision,
            self.clock_ms,
            self.digest,
            self._sessions.encode(),
            self.leader_ballot,
        )
        self._store.tables["meta"].put(b"state", encode_meta(meta))
        self._store.freeze()
        return self.applied_through, self._housekeeping(2 * writes + HOUSEKEEPING_MIN)

    def checkpointed(self, through: Slot) -> None:
        """The checkpoint that covers `through` is durable."""
        self._store.finish()
        self.checkpointed_through = through

    def _housekeeping(self, entries_max: int) -> Housekeeping:
        """Remove what nobody can see any more; bounded, so that a checkpoint stays short."""
        compacted, clock_ms = self._mvcc.compacted_revision, self.clock_ms

        def run(txn, databases):  # type: ignore[no-untyped-def]
            Mvcc.discard(txn, databases, compacted, entries_max)
            cursor = txn.cursor(db=databases["once_expiry"])
            left = entries_max
            found = cursor.first()
            while found and left > 0:
                key = cursor.key()
                if _EXPIRY.unpack_from(key)[0] > clock_ms:
                    break
                held = txn.get(key[8:], db=databases["once"])
                # The key may have been used again since: then a later entry stands for it.
                if held is not None and _ONCE.unpack_from(held)[0] <= clock_ms:
                    txn.delete(key[8:], db=databases["once"])
                cursor.delete()
                left -= 1
                found = bool(cursor.key())

        return run


def encode_meta(meta: _Meta) -> bytes:
    return msgspec.msgpack.encode(meta)
