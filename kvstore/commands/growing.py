"""Which commands make the store larger: those that put, or begin a lease."""

from kvstore.commands.commands import AsUser, Command, Grant, Once, Put
from kvstore.commands.operations import Transaction, TxnPut


def grows(command: Command) -> bool:
    """Whether it puts anything or begins a lease, if its compares hold. A put in place of a longer
    value counts too: the history keeps both. Changes of users and members do not count, so that
    whoever mends the cluster can do so."""
    while isinstance(command, AsUser | Once):
        command = command.command
    if isinstance(command, Transaction):
        return _puts(command)
    return isinstance(command, Put | Grant)


def _puts(transaction: Transaction) -> bool:
    return any(
        isinstance(operation, TxnPut) or (isinstance(operation, Transaction) and _puts(operation))
        for operation in (*transaction.success, *transaction.failure)
    )
