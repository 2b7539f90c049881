"""A transaction that writes nothing, run outside of the log: in steps, all at one revision."""

from collections.abc import Generator

from kvstore.commands.operations import (
    Comparison,
    Select,
    Selected,
    Transaction,
    TransactionDone,
    TxnOperationResult,
)
from kvstore.commands.results import BadRevision, Limit
from kvstore.state.budget import ANSWER_BYTES_MAX, OverBudget
from kvstore.state.key_space import Keyspace
from kvstore.state.selection import RangeScan, RangeSelection
from kvstore.state.transactions import holds_of, holds_of_nothing

ITEM_COST = 1024
"""What an item of the answer counts beside its key and value, in bytes that cost as much: the
answer is encoded in one go."""

Steps = Generator[None, None, TransactionDone]


def reads_only(transaction: Transaction) -> bool:
    """Whether no branch of it, nor of its inner transactions, writes anything."""
    return all(
        isinstance(operation, Select)
        or (isinstance(operation, Transaction) and reads_only(operation))
        for operation in (*transaction.success, *transaction.failure)
    )


class _Unreadable(Exception):
    """A range asks for a revision that cannot be read."""

    def __init__(self, result: BadRevision) -> None:
        super().__init__()
        self.result = result


class Reading:
    """What the transaction answers, as of the revision at which this was made.

    `result` is there once `step` says so.
    """

    def __init__(self, keyspace: Keyspace, transaction: Transaction) -> None:
        self._keyspace = keyspace
        self._revision = keyspace.revision
        self._entries = self._bytes = self._answer_bytes = 0
        self._steps = self._transaction(transaction)
        self.result: TransactionDone | BadRevision | None = None

    def step(self, entries_max: int, bytes_max: int) -> bool:
        """Look at about so many keys; whether that was the last step.

        Raises RevisionCompacted if compaction has overtaken it, and OverBudget if the answer is
        larger than it may be.
        """
        self._entries, self._bytes = entries_max, bytes_max
        try:
            next(self._steps)
        except StopIteration as end:
            self.result = end.value
        except _Unreadable as bad:
            self.result = bad.result
        return self.result is not None

    def _transaction(self, transaction: Transaction) -> Steps:
        succeeded = True
        for compare in transaction.compares:
            succeeded = succeeded and (yield from self._compare(compare))
        results: list[TxnOperationResult] = []
        for operation in transaction.success if succeeded else transaction.failure:
            if isinstance(operation, Transaction):
                results.append((yield from self._transaction(operation)))
            elif isinstance(operation, Select):
                results.append((yield from self._select(operation)))
            yield
        return TransactionDone(self._revision, succeeded, tuple(results))

    def _compare(self, compare: Comparison) -> Generator[None, None, bool]:
        scan = RangeScan(self._keyspace, compare.start, compare.end, self._revision)
        found = False
        while not scan.done:
            for _, record in scan.step(self._entries, self._bytes):
                found = True
                if not holds_of(compare, record):
                    return False
            yield
        return found or holds_of_nothing(compare)

    def _select(self, wanted: Select) -> Generator[None, None, Selected]:
        compacted = self._keyspace.mvcc.compacted_revision
        if wanted.revision and not (compacted or -1) <= wanted.revision <= self._revision:
            raise _Unreadable(BadRevision(wanted.revision, compacted, self._revision))
        selection = RangeSelection(self._keyspace, wanted, self._revision)
        items = []
        while not selection.done:
            found = selection.step(self._entries, self._bytes)
            self._answer_bytes += sum(len(i.key) + len(i.value) + ITEM_COST for i in found)
            if self._answer_bytes > ANSWER_BYTES_MAX:
                raise OverBudget(Limit.ANSWER_BYTES)
            items += found
            yield
        return Selected(self._revision, tuple(items), selection.count, selection.more)
