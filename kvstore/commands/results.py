"""Results: what applying a command answers. Each node computes its own; no result is replicated."""

from enum import IntEnum

import msgspec

from kvstore.commands.members import MembershipRefusal
from kvstore.commands.operations import TransactionDone
from kvstore.errors import Reason


class Written(msgspec.Struct, frozen=True, array_like=True, tag="w", gc=False):
    """A Put: the store's revision and the key's new version, its create revision."""

    revision: int
    version: int
    create_revision: int


class Deleted(msgspec.Struct, frozen=True, array_like=True, tag="x", gc=False):
    """A Delete: the store's revision, and how many keys were deleted (0 or 1)."""

    revision: int
    deleted: int


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag="k"):
    """A Compact: the oldest readable revision now."""

    revision: int


class NotHeld(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    """The condition did not hold; nothing changed. The key's mod revision, 0 if absent."""

    mod_revision: int


class BadRevision(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """A Compact outside of (compacted, current], or a Select in a transaction of a revision that
    cannot be read; nothing changed."""

    revision: int
    compacted_revision: int
    current_revision: int


class Mismatched(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """The idempotency key belongs to another command; nothing changed."""


class Granted(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """A Grant: the lease and its duration. `revision` is the store's; a grant takes none."""

    revision: int
    lease: int
    ttl_s: int


class Revoked(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """A Revoke: the store's revision, and how many keys were deleted."""

    revision: int
    deleted: int


class NoLease(msgspec.Struct, frozen=True, array_like=True, tag="N"):
    """There is no such lease; nothing changed."""

    lease: int


class LeaseTaken(msgspec.Struct, frozen=True, array_like=True, tag="L"):
    """A Grant of a lease that is there already; nothing changed."""

    lease: int


class NoKey(msgspec.Struct, frozen=True, array_like=True, tag="K"):
    """A put that keeps the value or the lease of a key that does not exist; nothing changed."""


class Administered(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """An Administer: the revision of users and roles now."""

    auth_revision: int


class AuthRefused(msgspec.Struct, frozen=True, array_like=True, tag="A"):
    """The user may not do that, or the change of users and roles is refused; nothing changed."""

    reason: Reason


class Limit(IntEnum):
    """What is bounded of one command."""

    KEYS = 0
    """The keys that it looks at."""
    BYTES = 1
    """The bytes that it reads and writes."""
    LEASE_KEYS = 2
    """The keys that a lease holds."""
    SORTED_BYTES = 3
    """The bytes of an answer that must be sorted, which is outside of the log."""
    ANSWER_BYTES = 4
    """The bytes of the answer to a transaction that only reads, which is outside of the log."""


class OverLimit(msgspec.Struct, frozen=True, array_like=True, tag="O"):
    """The command would cost more than one command may, `maximum`; nothing changed."""

    limit: Limit
    maximum: int


class AnswerDropped(msgspec.Struct, frozen=True, array_like=True, tag="T"):
    """The command was applied before, once, and its answer was too large to be kept. `revision`
    was the store's after it."""

    revision: int


class Reconfigured(msgspec.Struct, frozen=True, array_like=True, tag="M"):
    """A Reconfigure: how many changes there were, the member that it was about (0: none), and the
    first slot that the newest configuration governs."""

    number: int
    member: int
    first_slot: int


class MembershipRefused(msgspec.Struct, frozen=True, array_like=True, tag="Mx"):
    """A Reconfigure that was not made, and why; `number` is that of the present configuration."""

    reason: MembershipRefusal
    number: int


Result = (
    Written
    | Deleted
    | Compacted
    | TransactionDone
    | Granted
    | Revoked
    | NotHeld
    | BadRevision
    | Mismatched
    | NoLease
    | LeaseTaken
    | NoKey
    | Administered
    | AuthRefused
    | OverLimit
    | AnswerDropped
    | Reconfigured
    | MembershipRefused
)

Outcome = Result | BaseException
"""Of one command of several: its result, or the error that came instead."""
