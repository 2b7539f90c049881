"""What the operations of a transaction would cost, counted before any of them runs.

Each operation is counted on the state before, and what earlier ones put into its range is added: no
operation then costs more than was counted, whatever earlier ones deleted.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

from kvstore.commands.operations import KeyValue, Select, TxnDelete, TxnPut
from kvstore.commands.results import Limit
from kvstore.state.budget import LEASE_KEYS_MAX, PAST_WORK, Budget, OverBudget
from kvstore.state.key_space import Keyspace
from kvstore.state.mvcc import key_value


def measure(
    keyspace: Keyspace, operations: Iterable[Select | TxnPut | TxnDelete], budget: Budget
) -> None:
    """Take from the budget what they cost, in the order in which they would run.

    Raises OverBudget, also if a lease would hold more keys than it may.
    """
    meter = _Meter(keyspace, budget)
    for operation in operations:
        match operation:
            case TxnPut():
                meter.put(operation)
            case TxnDelete(start, end):
                budget.take_keys(meter.range(start, end))
            case Select(start, end, revision):
                meter.range(start, end, max(0, revision))


class _Meter:
    """`_sizes` and `_order`: what earlier operations have put."""

    def __init__(self, keyspace: Keyspace, budget: Budget) -> None:
        self._keyspace = keyspace
        self._budget = budget
        self._sizes: dict[bytes, int] = {}
        self._order: list[bytes] = []
        self._attached: dict[int, int] = {}

    def put(self, put: TxnPut) -> None:
        """The old record is read and kept as a version; the new one is written."""
        record = self._keyspace.mvcc.record(put.key)
        held = None if record is None else key_value(put.key, record)
        old = 0 if record is None else len(record)
        size = len(put.key) + (old if put.value is None else len(put.value))
        self._budget.take(old + size)
        if put.key not in self._sizes:
            insort(self._order, put.key)
        self._sizes[put.key] = size
        if put.lease:
            self._attach(put.lease, held)

    def _attach(self, lease: int, held: KeyValue | None) -> None:
        if held is not None and held.lease == lease:
            return
        attached = self._attached[lease] = self._attached.get(lease, 0) + 1
        if self._keyspace.leases.count(lease) + attached > LEASE_KEYS_MAX:
            raise OverBudget(Limit.LEASE_KEYS)

    def range(self, start: bytes, end: bytes | None, revision: int = 0) -> int:
        """All that is there is looked at, also beyond a limit: it is counted. How many keys."""
        budget, mvcc = self._budget, self._keyspace.mvcc
        keys_before = budget.keys
        if revision:
            for key, record, _ in mvcc.looked_at(start, end, revision):
                budget.take(len(key) + len(record), PAST_WORK)
        else:
            for key, record in mvcc.records(start, end):
                budget.take(len(key) + len(record))
        order = self._order
        past = len(order) if end is None else bisect_left(order, end)
        for key in order[bisect_left(order, start) : past]:
            budget.take(self._sizes[key])
        found = budget.keys - keys_before
        if not found:
            budget.take(0)
        return found
