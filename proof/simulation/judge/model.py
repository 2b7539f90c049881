"""The model: what every slot must answer, computed by the simplest possible means.

A dictionary of all keys, a dictionary of leases, and a list of all that ever changed. Written from
the documentation of the commands and sharing no code with the state machine, it applies the chosen
log once; the results of the first replica that applies a slot must be the same. That the other
replicas agree is the business of the digests.
"""

from bisect import bisect_right
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
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
)
from kvstore.commands.members import Reconfigure
from kvstore.commands.operations import (
    Comparison,
    Field,
    KeyValue,
    Relation,
    Select,
    Selected,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnDeleteDone,
    TxnOperation,
    TxnOperationResult,
    TxnPut,
    TxnPutDone,
)
from kvstore.commands.results import (
    AnswerDropped,
    AuthRefused,
    BadRevision,
    Compacted,
    Deleted,
    Granted,
    LeaseTaken,
    Mismatched,
    NoKey,
    NoLease,
    NotHeld,
    Result,
    Revoked,
    Written,
)
from paxos.ballot import ZERO, Slot
from paxos.configuration import DISTANCE
from proof.simulation.judge.accounts_model import AccountsModel
from proof.simulation.judge.bill import KEPT_BYTES_MAX, RECORD_HEAD_BYTES, Bill, Failing
from proof.simulation.judge.members_model import MembersModel


class ModelChange(NamedTuple):
    """One key changed at `revision`: what it holds since, or None if it was deleted."""

    revision: int
    key: bytes
    item: KeyValue | None

    @property
    def value(self) -> bytes | None:
        return None if self.item is None else self.item.value


def _record_bytes(item: KeyValue) -> int:
    return RECORD_HEAD_BYTES + len(item.value)


def _chosen(
    transaction: Transaction, choices: Iterator[bool]
) -> Iterator[Select | TxnPut | TxnDelete]:
    """The operations that run, given which branches do."""
    for operation in transaction.success if next(choices) else transaction.failure:
        if isinstance(operation, Transaction):
            yield from _chosen(operation, choices)
        else:
            yield operation


@dataclass
class _ModelSession:
    starts: int = 0
    floor: int = 0
    seen: set[int] = field(default_factory=set)


class StoreModel:
    """The whole key space at every revision. `changes[r]` is what happened at revision r."""

    def __init__(self, members: MembersModel | None = None) -> None:
        self._members = members or MembersModel(1, 1, 1, DISTANCE)
        self.revision = 1
        self.compacted_revision = 0
        self.items: dict[bytes, KeyValue] = {}
        self.leases: dict[int, int] = {}
        """Id -> the slot that granted it."""
        self._bill = Bill()
        self._slot = 0
        self._leader = ZERO
        self.changes: dict[int, list[ModelChange]] = {}
        self._by_key: dict[bytes, list[ModelChange]] = {}
        self._written: list[ModelChange] = []
        self._once: dict[bytes, tuple[int, Command, Result]] = {}
        self._sessions: dict[int, _ModelSession] = {}
        self._clock_ms = 0
        self.accounts = AccountsModel()
        self.keys_expired = 0
        """How often a command was carried out again, whose idempotency key had expired."""

    # -- applying ---------------------------------------------------------------------------

    def apply(
        self, slot: Slot, batch: Batch, bundles: list[Bundle]
    ) -> list[tuple[Bundle, list[Result]]]:
        """The results of one slot: of each bundle that counts."""
        self._slot = slot
        self._clock_ms = max(self._clock_ms, batch.clock_ms)
        for lease in self.ending(batch):
            self._end(lease)
        self._leader = max(self._leader, batch.ballot)
        return [
            (bundle, [self._command(command) for command in bundle.commands])
            for bundle in bundles
            if self._admits(bundle)
        ]

    def ending(self, batch: Batch) -> list[int]:
        """Leases that `batch`, if it is the next, ends: what an earlier leader says, or says of a
        lease that it had not heard of, does not count."""
        if batch.ballot < self._leader:
            return []
        known = self._slot if batch.known_through is None else batch.known_through
        return [lease for lease in batch.expired if self.leases.get(lease, known + 1) <= known]

    def _admits(self, bundle: Bundle) -> bool:
        session = self._sessions.setdefault(bundle.origin, _ModelSession())
        if bundle.starts > session.starts:
            session = self._sessions[bundle.origin] = _ModelSession(bundle.starts)
        old = bundle.starts < session.starts or bundle.number < session.floor
        if old or bundle.number in session.seen:
            return False
        session.seen.add(bundle.number)
        session.floor = max(session.floor, bundle.floor)
        return True

    def _command(self, command: Command) -> Result:
        if (reason := self.accounts.refusal(command)) is not None:
            return AuthRefused(reason)
        if isinstance(command, AsUser):
            command = command.command
        if isinstance(command, Administer):
            return self.accounts.change(command.change)
        if isinstance(command, Reconfigure):
            return self._members.apply(command, self._slot)
        if not isinstance(command, Once):
            return self._one(command)
        held = self._once.get(command.idempotency_key)
        if held is not None:
            if held[0] > self._clock_ms:
                return held[2] if held[1] == command.command else Mismatched()
            self.keys_expired += 1
        result = self._one(command.command)
        kept = result if len(encode(result)) <= KEPT_BYTES_MAX else AnswerDropped(self.revision)
        expires_ms = self._clock_ms + command.ttl_ms
        self._once[command.idempotency_key] = (expires_ms, command.command, kept)
        return result

    def _one(self, command: Command) -> Result:
        match command:
            case Put():
                return self._put(command)
            case Delete(key, condition):
                if not self._holds(key, condition):
                    return NotHeld(self._mod_revision(key))
                deleted = self._remove(key) is not None
                return Deleted(self._commit(), int(deleted))
            case Compact(revision):
                if not self.compacted_revision < revision <= self.revision:
                    return BadRevision(revision, self.compacted_revision, self.revision)
                self.compacted_revision = revision
                return Compacted(revision)
            case Grant(lease, ttl_s):
                if lease in self.leases:
                    return LeaseTaken(lease)
                self.leases[lease] = self._slot
                return Granted(self.revision, lease, ttl_s)
            case Revoke(lease):
                return self._end(lease)
            case Transaction():
                return self._transaction(command)
        raise AssertionError(command)

    def _put(self, put: Put) -> Result:
        if not self._holds(put.key, put.condition):
            return NotHeld(self._mod_revision(put.key))
        if put.lease and put.ttl_s:
            if put.lease in self.leases:
                return LeaseTaken(put.lease)
            self.leases[put.lease] = self._slot
        elif put.lease and put.lease not in self.leases:
            return NoLease(put.lease)
        item = self._write(put.key, put.value, put.lease)
        self._commit()
        return Written(item.mod_revision, item.version, item.create_revision)

    def _end(self, lease: int) -> Result:
        if self.leases.pop(lease, None) is None:
            return NoLease(lease)
        held = sorted(key for key, item in self.items.items() if item.lease == lease)
        for key in held:
            self._remove(key)
        return Revoked(self._commit(), len(held))

    def _holds(self, key: bytes, condition: Condition | None) -> bool:
        if condition is None:
            return True
        found = self._mod_revision(key)
        return found > 0 if condition.mod_revision < 0 else found == condition.mod_revision

    def _mod_revision(self, key: bytes) -> int:
        return self.items[key].mod_revision if key in self.items else 0

    def _write(self, key: bytes, value: bytes, lease: int) -> KeyValue:
        revision, old = self.revision + 1, self.items.get(key)
        create, version = (revision, 1) if old is None else (old.create_revision, old.version + 1)
        item = self.items[key] = KeyValue(key, value, create, revision, version, lease)
        self._written.append(ModelChange(revision, key, item))
        return item

    def _remove(self, key: bytes) -> KeyValue | None:
        old = self.items.pop(key, None)
        if old is not None:
            self._written.append(ModelChange(self.revision + 1, key, None))
        return old

    def _commit(self) -> int:
        if self._written:
            self.revision += 1
            self.changes[self.revision] = self._written
            for change in self._written:
                self._by_key.setdefault(change.key, []).append(change)
            self._written = []
        return self.revision

    # -- transactions -----------------------------------------------------------------------

    def _transaction(self, transaction: Transaction) -> Result:
        before = copy(self.items)
        self._bill = Bill()
        try:
            choices = list(self._choices(transaction))
            self._afford(list(_chosen(transaction, iter(choices))))
            done = self._branch(transaction, choices)
        except Failing as failed:
            self.items, self._written = before, []
            return failed.result
        self._commit()
        return done

    @property
    def _shown(self) -> int:
        return self.revision + bool(self._written)

    def _afford(self, operations: list[Select | TxnPut | TxnDelete]) -> None:
        """Raises Failing if what would run is over the budget, counted on the state before; but a
        lease that is missing comes first."""
        self._bill.foresee(len(operations))
        for operation in operations:
            if isinstance(operation, TxnPut) and operation.lease not in (None, 0, *self.leases):
                raise Failing(NoLease(operation.lease or 0))
        puts: dict[bytes, int] = {}
        for operation in operations:
            if isinstance(operation, TxnPut):
                assert operation.value is not None, "not in the model"
                old = self.items.get(operation.key)
                size = len(operation.key) + len(operation.value)
                self._bill.add(size + (0 if old is None else _record_bytes(old)))
                puts[operation.key] = size
                continue
            start, end = operation.start, operation.end
            sizes = [len(key) + _record_bytes(self.items[key]) for key in self._range(start, end)]
            sizes += [puts[key] for key in sorted(puts) if _within(key, start, end)]
            self._bill.add_range(sizes, isinstance(operation, TxnDelete))

    def _range(self, start: bytes, end: bytes | None) -> list[bytes]:
        return sorted(key for key in self.items if _within(key, start, end))

    def _choices(self, transaction: Transaction) -> Iterator[bool]:
        """Every compare, of inner transactions too, looks at the state before."""
        succeeded = all(map(self._compare, transaction.compares))
        yield succeeded
        for operation in transaction.success if succeeded else transaction.failure:
            if isinstance(operation, Transaction):
                yield from self._choices(operation)

    def _branch(self, transaction: Transaction, choices: list[bool]) -> TransactionDone:
        succeeded = choices.pop(0)
        branch = transaction.success if succeeded else transaction.failure
        results = tuple([self._operate(operation, choices) for operation in branch])
        return TransactionDone(self._shown, succeeded, results)

    def _operate(self, operation: TxnOperation, choices: list[bool]) -> TxnOperationResult:
        match operation:
            case TxnPut(key, value, lease, previous):
                old = self.items.get(key)
                if old is None and (value is None or lease is None):
                    raise Failing(NoKey())
                value = old.value if value is None and old is not None else value
                lease = old.lease if lease is None and old is not None else lease
                if lease and lease not in self.leases:
                    raise Failing(NoLease(lease))
                item = self._write(key, value or b"", lease or 0)
                return TxnPutDone(
                    self._shown, item.version, item.create_revision, old if previous else None
                )
            case TxnDelete(start, end, previous):
                keys = sorted(key for key in self.items if _within(key, start, end))
                gone = [old for old in map(self._remove, keys) if old is not None]
                return TxnDeleteDone(self._shown, len(gone), tuple(gone) if previous else ())
            case Select():
                return self._select(operation)
            case Transaction():
                return self._branch(operation, choices)

    def _select(self, wanted: Select) -> Selected:
        """As much of it as the simulated clients use: a range now, in the order of the keys."""
        assert wanted == Select(wanted.start, wanted.end, limit=wanted.limit), "not in the model"
        keys = sorted(key for key in self.items if _within(key, wanted.start, wanted.end))
        limited = keys[: wanted.limit] if wanted.limit else keys
        items = tuple(self.items[key] for key in limited)
        return Selected(self._shown, items, len(keys), len(keys) > len(items))

    def _compare(self, compare: Comparison) -> bool:
        keys = self._range(compare.start, compare.end)
        self._bill.add(0)
        if not keys:
            return compare.field is not Field.VALUE and _related(compare, 0)
        for key in keys:
            self._bill.add(len(key) + _record_bytes(self.items[key]), key != keys[0])
            if not _related(compare, _field(self.items[key], compare.field)):
                return False
        return True

    # -- looking back -----------------------------------------------------------------------

    def get(self, key: bytes, revision: int) -> ModelChange | None:
        """What `key` held as of `revision`; None if it did not exist."""
        changes = self._by_key.get(key, [])
        position = bisect_right(changes, revision, key=lambda change: change.revision)
        found = changes[position - 1] if position else None
        return found if found is not None and found.item is not None else None

    def range(self, start: bytes, end: bytes | None, revision: int) -> list[ModelChange]:
        """All keys with start <= key < end as of `revision`, in key order."""
        keys = sorted(key for key in self._by_key if _within(key, start, end))
        return [found for found in (self.get(key, revision) for key in keys) if found is not None]

    def wrote(self, revision: int, key: bytes) -> ModelChange | None:
        """What happened to `key` at `revision`."""
        for change in self.changes.get(revision, ()):
            if change.key == key:
                return change
        return None

    def since(self, revision: int, through: int) -> Iterator[tuple[int, list[ModelChange]]]:
        """Every revision after `revision` up to `through`, with what happened."""
        for number in range(revision + 1, through + 1):
            yield number, self.changes[number]


def _within(key: bytes, start: bytes, end: bytes | None) -> bool:
    return start <= key and (end is None or key < end)


def _field(item: KeyValue, name: Field) -> int | bytes:
    fields: dict[Field, int | bytes] = {
        Field.VERSION: item.version,
        Field.CREATE: item.create_revision,
        Field.MOD: item.mod_revision,
        Field.VALUE: item.value,
        Field.LEASE: item.lease,
    }
    return fields[name]


def _related(compare: Comparison, found: int | bytes) -> bool:
    operand = compare.operand
    if isinstance(found, bytes) != isinstance(operand, bytes):
        operand = b"" if isinstance(found, bytes) else 0
    order = (found > operand) - (found < operand)  # type: ignore[operator]
    return {
        Relation.EQUAL: order == 0,
        Relation.GREATER: order > 0,
        Relation.LESS: order < 0,
        Relation.NOT_EQUAL: order != 0,
    }[compare.relation]
