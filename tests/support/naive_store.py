"""A deliberately naive twin of the key space: a snapshot for every revision, nothing shared."""

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from kvstore.commands import commands as c
from kvstore.commands.operations import (
    Comparison,
    Field,
    KeyValue,
    Order,
    Relation,
    Select,
    Selected,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnDeleteDone,
    TxnPut,
    TxnPutDone,
    only,
)
from kvstore.commands.results import (
    BadRevision,
    Compacted,
    Deleted,
    Granted,
    LeaseTaken,
    NoKey,
    NoLease,
    NotHeld,
    Result,
    Revoked,
    Written,
)
from kvstore.state.mvcc import KeyEvent

Snapshot = dict[bytes, KeyValue]


def within(key: bytes, start: bytes, end: bytes | None) -> bool:
    return start <= key and (end is None or key < end)


def naive_select(snapshot: Snapshot, wanted: Select, shown: int) -> Selected:
    inside = [item for key, item in sorted(snapshot.items()) if within(key, *bounds(wanted))]
    if wanted.count_only:
        return Selected(shown, (), len(inside), False)
    items = list(inside)
    for low, high, name in (
        (wanted.min_mod_revision, wanted.max_mod_revision, "mod_revision"),
        (wanted.min_create_revision, wanted.max_create_revision, "create_revision"),
    ):
        items = [i for i in items if not low or getattr(i, name) >= low]
        items = [i for i in items if not high or getattr(i, name) <= high]
    name = ["version", "create_revision", "mod_revision", "value", "lease", "key"][wanted.sort_by]
    items.sort(key=lambda i: getattr(i, name), reverse=wanted.order == Order.DESCEND)
    more = wanted.limit > 0 and len(items) > wanted.limit
    items = items[: wanted.limit] if more else items
    if wanted.keys_only:
        items = [replace(i, value=b"") for i in items]
    return Selected(shown, tuple(items), len(inside), more)


def bounds(of: Select | TxnDelete | Comparison) -> tuple[bytes, bytes | None]:
    return of.start, of.end


class NaiveStore:
    """Everything that ever was, by revision."""

    def __init__(self) -> None:
        self.past: dict[int, Snapshot] = {1: {}}
        self.changes: dict[int, list[KeyEvent]] = {}
        self.leases: dict[int, int] = {}
        self.compacted = 0
        self.now: Snapshot = {}
        self.events: list[KeyEvent] = []

    @property
    def revision(self) -> int:
        return max(self.past)

    def apply(self, command: Any) -> Result:
        self.now, self.events = dict(self.past[self.revision]), []
        result = self._apply(command)
        if self.events:
            self.changes[self.revision + 1] = self.events
            self.past[self.revision + 1] = self.now
        return result

    def expire(self, leases: tuple[int, ...]) -> None:
        for lease in leases:
            self.apply(c.Revoke(lease))

    @property
    def shown(self) -> int:
        return self.revision + bool(self.events)

    def _apply(self, command: Any) -> Result:
        match command:
            case c.Put(key, value, condition, lease, ttl_s):
                held = self.now.get(key)
                if condition is not None and not self._met(held, condition):
                    return NotHeld(held.mod_revision if held else 0)
                if ttl_s and lease in self.leases:
                    return LeaseTaken(lease)
                if ttl_s:
                    self.leases[lease] = ttl_s
                if lease and lease not in self.leases:
                    return NoLease(lease)
                done = self._put(key, value, lease)
                return Written(self.shown, done.version, done.create_revision)
            case c.Delete(key, condition):
                held = self.now.get(key)
                if condition is not None and not self._met(held, condition):
                    return NotHeld(held.mod_revision if held else 0)
                deleted = self._delete(key, only(key))
                return Deleted(self.shown, len(deleted))
            case c.Compact(revision):
                if not self.compacted < revision <= self.revision:
                    return BadRevision(revision, self.compacted, self.revision)
                self.compacted = revision
                return Compacted(revision)
            case c.Grant(lease, ttl_s):
                if lease in self.leases:
                    return LeaseTaken(lease)
                self.leases[lease] = ttl_s
                return Granted(self.revision, lease, ttl_s)
            case c.Revoke(lease):
                if lease not in self.leases:
                    return NoLease(lease)
                del self.leases[lease]
                keys = [key for key, item in sorted(self.now.items()) if item.lease == lease]
                for key in keys:
                    self._delete(key, only(key))
                return Revoked(self.shown, len(keys))
            case Transaction():
                return self._transaction(command)
        raise AssertionError(command)

    @staticmethod
    def _met(held: KeyValue | None, condition: c.Condition) -> bool:
        wanted = condition.mod_revision
        return held is not None if wanted < 0 else (held.mod_revision if held else 0) == wanted

    def _put(self, key: bytes, value: bytes, lease: int) -> KeyValue:
        old, revision = self.now.get(key), self.revision + 1
        create, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        new = self.now[key] = KeyValue(key, value, create, revision, version, lease)
        self.events.append(KeyEvent(new, False, old))
        return new

    def _delete(self, start: bytes, end: bytes | None) -> list[KeyValue]:
        gone = [item for key, item in sorted(self.now.items()) if within(key, start, end)]
        for item in gone:
            del self.now[item.key]
            tomb = KeyValue(item.key, b"", 0, self.revision + 1, 0, 0)
            self.events.append(KeyEvent(tomb, True, item))
        return gone

    # -- transactions -----------------------------------------------------------------------

    def _transaction(self, transaction: Transaction) -> Result:
        before = dict(self.now)
        taken = self._taken(transaction, before)
        for operation in taken:
            if isinstance(operation, TxnPut):
                if None in (operation.value, operation.lease) and operation.key not in before:
                    return NoKey()
                if operation.lease and operation.lease not in self.leases:
                    return NoLease(operation.lease)
        for operation in taken:
            if isinstance(operation, Select) and operation.revision:
                readable = range(self.compacted or -1, self.revision + 1)
                if operation.revision not in readable:
                    return BadRevision(operation.revision, self.compacted, self.revision)
        return self._run(transaction, before)

    def _taken(self, transaction: Transaction, before: Snapshot) -> list[Any]:
        taken: list[Any] = []
        for operation in self._branch(transaction, before)[1]:
            inner = isinstance(operation, Transaction)
            taken += self._taken(operation, before) if inner else [operation]
        return taken

    @staticmethod
    def _branch(transaction: Transaction, before: Snapshot) -> tuple[bool, tuple[Any, ...]]:
        held = all(naive_compare(before, compare) for compare in transaction.compares)
        return held, transaction.success if held else transaction.failure

    def _run(self, transaction: Transaction, before: Snapshot) -> TransactionDone:
        results: list[Any] = []
        held, branch = self._branch(transaction, before)
        for operation in branch:
            match operation:
                case TxnPut(key, value, lease, previous):
                    old = self.now.get(key)
                    value = old.value if value is None and old else value
                    lease = old.lease if lease is None and old else lease
                    assert value is not None and lease is not None
                    new = self._put(key, value, lease)
                    shown = old if previous else None
                    results.append(TxnPutDone(self.shown, new.version, new.create_revision, shown))
                case TxnDelete(start, end, previous):
                    gone = tuple(self._delete(start, end))
                    results.append(TxnDeleteDone(self.shown, len(gone), gone if previous else ()))
                case Select(revision=revision):
                    # The revision as of before the transaction does not show its own writes.
                    snapshot = self.past[revision] if revision > 0 else self.now
                    results.append(naive_select(snapshot, operation, self.shown))
                case Transaction():
                    results.append(self._run(operation, before))
        return TransactionDone(self.shown, held, tuple(results))


def naive_compare(snapshot: Snapshot, compare: Comparison) -> bool:
    items = [item for key, item in snapshot.items() if within(key, *bounds(compare))]
    if not items and compare.field is Field.VALUE:
        return False
    items = items or [KeyValue(b"", b"", 0, 0, 0, 0)]
    name = ["version", "create_revision", "mod_revision", "value", "lease"][compare.field]
    for item in items:
        found: Any = getattr(item, name)
        same_kind = isinstance(compare.operand, type(found))
        operand: Any = compare.operand if same_kind else type(found)()
        sign = (found > operand) - (found < operand)
        wanted = {Relation.EQUAL: [0], Relation.GREATER: [1], Relation.LESS: [-1]}
        if sign not in wanted.get(compare.relation, [-1, 1]):
            return False
    return True


# -- random commands ------------------------------------------------------------------------

KEYS = st.sampled_from([b"a", b"a\0", b"a\0\xff", b"b", b"ba", b"\xff\xff"])
ENDS = st.none() | KEYS
LEASES = st.sampled_from([-(1 << 63), 1, 2, (1 << 63) - 1])
VALUES = st.binary(max_size=3)
SMALL = st.integers(0, 12)


def ranges(draw: Any) -> tuple[bytes, bytes | None]:
    start = draw(KEYS)
    return start, draw(st.just(only(start)) | ENDS)


@st.composite
def selects(draw: Any) -> Select:
    return Select(
        *ranges(draw),
        revision=draw(st.just(0) | st.integers(-2, 12)),
        limit=draw(st.integers(-1, 3)),
        order=draw(st.sampled_from(Order)),
        sort_by=draw(st.sampled_from([f for f in Field if f is not Field.LEASE])),
        keys_only=draw(st.booleans()),
        count_only=draw(st.booleans()),
        min_mod_revision=draw(st.just(0) | SMALL),
        max_mod_revision=draw(st.just(0) | SMALL),
        min_create_revision=draw(st.just(0) | SMALL),
        max_create_revision=draw(st.just(0) | SMALL),
    )


@st.composite
def compares(draw: Any) -> Comparison:
    operand = draw(SMALL | VALUES)
    field = draw(st.sampled_from([f for f in Field if f is not Field.KEY]))
    return Comparison(field, draw(st.sampled_from(Relation)), *ranges(draw), operand)


@st.composite
def puts(draw: Any) -> TxnPut:
    lease = draw(st.just(0) | st.none() | LEASES)
    return TxnPut(draw(KEYS), draw(st.none() | VALUES), lease, draw(st.booleans()))


@st.composite
def deletes(draw: Any) -> TxnDelete:
    return TxnDelete(*ranges(draw), draw(st.booleans()))


def transactions(operations: Any) -> Any:
    branch = st.lists(operations, max_size=3).map(tuple)
    return st.builds(Transaction, st.lists(compares(), max_size=2).map(tuple), branch, branch)


OPERATIONS = st.recursive(selects() | puts() | deletes(), transactions, max_leaves=6)
TRANSACTIONS = transactions(OPERATIONS)
CONDITIONS = st.none() | st.builds(c.Condition, st.integers(-1, 8))
PUTS = st.builds(c.Put, KEYS, VALUES, CONDITIONS, st.just(0) | LEASES)
PUTS_WITH_TTL = st.builds(c.Put, KEYS, VALUES, CONDITIONS, LEASES, st.just(9))
COMMANDS = (
    PUTS
    | PUTS_WITH_TTL
    | st.builds(c.Delete, KEYS, CONDITIONS)
    | st.builds(c.Grant, LEASES, st.integers(1, 99))
    | st.builds(c.Revoke, LEASES)
    | st.builds(c.Compact, SMALL)
    | TRANSACTIONS
)
