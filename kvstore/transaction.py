"""Transactions: what is refused beforehand, and how one is applied.

The rules are etcd's: operations run in order and see what earlier ones did, all writes share one
revision, no key is written twice. What can only fail while it runs (a lease or key that does not
exist, a revision that is gone) undoes the whole.
"""

from collections.abc import Iterable

from kvstore.command import BadRevision, NoKey, NoLease, Result
from kvstore.errors import DuplicateKey, RevisionCompacted, RevisionInFuture, TooManyOperations
from kvstore.keyspace import Abandoned, Keyspace
from kvstore.operation import (
    Compare,
    Field,
    KeyValue,
    Operation,
    OperationResult,
    Relation,
    Remove,
    RemoveDone,
    Select,
    Transaction,
    TransactionDone,
    Write,
    WriteDone,
)
from kvstore.selection import select

OPERATIONS_MAX = 128
"""Of compares, and of operations in either branch, at each level."""

_Puts = set[bytes]
_Removes = list[tuple[bytes, bytes | None]]


def check(transaction: Transaction, operations_max: int = OPERATIONS_MAX) -> None:
    """Refuse what no state could make right. Raises TooManyOperations or DuplicateKey."""
    _check_size(transaction, operations_max)
    for branch in (transaction.success, transaction.failure):
        _writes_of(branch)


def _check_size(transaction: Transaction, operations_max: int) -> None:
    parts = (transaction.compares, transaction.success, transaction.failure)
    if max(map(len, parts)) > operations_max:
        raise TooManyOperations(operations_max)
    for operation in (*transaction.success, *transaction.failure):
        if isinstance(operation, Transaction):
            _check_size(operation, operations_max)


def _writes_of(branch: Iterable[Operation]) -> tuple[_Puts, _Removes]:
    """What a branch may write. Raises DuplicateKey if it may write a key twice, or write and
    remove it; the two branches of one inner transaction never both run."""
    puts: _Puts = set()
    removes: _Removes = []
    for operation in branch:
        match operation:
            case Write(key):
                _add(puts, removes, {key}, [])
            case Remove(start, end):
                _add(puts, removes, set(), [(start, end)])
            case Transaction(_, success, failure):
                inner = [_writes_of(success), _writes_of(failure)]
                inner_puts = inner[0][0] | inner[1][0]
                _add(puts, removes, inner_puts, [*inner[0][1], *inner[1][1]])
    return puts, removes


def _add(puts: _Puts, removes: _Removes, more_puts: _Puts, more_removes: _Removes) -> None:
    if puts & more_puts or _covered(puts, more_removes) or _covered(more_puts, removes):
        raise DuplicateKey
    puts |= more_puts
    removes += more_removes


def _covered(puts: _Puts, removes: _Removes) -> bool:
    return any(
        start <= key and (end is None or key < end) for start, end in removes for key in puts
    )


class _Failed(Abandoned):
    """The whole transaction fails with this result."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


def apply(keyspace: Keyspace, transaction: Transaction) -> Result:
    """Run it; nothing has happened unless the result is a TransactionDone."""
    try:
        with keyspace.attempt():
            done = _run(keyspace, transaction)
    except _Failed as failed:
        return failed.result
    keyspace.commit()
    return done


def _run(keyspace: Keyspace, transaction: Transaction) -> TransactionDone:
    succeeded = all(_holds(keyspace, compare) for compare in transaction.compares)
    branch = transaction.success if succeeded else transaction.failure
    results = tuple(_operate(keyspace, operation) for operation in branch)
    return TransactionDone(keyspace.revision, succeeded, results)


def _operate(keyspace: Keyspace, operation: Operation) -> OperationResult:
    match operation:
        case Write():
            return _write(keyspace, operation)
        case Remove():
            return _remove(keyspace, operation)
        case Select():
            try:
                return select(keyspace.mvcc, operation, keyspace.revision)
            except RevisionCompacted as error:
                raise _Failed(
                    BadRevision(operation.revision, error.compacted_revision, keyspace.revision)
                ) from None
            except RevisionInFuture as error:
                raise _Failed(
                    BadRevision(
                        operation.revision, keyspace.mvcc.compacted_revision, error.current_revision
                    )
                ) from None
        case Transaction():
            return _run(keyspace, operation)


def _write(keyspace: Keyspace, write: Write) -> WriteDone:
    key, value, lease = write.key, write.value, write.lease
    if value is None or lease is None:
        held = keyspace.mvcc.get(key)
        if held is None:
            raise _Failed(NoKey())
        value = held.value if value is None else value
        lease = held.lease if lease is None else lease
    if lease and keyspace.leases.ttl_s(lease) is None:
        raise _Failed(NoLease(lease))
    version, create, old = keyspace.put(key, value, lease)
    return WriteDone(keyspace.revision, version, create, old if write.previous else None)


def _remove(keyspace: Keyspace, remove: Remove) -> RemoveDone:
    keys = [key for key, _ in keyspace.mvcc.records(remove.start, remove.end)]
    gone = [old for old in map(keyspace.delete, keys) if old is not None]
    return RemoveDone(keyspace.revision, len(gone), tuple(gone) if remove.previous else ())


# -- compares -------------------------------------------------------------------------------


def _holds(keyspace: Keyspace, compare: Compare) -> bool:
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


def _related(compare: Compare, found: int | bytes) -> bool:
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
