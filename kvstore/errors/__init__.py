"""Errors: whose fault it is, whether the write may have happened, and how each one travels.

::

    KvError
    ├── RequestError          the caller's fault; nothing was proposed
    │   ├── InvalidArgument       a value that cannot be (key too long, bad number, ...)
    │   │   └── BadRequest            the request as a whole: Malformed, Contradiction,
    │   │                             PathNotFound, MethodNotAllowed, UnsupportedMedia,
    │   │                             ExpectationFailed, CrossSite, UnknownHost
    │   ├── BodyTimeout           the request body came too slowly
    │   ├── TooLarge              body or command over the limit
    │   ├── RevisionCompacted     history below this revision is gone
    │   ├── RevisionInFuture      no such revision yet
    │   ├── ConditionFailed       a conditional write found another state; it changed nothing
    │   ├── IdempotencyMismatch   the key was used for a different request
    │   ├── TooManyOperations     a transaction over the limit
    │   ├── DuplicateKey          a transaction that may write a key twice
    │   ├── LeaseNotFound         no such lease, or it has ended
    │   ├── LeaseExists           a lease of that id is there already
    │   ├── WorkTooLarge          more than one command, lease or answer may hold
    │   ├── AnswerNotKept         done before, and the answer is not there any more
    │   ├── KeyNotFound           no such key, or nothing of it that could be kept
    │   ├── MemberNotFound        no such member
    │   ├── TokenNotFound         no such token for joining
    │   ├── MembershipConflict    the members are not so that this change could be made
    │   ├── MemberLost            who joins has the name of a member, whose disk may be lost
    │   ├── JoinDenied            the token for joining is not good
    │   └── AuthError             who asks, or what they may do
    │       ├── Unauthenticated       nobody, or somebody who cannot prove it
    │       ├── PermissionDenied      a user without the right
    │       └── AuthChangeRefused     users and roles cannot be changed so
    ├── Unavailable           refused before proposing: certainly not applied; try again
    │   ├── NoQuorum              no leader, or it cannot reach a quorum
    │   ├── Overloaded            a bound was reached
    │   │   ├── SlowDown              too many wrong passwords
    │   │   └── OutOfSpace            a write that grows, and no room for it
    │   ├── Stopping              the node is shutting down, or failed
    │   └── NotReady              the node does not serve yet, or no longer
    └── OutcomeUnknown        timed out after proposing: it may yet be applied
        └── Unexpected            a defect of the server

Each class declares once, as `kind` and `fields`, what it looks like in an answer (RFC 9457). The
server writes answers from these declarations (`http_api.core.problems`), and the client reads them
(`kvstore.client.verdict`). `KINDS` is the table of them all.
"""

from collections.abc import Iterator

from kvstore.errors.auth import (
    AuthChangeRefused,
    AuthError,
    PermissionDenied,
    Reason,
    Unauthenticated,
    auth_error,
)
from kvstore.errors.base import (
    APPLIED,
    NOT_APPLIED,
    UNEXPECTED,
    UNKNOWN,
    FieldForm,
    Kind,
    KvError,
    RequestError,
    WireField,
)
from kvstore.errors.local import (
    BackupError,
    DataDamaged,
    DivergedState,
    StorageError,
    StorageFailed,
)
from kvstore.errors.members import (
    JoinDenied,
    MemberLost,
    MemberNotFound,
    MembershipConflict,
    TokenNotFound,
    membership_error,
)
from kvstore.errors.requests import (
    BadRequest,
    BodyTimeout,
    Contradiction,
    CrossSite,
    ExpectationFailed,
    InvalidArgument,
    Malformed,
    MethodNotAllowed,
    PathNotFound,
    TooLarge,
    UnknownHost,
    UnsupportedMedia,
)
from kvstore.errors.work import AnswerNotKept, WorkTooLarge

__all__ = [
    "APPLIED",
    "KINDS",
    "NOT_APPLIED",
    "UNKNOWN",
    "AnswerNotKept",
    "AuthChangeRefused",
    "AuthError",
    "BackupError",
    "BadRequest",
    "BodyTimeout",
    "ConditionFailed",
    "Contradiction",
    "CrossSite",
    "DataDamaged",
    "DivergedState",
    "DuplicateKey",
    "ExpectationFailed",
    "FieldForm",
    "IdempotencyMismatch",
    "InvalidArgument",
    "JoinDenied",
    "KeyNotFound",
    "Kind",
    "KvError",
    "LeaseExists",
    "LeaseNotFound",
    "Malformed",
    "MemberLost",
    "MemberNotFound",
    "MembershipConflict",
    "MethodNotAllowed",
    "NoQuorum",
    "NotReady",
    "OutOfSpace",
    "OutcomeUnknown",
    "Overloaded",
    "PathNotFound",
    "PermissionDenied",
    "Reason",
    "RequestError",
    "RevisionCompacted",
    "RevisionInFuture",
    "SlowDown",
    "Stopping",
    "StorageError",
    "StorageFailed",
    "TokenNotFound",
    "TooLarge",
    "TooManyOperations",
    "Unauthenticated",
    "Unavailable",
    "Unexpected",
    "UnknownHost",
    "UnsupportedMedia",
    "WireField",
    "WorkTooLarge",
    "auth_error",
    "membership_error",
]


class RevisionCompacted(RequestError):
    """History is readable from `compacted_revision` on."""

    kind = Kind(
        "revision-compacted", 410, "Revision compacted",
        "The history at this revision is gone; it is readable from `compacted_revision` on.",
    )  # fmt: skip
    fields = (WireField("compacted_revision", FieldForm.NUMBER, 0),)

    def __init__(self, revision: int, compacted_revision: int) -> None:
        super().__init__(
            f"revision {revision} has been compacted; the oldest readable revision is "
            f"{compacted_revision}"
        )
        self.compacted_revision = compacted_revision


class RevisionInFuture(RequestError):
    """The store has not reached the revision yet."""

    kind = Kind(
        "revision-in-future", 400, "Revision in the future",
        "The store has not reached this revision; `current_revision` is where it is.",
    )  # fmt: skip
    fields = (WireField("current_revision", FieldForm.NUMBER, 0),)

    def __init__(self, revision: int, current_revision: int) -> None:
        super().__init__(
            f"revision {revision} is in the future; the current revision is {current_revision}"
        )
        self.current_revision = current_revision


class ConditionFailed(RequestError):
    """A conditional write found another state. `mod_revision` is the key's, 0 if it is absent."""

    kind = Kind(
        "condition-failed", 412, "Condition failed",
        "The key is in another state than If-Match or If-None-Match asks for; nothing changed. "
        "`mod_revision` is the state of the key, 0 if it does not exist.",
    )  # fmt: skip
    fields = (WireField("mod_revision", FieldForm.NUMBER, 0),)

    def __init__(self, mod_revision: int) -> None:
        state = f"is at revision {mod_revision}" if mod_revision else "does not exist"
        super().__init__(f"the condition does not hold: the key {state}")
        self.mod_revision = mod_revision


class IdempotencyMismatch(RequestError):
    """The idempotency key was used before, for a different request."""

    kind = Kind(
        "idempotency-mismatch", 422, "Idempotency key reused",
        "The Idempotency-Key was used before, for a different request.",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__("this idempotency key was used before for a different request")


class TooManyOperations(RequestError):
    """More than `maximum` compares, or operations in a branch."""

    kind = Kind(
        "too-many-operations", 400, "Too many operations",
        "A transaction or batch over the limit on operations; `maximum` is the limit.",
    )  # fmt: skip
    fields = (WireField("maximum", FieldForm.NUMBER, 0),)

    def __init__(self, maximum: int) -> None:
        super().__init__(f"a transaction has at most {maximum} compares and operations in a branch")
        self.maximum = maximum


class DuplicateKey(RequestError):
    """A transaction may write a key at most once."""

    kind = Kind(
        "duplicate-key", 400, "Duplicate key",
        "A transaction that would write a key twice, or write and delete it.",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__("a transaction may write or delete a key only once in a branch")


class LeaseNotFound(RequestError):
    """There is no lease `lease`, or it has ended."""

    kind = Kind(
        "lease-not-found", 404, "Lease not found",
        "There is no such lease: it was never granted, or it has ended.",
    )  # fmt: skip
    fields = (WireField("lease", FieldForm.ID, 0),)

    def __init__(self, lease: int) -> None:
        super().__init__(f"there is no lease {lease}: it was never granted, or it has ended")
        self.lease = lease


class LeaseExists(RequestError):
    """A lease `lease` was granted before, and has not ended."""

    kind = Kind("lease-exists", 409, "Lease exists", "A lease of this id is there already.")
    fields = (WireField("lease", FieldForm.ID, 0),)

    def __init__(self, lease: int) -> None:
        super().__init__(f"there is a lease {lease} already")
        self.lease = lease


class KeyNotFound(RequestError):
    """The key does not exist, or has no value or lease that a write could keep."""

    kind = Kind(
        "key-not-found", 404, "Key not found",
        "The key does not exist at the revision read, or has no value or lease to keep.",
    )  # fmt: skip

    def __init__(
        self, detail: str = "there is no such key whose value or lease could be kept"
    ) -> None:
        super().__init__(detail)


class Unavailable(KvError):
    """Refused before proposing: certainly not applied. `retry_after_s` says when to try again."""

    fields = (WireField("retry_after_s", FieldForm.NUMBER, 1, header="Retry-After"),)

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.retry_after_s = 1


class NoQuorum(Unavailable):
    """No leader is known, or it cannot reach a quorum."""

    kind = Kind(
        "no-quorum", 503, "No quorum",
        "No leader is known, or it cannot reach a quorum. Try again, here or on another node.",
    )  # fmt: skip


class Overloaded(Unavailable):
    """A bound on requests, bytes or memory was reached."""

    kind = Kind(
        "overloaded", 503, "Overloaded",
        "A bound on requests, bytes or memory was reached. Try again a little later.",
    )  # fmt: skip


class SlowDown(Overloaded):
    """Too many wrong passwords of this user from this address; `retry_after_s` says when the next
    attempt is looked at."""

    kind = Kind(
        "too-many-logins", 429, "Too many wrong passwords",
        "Too many wrong passwords for this user from this address. `Retry-After` says when the "
        "next attempt is looked at.",
    )  # fmt: skip

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many wrong passwords; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class OutOfSpace(Overloaded):
    """The space quota is used up, or this node's disk nearly full: what grows is refused."""

    kind = Kind(
        "out-of-space", 507, "Out of space",
        "The space quota is used up, or this node's disk is nearly full. Writes that grow are "
        "refused, deletions are not; it is over by itself once there is room.",
    )  # fmt: skip


class Stopping(Unavailable):
    """The node is shutting down, or failed and says why."""

    kind = Kind(
        "stopping", 503, "Node stopping",
        "The node is shutting down or has failed. Try another node.",
    )  # fmt: skip


class NotReady(Unavailable):
    """The node does not serve yet, or no longer."""

    kind = Kind("not-ready", 503, "Not ready", "The node does not serve now.")


class OutcomeUnknown(KvError):
    """Timed out after proposing: the write may have been applied, or may yet be."""

    kind = Kind(
        "outcome-unknown", 504, "Outcome unknown",
        "Timed out after proposing: the write may have been applied, or may yet be. "
        "Sending it again is safe with the same Idempotency-Key.",
        UNKNOWN,
    )  # fmt: skip


class Unexpected(OutcomeUnknown):
    """A defect of the server, whose log has the details; it may have struck after proposing."""

    kind = UNEXPECTED


def _described(base: type[KvError]) -> Iterator[tuple[type[KvError], Kind]]:
    for cls in base.__subclasses__():
        if "kind" in vars(cls):
            yield cls, cls.kind
        yield from _described(cls)


KINDS: dict[type[KvError], Kind] = dict(_described(KvError))
"""Every error that has a type of its own in answers."""
