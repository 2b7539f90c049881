"""Transactions: what is refused beforehand, and how one is applied.

The rules are etcd's: every compare, of inner transactions too, looks at the state before; then the
operations of the chosen branches run in order and see what earlier ones did; all writes share one
revision, and no key is put twice. Whatever can fail (a lease or key that does not exist, a revision
that is gone) is looked up before anything is written, so nothing ever needs to be undone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kvstore.commands.commands import BadRevision, NoKey, NoLease, Result
from kvstore.commands.operations import (
    Comparison,
    Field,
    KeyValue,
    Relation,
    Select,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnDeleteDone,
    TxnOperation,
    TxnOperationResult,
    TxnPut,
    TxnPutDone,
    only,
)
from kvstore.errors import DuplicateKey, TooManyOperations
from kvstore.state.key_space import Keyspace
from kvstore.state.mvcc import key_value
from kvstore.state.selection import select

OPERATIONS_MAX = 128
"""Of compares, and of operations in either branch; an inner transaction may have what its outer one
leaves of them, so nesting is bounded too."""


def check(transaction: Transaction, operations_max: int = OPERATIONS_MAX) -> None:
    """Refuse what no state could make right. Raises TooManyOperations or DuplicateKey."""
    _check_size(transaction, operations_max, operations_max)
    for branch in (transaction.success, transaction.failure):
        _writes_of(branch)


def _check_size(transaction: Transaction, left: int, operations_max: int) -> None:
    parts = (transaction.compares, transaction.success, transaction.failure)
    used = max(map(len, parts))
    if used > left:
        raise TooManyOperations(operations_max)
    for operation in (*transaction.success, *transaction.failure):
        if isinstance(operation, Transaction):
            _check_size(operation, left - used, operations_max)


class _Removed:
    """A set of keys that is asked about often: single ones, and disjoint ranges in order.

    The end of a range is (False, end), or (True, b"") if it has none.
    """

    def __init__(self) -> None:
        self._keys: set[bytes] = set()
        self._starts: list[bytes] = []
        self._ends: list[tuple[bool, bytes]] = []

    def __contains__(self, key: bytes) -> bool:
        at = bisect_right(self._starts, key) - 1
        return key in self._keys or (at >= 0 and (False, key) < self._ends[at])

    def add(self, start: bytes, end: bytes | None) -> None:
        if end == only(start):
            self._keys.add(start)
        else:
            self._add_range(start, (end is None, end or b""))

    def _add_range(self, start: bytes, end: tuple[bool, bytes]) -> None:
        if end <= (False, start):
            return
        first = bisect_left(self._ends, (False, start))
        past = len(self._starts) if end[0] else bisect_right(self._starts, end[1])
        if first < past:
            start, end = min(start, self._starts[first]), max(end, self._ends[past - 1])
        self._starts[first:past], self._ends[first:past] = [start], [end]

    def update(self, other: "_Removed") -> None:
        self._keys |= other._keys
        for start, end in zip(other._starts, other._ends, strict=True):
            self._add_range(start, end)


def _writes_of(branch: Iterable[TxnOperation]) -> tuple[set[bytes], _Removed]:
    """What a branch may put and remove. Raises DuplicateKey if it may put a key twice, or put and
    remove it; but an inner transaction may remove what one before it has put. The two branches of
    one inner transaction never both run."""
    removed, puts = _Removed(), set[bytes]()
    for operation in branch:
        if isinstance(operation, TxnDelete):
            removed.add(operation.start, operation.end)
    for operation in branch:
        if isinstance(operation, Transaction):
            success, failure = _writes_of(operation.success), _writes_of(operation.failure)
            _add_puts(puts, success[0] | failure[0], removed)
            removed.update(success[1])
            removed.update(failure[1])
    for operation in branch:
        if isinstance(operation, TxnPut):
            _add_puts(puts, {operation.key}, removed)
    return puts, removed


def _add_puts(puts: set[bytes], more: set[bytes], removed: _Removed) -> None:
    if not puts.isdisjoint(more) or any(key in removed for key in more):
        raise DuplicateKey
    puts |= more


# -- applying -------------------------------------------------------------------------------


class _Branch(NamedTuple):
    """The branch of a transaction that runs, with those of its inner transactions in place."""

    succeeded: bool
    operations: "tuple[Select | TxnPut | TxnDelete | _Branch, ...]"


def apply(keyspace: Keyspace, transaction: Transaction) -> Result:
    """Run a transaction that `check` let pass; nothing has happened unless the result is a
    TransactionDone."""
    branch = _choose(keyspace, transaction)
    operations = list(_operations(branch))
    for operation in operations:
        if isinstance(operation, TxnPut) and (refused := _refused_write(keyspace, operation)):
            return refused
    for operation in operations:
        if isinstance(operation, Select) and (bad := _refused_select(keyspace, operation)):
            return bad
    done = _run(keyspace, branch)
    keyspace.commit()
    return done


def _choose(keyspace: Keyspace, transaction: Transaction) -> _Branch:
    succeeded = all(_holds(keyspace, compare) for compare in transaction.compares)
    return _Branch(
        succeeded,
        tuple(
            _choose(keyspace, operation) if isinstance(operation, Transaction) else operation
            for operation in (transaction.success if succeeded else transaction.failure)
        ),
    )


def _operations(branch: _Branch) -> Iterator[Select | TxnPut | TxnDelete]:
    for operation in branch.operations:
        if isinstance(operation, _Branch):
            yield from _operations(operation)
        else:
            yield operation


def _refused_write(keyspace: Keyspace, write: TxnPut) -> Result | None:
    keeps = write.value is None or write.lease is None
    if keeps and not keyspace.mvcc.mod_revision(write.key):
        return NoKey()
    if write.lease and keyspace.leases.ttl_s(write.lease) is None:
        return NoLease(write.lease)
    return None


def _refused_select(keyspace: Keyspace, wanted: Select) -> Result | None:
    """A negative revision is now, as long as nothing is compacted: so it is in etcd."""
    current, compacted = keyspace.mvcc.revision, keyspace.mvcc.compacted_revision
    if wanted.revision and not (compacted or -1) <= wanted.revision <= current:
        return BadRevision(wanted.revision, compacted, current)
    return None


def _run(keyspace: Keyspace, branch: _Branch) -> TransactionDone:
    results: list[TxnOperationResult] = []
    for operation in branch.operations:
        if isinstance(operation, _Branch):
            results.append(_run(keyspace, operation))
        else:
            results.append(_operate(keyspace, operation))
    return TransactionDone(keyspace.revision, branch.succeeded, tuple(results))


def _operate(keyspace: Keyspace, operation: Select | TxnPut | TxnDelete) -> TxnOperationResult:
    match operation:
        case TxnPut():
            return _write(keyspace, operation)
        case TxnDelete():
            return _remove(keyspace, operation)
        case Select():
            return select(keyspace.mvcc, operation, keyspace.revision)


def _write(keyspace: Keyspace, write: TxnPut) -> TxnPutDone:
    key, value, lease = write.key, write.value, write.lease
    if value is None or lease is None:
        # Only a transaction that did not pass `check` has removed what it keeps.
        held = keyspace.mvcc.get(key) or KeyValue(key, b"", 0, 0, 0, 0)
        value = held.value if value is None else value
        lease = held.lease if lease is None else lease
    version, create, old = keyspace.put(key, value, lease)
    previous = key_value(key, old) if write.previous and old is not None else None
    return TxnPutDone(keyspace.revision, version, create, previous)


def _remove(keyspace: Keyspace, remove: TxnDelete) -> TxnDeleteDone:
    found = list(keyspace.mvcc.records(remove.start, remove.end))
    for key, _ in found:
        keyspace.delete(key)
    previous = tuple(key_value(*each) for each in found) if remove.previous else ()
    return TxnDeleteDone(keyspace.revision, len(found), previous)


# -- compares -------------------------------------------------------------------------------


def _holds(keyspace: Keyspace, compare: Comparison) -> bool:
    found = keyspace.mvcc.current(compare.start, compare.end)
    if not found:
        return compare.field is not Field.VALUE and _related(compare, 0)
    return all(_related(compare, _field(held, compare.field)) for held in found)


def _field(held: KeyValue, field: Field) -> int | bytes:
    match field:
        case Field.VERSION:
            return held.version
        case Field.CREATE:
            return held.create_revision
        case Field.MOD:
            return held.mod_revision
        case Field.LEASE:
            return held.lease
    return held.value


def _related(compare: Comparison, found: int | bytes) -> bool:
    operand = compare.operand
    if isinstance(found, bytes):
        operand = operand if isinstance(operand, bytes) else b""
        greater, less = found > operand, found < operand
    else:
        operand = operand if isinstance(operand, int) else 0
        greater, less = found > operand, found < operand
    match compare.relation:
        case Relation.EQUAL:
            return not greater and not less
        case Relation.GREATER:
            return greater
        case Relation.LESS:
            return less
        case Relation.NOT_EQUAL:
            return greater or less
