"""A driver of the real state machine on a real file, for tests that feed it commands."""

from pathlib import Path
from typing import Any

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
from kvstore.commands.operations import Transaction, TxnOperation
from kvstore.commands.results import Result
from kvstore.state.state_machine import StateMachine
from kvstore.state.transactions import check
from kvstore.storage.state import StateStore
from paxos.ballot import ZERO, Ballot, Slot


class Driven:
    """A state machine on a file, and the log it was fed."""

    def __init__(self, path: Path, log: list[bytes] | None = None) -> None:
        self.path = path
        self.log: list[bytes] = [] if log is None else log
        self.open()

    def open(self) -> None:
        self.store = StateStore(self.path)
        self.state = StateMachine(self.store)

    def apply(
        self,
        *commands: Any,
        clock_ms: int = 0,
        expired: tuple[int, ...] = (),
        ballot: Ballot = ZERO,
        known_through: Slot | None = None,
        number: int | None = None,
    ) -> list[Result]:
        """As one bundle in the next slot, numbered like the slot unless `number` is given; none
        is answered if the bundle is refused."""
        slot = len(self.log) + 1
        bundle = encode(Bundle(1, 1, number or slot, slot, commands))
        self.log.append(encode(Batch(clock_ms, (bundle,), expired, ballot, known_through)))
        return self.catch_up()

    def transact(self, transaction: Transaction) -> Result:
        """Apply a transaction, after the check that clients' ones go through."""
        check(transaction)
        (result,) = self.apply(transaction)
        return result

    def catch_up(self, through: int | None = None) -> list[Result]:
        """Apply what of the log is not applied; the results of the last bundle."""
        results: list[Result] = []
        for slot in range(self.state.applied_through + 1, (through or len(self.log)) + 1):
            applied = self.state.apply(slot, self.log[slot - 1])
            results = applied[0].results if applied else []
        return results

    def checkpoint(self, fails: bool = False) -> None:
        """Write one, unless there is nothing to write. One that fails stays frozen."""
        frozen = self.state.freeze()
        if frozen is None:
            return
        if fails:
            self.store.fail(grow=False)
            return
        self.store.write_frozen(frozen.housekeeping)
        self.state.checkpointed(frozen.through)

    def reopen(self) -> None:
        """Crash: what was not checkpointed is replayed."""
        self.store.close()
        self.open()
        self.catch_up()

    def install_from(self, source: "Driven") -> None:
        """Take over the last checkpoint of another."""
        copy = self.path.with_suffix(".copy")
        source.store.copy_to(copy)
        self.store.install(copy)
        self.state.load()


def then(*operations: TxnOperation) -> Transaction:
    """A transaction without compares."""
    return Transaction((), operations)
