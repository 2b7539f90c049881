"""How commands travel: gathered in bundles, and bundles in the batch that is a slot's value.

A *bundle* is what one node gathers while a proposal is under way: the unit of relaying, retrying
and de-duplication. A *batch* is the value of one slot: the leader's clock and the bundles it took.
Nothing is done per command that can be done per bundle.
"""

import msgspec

from kvstore.commands.commands import Command
from paxos.ballot import ZERO, Ballot, Slot


class Bundle(msgspec.Struct, frozen=True, array_like=True):
    """Commands of one node, applied together, once.

    `origin` and `starts` name the process: a node, and how often it had started. `number` counts
    the process' bundles from 1. None of its bundles below `floor` will be sent again, so replicas
    may forget those numbers.
    """

    origin: int
    starts: int
    number: int
    floor: int
    commands: tuple[Command, ...]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The value of one slot: encoded bundles, and the leader's clock in ms since 1970.

    `expired` names leases whose time is up, as the leader of `ballot` sees it. Like the clock it is
    the leader's own statement and not a command: a command might be relayed to the next leader, and
    end a lease that this one has just promised its full time. For the same reason it is ignored
    once a batch of a higher ballot has been applied (see `kvstore.replica.leasing`).
    A lease granted after slot `known_through` does not end either: one of the same id may have been
    revoked and granted again while this batch was under way. None: all leases named end.
    """

    clock_ms: int
    bundles: tuple[bytes, ...]
    expired: tuple[int, ...] = ()
    ballot: Ballot = ZERO
    known_through: Slot | None = None
