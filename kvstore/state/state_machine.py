"""The state machine: apply(batch) -> results, the same on every replica.

Nothing here reads a clock, draws randomness, or depends on the order of a dict (D5). Time is the
leader's timestamp in the batch, and never goes back. A running digest over everything that changes
lets replicas check that they agree.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import decode_batch, decode_bundle
from kvstore.commands.commands import (
    Administer,
    AsUser,
    Command,
    Compact,
    Condition,
    Delete,
    Grant,
    Once,
    Put,
    Revoke,
    StoreCommand,
)
from kvstore.commands.members import Reconfigure
from kvstore.commands.operations import KeyValue, Select, Selected, Transaction
from kvstore.commands.results import (
    AuthRefused,
    BadRevision,
    Compacted,
    Deleted,
    Granted,
    LeaseTaken,
    Limit,
    NoLease,
    NotHeld,
    Result,
    Revoked,
    Written,
)
from kvstore.errors import DivergedState
from kvstore.state import transactions
from kvstore.state.budget import WRITE_WORK, OverBudget
from kvstore.state.changes import Changes
from kvstore.state.kept_answers import KeptAnswers
from kvstore.state.key_space import Keyspace
from kvstore.state.members import Members
from kvstore.state.members_record import MembersRecord
from kvstore.state.mvcc import KeyEvent, KeyHistory, KeyPage, Mvcc
from kvstore.state.queues import first_of, last_before
from kvstore.state.reading import Reading
from kvstore.state.rights import Auth
from kvstore.state.selection import RangeSelection, select
from kvstore.state.sessions import Sessions
from kvstore.state.tables import CheckpointTransaction, Housekeeping, Tables
from kvstore.state.users import Accounts
from paxos.ballot import ZERO, Ballot, Slot

HOUSEKEEPING_MIN = 1_000
"""At least this many expired or compacted entries are deleted with each checkpoint."""
HOUSEKEEPING_CLEANING = 20_000
"""And so many while there is need of room."""


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
    members: bytes = b""
    """See `Members.encode`."""


class AppliedBundle(NamedTuple):
    """A bundle that was admitted, and the result of each of its commands."""

    bundle: Bundle
    results: list[Result]


class FrozenCheckpoint(NamedTuple):
    """A checkpoint to write: the last slot it covers, and what to do in its transaction."""

    through: Slot
    housekeeping: Housekeeping


_META_KEY = b"state"
_encode_meta = msgspec.msgpack.Encoder().encode
_decode_meta = msgspec.msgpack.Decoder(_Meta).decode


class StateMachine:
    """The replicated state, kept in `store`. Everything runs on the loop's thread, but for the
    housekeeping that `freeze` returns."""

    def __init__(self, store: Tables) -> None:
        self._store = store
        self._changes = Changes()
        self._keyspace = Keyspace(store, self._changes)
        self._mvcc = self._keyspace.mvcc
        self.leases = self._keyspace.leases
        self._accounts = Accounts(store.tables["auth"], self._changes)
        self.auth = Auth(self._accounts, self.leases.first_key)
        self._kept_answers = KeptAnswers(store, self._changes)
        self.members = Members(self._changes)
        self._load_meta()

    def load(self) -> None:
        """Start from what the store holds, which is another state now: a snapshot was installed."""
        self._load_meta()
        self.leases.load()
        self.auth.load()

    def _load_meta(self) -> None:
        data = self._store.tables["meta"].get(_META_KEY)
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
        self.members.restore(meta.members)
        self._frozen_through = self.applied_through

    def found(self, slot: Slot, revision: int, clock_ms: int, digest: bytes) -> None:
        """Begin a new cluster with what the tables hold: as of `slot`, at `revision`, before which
        nothing is readable. To be followed by a checkpoint."""
        self.applied_through = slot
        self._mvcc.revision = self._mvcc.compacted_revision = revision
        self.clock_ms = clock_ms
        self.digest = digest

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
        return select(self._keyspace, wanted)

    def selection(self, wanted: Select) -> RangeSelection:
        """The same in steps. Raises RevisionCompacted, RevisionInFuture."""
        return RangeSelection(self._keyspace, wanted)

    def reading(self, transaction: Transaction) -> Reading:
        """A transaction that writes nothing, as of now, in steps."""
        return Reading(self._keyspace, transaction)

    def kept_answer(self, once: Once) -> Result | None:
        """What was answered before under this key; None if nothing was."""
        return self._kept_answers.find(once, self.clock_ms)

    def queue_before(self, name: bytes, revision: int) -> KeyValue | None:
        """See `kvstore.state.queues.last_before`."""
        return last_before(self._keyspace, name, revision)

    def queue_first(self, name: bytes) -> KeyValue | None:
        """See `kvstore.state.queues.first_of`."""
        return first_of(self._keyspace, name)

    def history(self, key: bytes, limit: int, revision: int = 0) -> KeyHistory:
        """See `Mvcc.key_history`."""
        return self._mvcc.key_history(key, limit, revision)

    def changes(self, first_revision: int, revisions_max: int) -> list[tuple[int, list[KeyEvent]]]:
        """See `Mvcc.changes`."""
        return self._mvcc.changes(first_revision, revisions_max)

    def watch(self, on_change: Callable[[int, list[KeyEvent]], None] | None) -> None:
        """Call `on_change` with every revision from now on, as it is applied; None: stop."""
        self._keyspace.on_change = on_change

    @property
    def unwritten_bytes(self) -> int:
        """Applied and not yet checkpointed."""
        return self._store.unwritten_bytes

    # -- applying ---------------------------------------------------------------------------

    def apply(self, slot: Slot, value: bytes) -> list[AppliedBundle]:
        """Apply the chosen value of the next slot; what came of each bundle that was admitted.

        An empty value is the no-op that fills a gap. Raises DivergedState unless it is the next
        slot: each is applied once, in order.
        """
        if slot != self.applied_through + 1:
            raise DivergedState(
                f"slot {slot} was to be applied to the state of slot {self.applied_through}"
            )
        self.applied_through = slot
        applied = self._batch(value) if value else []
        self.members.reach(slot)
        return applied

    def _batch(self, value: bytes) -> list[AppliedBundle]:
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
                applied.append(AppliedBundle(bundle, self._commands(bundle.commands)))
            else:
                self._changes.bundle_refused()
        self.digest = self._changes.take_digest(self.digest)
        return applied

    def bundle_over(self, origin: int, starts: int, number: int) -> bool:
        """Whether the bundle of that name was applied, or will never be."""
        return self._sessions.over(origin, starts, number)

    def _lead(self, ballot: Ballot) -> None:
        """From here on it is ignored what a leader of a lower ballot says has expired."""
        if ballot > self.leader_ballot:
            self.leader_ballot = ballot
            self._changes.led_by(ballot)

    def _commands(self, commands: Sequence[Command]) -> list[Result]:
        """What comes of each, in order. Plain puts that follow each other are applied together."""
        results: list[Result] = []
        for plain, run in groupby(commands, _is_plain):
            if plain and not self._accounts.enabled and self._keyspace.on_change is None:
                results += self._put_each(run)
            else:
                results += map(self._command, run)
        return results

    def _put_each(self, puts: Iterable[Command]) -> list[Result]:
        """`_put` of plain puts."""
        pairs = [(put.key, put.value) for put in puts if isinstance(put, Put)]
        first = self._mvcc.revision + 1
        return [
            Written(revision, done.version, done.create_revision)
            for revision, done in enumerate(self._keyspace.put_each(pairs), first)
        ]

    def _command(self, command: Command) -> Result:
        if self._accounts.enabled and (reason := self.auth.refusal(command)) is not None:
            return AuthRefused(reason)
        if isinstance(command, Put):  # most commands are
            return self._put(command)
        if isinstance(command, AsUser):
            command = command.command
        if isinstance(command, Administer):
            return self.auth.apply(command.change)
        if isinstance(command, Reconfigure):
            return self.members.apply(command, self.applied_through, self.clock_ms)
        if isinstance(command, Once):
            return self._apply_once(command)
        return self._write(command)

    def work_of(self, command: Command) -> int:
        """What applying `command` would cost now, writing nothing, in keys that are looked at:
        WRITE_WORK for most.

        Raises WorkTooLarge if that is more than one command may. The state at apply decides; this
        is for telling the client before anything is replicated.
        """
        if isinstance(command, Put):  # most commands are
            return WRITE_WORK
        if self._accounts.enabled and self.auth.refusal(command) is not None:
            return WRITE_WORK
        work = WRITE_WORK
        inner = command.command if isinstance(command, AsUser) else command
        if isinstance(inner, Once):
            work, inner = 2 * WRITE_WORK, inner.command  # the answer is kept
        try:
            if isinstance(inner, Transaction):
                return work + transactions.cost(self._keyspace, inner)
        except OverBudget as over:
            raise over.error from None
        return work + (2 * self.leases.count(inner.lease) if isinstance(inner, Revoke) else 0)

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
                return transactions.apply(self._keyspace, command)
            case Compact(revision):
                return self._compact(revision)
            case Grant(lease, ttl_s):
                if self.leases.ttl_s(lease) is not None:
                    return LeaseTaken(lease)
                self.leases.grant(lease, ttl_s, self.applied_through)
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
                self.leases.grant(lease, put.ttl_s, self.applied_through)
            elif not known:
                return NoLease(lease)
            elif not self._keyspace.lease_has_room(lease, put.key):
                return OverBudget(Limit.LEASE_KEYS).result
        done = self._keyspace.put(put.key, put.value, lease)
        return Written(self._keyspace.commit(), done.version, done.create_revision)

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
        self._changes.compacted(revision)
        return Compacted(revision)

    def _apply_once(self, once: Once) -> Result:
        """The first answer again, until it expires by the log's clock."""
        kept = self._kept_answers.find(once, self.clock_ms)
        if kept is not None:
            return kept
        result = self._write(once.command)
        self._kept_answers.keep(once, result, self._mvcc.revision, self.clock_ms)
        return result

    # -- checkpointing ----------------------------------------------------------------------

    def freeze(self, cleaning: bool = False) -> FrozenCheckpoint | None:
        """Begin a checkpoint; None if there is nothing to write.

        `cleaning`: there is need of room, so more of what compaction gave up is deleted, and also
        if nothing was applied meanwhile. A checkpoint that failed is frozen still, and is to be
        tried again as it was.
        """
        if self._store.freezing:
            return FrozenCheckpoint(self._frozen_through, self._housekeeping(0))
        if self.applied_through == self.checkpointed_through and not cleaning:
            return None
        writes = self._store.tables["history"].unfrozen_entries
        meta = _Meta(
            self.applied_through,
            self._mvcc.revision,
            self._mvcc.compacted_revision,
            self.clock_ms,
            self.digest,
            self._sessions.encode(),
            self.leader_ballot,
            self.members.encode(),
        )
        self._store.tables["meta"].put(_META_KEY, _encode_meta(meta))
        self._store.freeze()
        self._frozen_through = self.applied_through
        least = HOUSEKEEPING_CLEANING if cleaning else HOUSEKEEPING_MIN
        housekeeping = self._housekeeping(2 * writes + least)
        return FrozenCheckpoint(self.applied_through, housekeeping)

    def found_anew(self, record: MembersRecord) -> None:
        """The members of another cluster that begins with this state; a checkpoint is due."""
        self.members.begin_anew(record)
        self.checkpointed_through = -1

    def checkpointed(self, through: Slot) -> None:
        """The checkpoint that covers `through` is durable."""
        self._store.finish()
        self.checkpointed_through = through

    def _housekeeping(self, entries_max: int) -> Housekeeping:
        """Delete what no read can see any more; bounded, so that a checkpoint stays short."""
        compacted, clock_ms = self._mvcc.compacted_revision, self.clock_ms

        def run(transaction: CheckpointTransaction) -> None:
            Mvcc.discard(transaction, compacted, entries_max)
            KeptAnswers.discard(transaction, clock_ms, entries_max)

        return run


def _is_plain(command: Command) -> bool:
    """Whether it puts a key, whatever was there, on no lease."""
    return isinstance(command, Put) and command.condition is None and not command.lease
