"""What commands and their answers say to the judge."""

from collections.abc import Sequence

from kvstore.commands.batches import Bundle
from kvstore.commands.commands import AsUser, Command, Once, Put
from kvstore.commands.operations import Transaction, TxnPut
from kvstore.commands.results import AnswerDropped, AuthRefused, NotHeld, OverLimit, Result
from paxos.ballot import Slot

REPEATED = b"e"
"""Keys that begin so are written again by design, once an idempotency key has expired."""

SHOWN: dict[type[Result], str] = {
    NotHeld: "condition refused",
    OverLimit: "command over the budget refused",
    AnswerDropped: "answer not kept",
    AuthRefused: "command refused for want of a right",
}
"""What these answers show that a run has reached."""


def difference(
    slot: Slot,
    applied: Sequence[tuple[Bundle, list[Result]]],
    expected: Sequence[tuple[Bundle, list[Result]]],
) -> str:
    """For people: the first answer that is not as it should be."""
    for (_, results), (_, others) in zip(applied, expected, strict=True):
        for result, other in zip(results, others, strict=True):
            if result != other:
                return f"slot {slot} answers {repr(result)[:500]}, not {repr(other)[:500]}"
    return f"slot {slot} answers other bundles"


def unnamed(command: Command) -> Command:
    """What is asked for, whoever asks."""
    return command.command if isinstance(command, AsUser) else command


def writes_a_value(command: Command) -> bool:
    """Values are unique, and so are idempotency keys: there is no second command like it."""
    if isinstance(command, Transaction):
        operations = (*command.success, *command.failure)
        return any(isinstance(operation, TxnPut) for operation in operations)
    return isinstance(command, Put | Once)
