"""Transactions: what is refused beforehand, and how one is applied.

The rules are etcd's: every compare, of inner transactions too, looks at the state before; then the
operations of the chosen branches run in order and see what earlier ones did; all writes share one
revision, and no key is put twice. Whatever can fail (a lease or key that does not exist, a revision
that cannot be read, a budget that does not suffice) is looked up before anything is written, so
nothing ever needs to be undone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

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
from kvstore.commands.results import BadRevision, NoKey, NoLease, Result
from kvstore.errors import DuplicateKey, TooManyOperations
from kvstore.state import transaction_cost
from kvstore.state.budget import WRITE_WORK, Budget, OverBudget
from kvstore.state.key_space import Keyspace
from kvstore.state.mvcc import field_of, key_value
from kvstore.state.selection import select

OPERATIONS_MAX = 128
"""Bound on compares, and on operations in either branch; an inner transaction may have what its
outer one leaves of them, so nesting is bounded too."""
SMALL_MAX = 16
"""A transaction of so few parts, each of one key, is not looked into before it is replicated."""


def check(transaction: Transaction, operations_max: int = OPERATIONS_MAX) -> None:
    """Refuse what no state could accept. Raises TooManyOperations or DuplicateKey."""
    _check_count(transaction, operations_max, operations_max)
    for branch in (transaction.success, transaction.failure):
        _writes_of(branch)


def _check_count(transaction: Transaction, left: int, operations_max: int) -> None:
    """Raises TooManyOperations if there are more than `left`, those of inner ones counted."""
    parts = (transaction.compares, transaction.success, transaction.failure)
    used = max(map(len, parts))
    if used > left:
        raise TooManyOperations(operations_max)
    for operation in (*transaction.success, *transaction.failure):
        if isinstance(operation, Transaction):
            _check_count(operation, left - used, operations_max)


class _DeletedKeys:
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

    def update(self, other: "_DeletedKeys") -> None:
        self._keys |= other._keys
        for start, end in zip(other._starts, other._ends, strict=True):
            self._add_range(start, end)


def _writes_of(branch: Iterable[TxnOperation]) -> tuple[set[bytes], _DeletedKeys]:
    """What a branch may put and delete. Raises DuplicateKey if it may put a key twice, or put and
    delete it; but an inner transaction may delete what one before it has put. The two branches of
    one inner transaction never both run."""
    deleted, puts = _DeletedKeys(), set[bytes]()
    for operation in branch:
        if isinstance(operation, TxnDelete):
            deleted.add(operation.start, operation.end)
    for operation in branch:
        if isinstance(operation, Transaction):
            success, failure = _writes_of(operation.success), _writes_of(operation.failure)
            _add_puts(puts, success[0] | failure[0], deleted)
            deleted.update(success[1])
            deleted.update(failure[1])
    for operation in branch:
        if isinstance(operation, TxnPut):
            _add_puts(puts, {operation.key}, deleted)
    return puts, deleted


def _add_puts(puts: set[bytes], more: set[bytes], deleted: _DeletedKeys) -> None:
    if not puts.isdisjoint(more) or any(key in deleted for key in more):
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
    branch = _judge(keyspace, transaction)
    if not isinstance(branch, _Branch):
        return branch
    done = _run(keyspace, branch)
    keyspace.commit()
    return done


def cost(keyspace: Keyspace, transaction: Transaction) -> int:
    """What it would cost now (`Budget.work`); nothing is written. One that would be refused for
    another reason costs what it takes to find out. Raises OverBudget."""
    parts = (*transaction.compares, *transaction.success, *transaction.failure)
    if len(parts) <= SMALL_MAX and all(map(_one_key, parts)):
        return WRITE_WORK * len(parts)
    budget = Budget()
    branch = _judge_within(keyspace, transaction, budget)
    puts = isinstance(branch, _Branch) and sum(
        isinstance(operation, TxnPut) for operation in _operations(branch)
    )
    return budget.work + WRITE_WORK * puts


def _one_key(part: Comparison | TxnOperation) -> bool:
    if isinstance(part, TxnPut):
        return True
    return not isinstance(part, Transaction) and part.end == only(part.start)


def _judge(keyspace: Keyspace, transaction: Transaction) -> _Branch | Result:
    """What is to run, or why nothing is; looks at no more than the budget allows."""
    try:
        return _judge_within(keyspace, transaction, Budget())
    except OverBudget as over:
        return over.result


def _judge_within(keyspace: Keyspace, transaction: Transaction, budget: Budget) -> _Branch | Result:
    """Raises OverBudget."""
    branch = _choose(keyspace, transaction, budget)
    operations = list(_operations(branch))
    budget.check_keys(len(operations))
    for operation in operations:
        if isinstance(operation, TxnPut) and (refused := _refused_put(keyspace, operation)):
            return refused
    for operation in operations:
        if isinstance(operation, Select) and (bad := _refused_select(keyspace, operation)):
            return bad
    transaction_cost.measure(keyspace, operations, budget)
    return branch


def _choose(keyspace: Keyspace, transaction: Transaction, budget: Budget) -> _Branch:
    succeeded = all(_holds(keyspace, compare, budget) for compare in transaction.compares)
    return _Branch(
        succeeded,
        tuple(
            _choose(keyspace, operation, budget)
            if isinstance(operation, Transaction)
            else operation
            for operation in (transaction.success if succeeded else transaction.failure)
        ),
    )


def _operations(branch: _Branch) -> Iterator[Select | TxnPut | TxnDelete]:
    for operation in branch.operations:
        if isinstance(operation, _Branch):
            yield from _operations(operation)
        else:
            yield operation


def _refused_put(keyspace: Keyspace, put: TxnPut) -> Result | None:
    keeps = put.value is None or put.lease is None
    if keeps and not keyspace.mvcc.mod_revision(put.key):
        return NoKey()
    if put.lease and keyspace.leases.ttl_s(put.lease) is None:
        return NoLease(put.lease)
    return None


def _refused_select(keyspace: Keyspace, wanted: Select) -> Result | None:
    """A negative revision means now, but only while nothing is compacted; so it is in etcd."""
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
            return _put(keyspace, operation)
        case TxnDelete():
            return _delete(keyspace, operation)
        case Select():
            return select(keyspace, operation)


def _put(keyspace: Keyspace, put: TxnPut) -> TxnPutDone:
    key, value, lease = put.key, put.value, put.lease
    if value is None or lease is None:
        # What it keeps is there, unless a transaction that `check` would refuse has deleted it.
        held = keyspace.mvcc.get(key) or KeyValue(key, b"", 0, 0, 0, 0)
        value = held.value if value is None else value
        lease = held.lease if lease is None else lease
    done = keyspace.put(key, value, lease)
    old = done.previous if put.previous else None
    previous = None if old is None else key_value(key, old)
    return TxnPutDone(keyspace.revision, done.version, done.create_revision, previous)


def _delete(keyspace: Keyspace, delete: TxnDelete) -> TxnDeleteDone:
    found = list(keyspace.mvcc.records(delete.start, delete.end))
    if found:
        keyspace.delete_all(found)
    previous = tuple(key_value(*each) for each in found) if delete.previous else ()
    return TxnDeleteDone(keyspace.revision, len(found), previous)


# -- compares -------------------------------------------------------------------------------


def _holds(keyspace: Keyspace, compare: Comparison, budget: Budget) -> bool:
    budget.take(0)
    found = False
    for key, record in keyspace.mvcc.records(compare.start, compare.end):
        budget.take(len(key) + len(record), int(found))
        found = True
        if not holds_of(compare, record):
            return False
    return found or holds_of_nothing(compare)


def holds_of(compare: Comparison, record: bytes) -> bool:
    """Whether a compare holds of one key of its range."""
    return _related(compare, field_of(record, compare.field))


def holds_of_nothing(compare: Comparison) -> bool:
    """Whether it holds if there is no key in its range."""
    return compare.field is not Field.VALUE and _related(compare, 0)


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
