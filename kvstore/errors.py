"""Errors: whose fault it is, and whether the write may have happened.

::

    KvError
    ├── RequestError          the caller's fault; nothing was proposed
    │   ├── InvalidArgument       a value that cannot be (key too long, bad number, ...)
    │   ├── TooLarge              body or command over the limit
    │   ├── RevisionCompacted     history below this revision is gone
    │   ├── RevisionInFuture      no such revision yet
    │   ├── ConditionFailed       a conditional write found another state; it changed nothing
    │   ├── IdempotencyMismatch   the key was used for a different request
    │   ├── TooManyOperations     a transaction over the limit
    │   ├── DuplicateKey          a transaction that may write a key twice
    │   ├── LeaseNotFound         no such lease, or it has ended
    │   ├── LeaseExists           a lease of that id is there already
    │   ├── KeyNotFound           a write that keeps what an absent key would have
    │   └── AuthError             who asks, or what they may do
    │       ├── Unauthenticated       nobody, or somebody who cannot prove it
    │       ├── PermissionDenied      a user without the right
    │       └── AuthChangeRefused     users and roles cannot be changed so
    ├── Unavailable           refused before proposing: certainly not applied; try again
    │   ├── NoQuorum              no leader, or it cannot reach a quorum
    │   ├── Overloaded            a bound was reached
    │   └── Stopping              the node is shutting down, or failed
    └── OutcomeUnknown        timed out after proposing: it may yet be applied

`http_api.core.problems` maps each to a status and a problem type, in one table.
"""

from enum import StrEnum


class KvError(Exception):
    """Base of all errors that an answer can carry. `str()` is a sentence for the caller."""


class RequestError(KvError):
    """The caller's fault; nothing was proposed, or it was decided to change nothing."""


class InvalidArgument(RequestError):
    """A parameter that cannot be. `parameter` names it."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


class TooLarge(RequestError):
    """A body or command over the limit."""


class RevisionCompacted(RequestError):
    """History is readable from `compacted_revision` on."""

    def __init__(self, revision: int, compacted_revision: int) -> None:
        super().__init__(
            f"revision {revision} has been compacted; the oldest readable revision is "
            f"{compacted_revision}"
        )
        self.compacted_revision = compacted_revision


class RevisionInFuture(RequestError):
    """The store has not reached the revision yet."""

    def __init__(self, revision: int, current_revision: int) -> None:
        super().__init__(
            f"revision {revision} is in the future; the current revision is {current_revision}"
        )
        self.current_revision = current_revision


class ConditionFailed(RequestError):
    """A conditional write found another state. `mod_revision` is the key's, 0 if it is absent."""

    def __init__(self, mod_revision: int) -> None:
        state = f"is at revision {mod_revision}" if mod_revision else "does not exist"
        super().__init__(f"the condition does not hold: the key {state}")
        self.mod_revision = mod_revision


class IdempotencyMismatch(RequestError):
    """The idempotency key was used before, for a different request."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used before for a different request")


class TooManyOperations(RequestError):
    """More than `maximum` compares, or operations in a branch."""

    def __init__(self, maximum: int) -> None:
        super().__init__(f"a transaction has at most {maximum} compares and operations in a branch")
        self.maximum = maximum


class DuplicateKey(RequestError):
    """A transaction may write a key at most once."""

    def __init__(self) -> None:
        super().__init__("a transaction may write or delete a key only once in a branch")


class LeaseNotFound(RequestError):
    """There is no lease `lease`, or it has ended."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"there is no lease {lease}: it was never granted, or it has ended")
        self.lease = lease


class LeaseExists(RequestError):
    """A lease `lease` was granted before, and has not ended."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"there is a lease {lease} already")
        self.lease = lease


class KeyNotFound(RequestError):
    """A write that keeps the value or the lease of a key that does not exist."""

    def __init__(self) -> None:
        super().__init__("there is no such key whose value or lease could be kept")


class Reason(StrEnum):
    """Why a request is refused."""

    NO_USER = "the request names no user; authentication is on"
    BAD_TOKEN = "the token is invalid or has expired"
    WRONG_PASSWORD = "the user does not exist, or the password is wrong"
    NO_PASSWORD = "this user cannot authenticate with a password"
    DENIED = "the user lacks the permission"
    OFF = "authentication is not enabled"
    NO_ROOT_USER = "there is no user root"
    NO_ROOT_ROLE = "the user root does not have the role root"
    BAD_MANAGEMENT = "root cannot lose its user or role while authentication is on"
    EMPTY_USER = "the user name is empty"
    EMPTY_ROLE = "the role name is empty"
    USER_EXISTS = "there is such a user already"
    USER_UNKNOWN = "there is no such user"
    ROLE_EXISTS = "there is such a role already"
    ROLE_UNKNOWN = "there is no such role"
    ROLE_NOT_GRANTED = "the user does not have this role"
    PERMISSION_NOT_GRANTED = "the role does not have this permission"


class AuthError(RequestError):
    """Refused for reasons of authentication or authorisation; `reason` says which."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Unauthenticated(AuthError):
    """No user is named, or it is not proved to be that user."""


class PermissionDenied(AuthError):
    """The user lacks the right."""


class AuthChangeRefused(AuthError):
    """A change of users, roles or the switch that cannot be."""


def auth_error(reason: Reason) -> AuthError:
    """The error that a reason stands for."""
    if reason is Reason.DENIED:
        return PermissionDenied(reason)
    if reason in (Reason.NO_USER, Reason.BAD_TOKEN, Reason.WRONG_PASSWORD, Reason.NO_PASSWORD):
        return Unauthenticated(reason)
    return AuthChangeRefused(reason)


class Unavailable(KvError):
    """Refused before proposing: certainly not applied. `retry_after_s` says when to try again."""

    retry_after_s = 1


class NoQuorum(Unavailable):
    """No leader is known, or it cannot reach a quorum."""


class Overloaded(Unavailable):
    """A bound on requests, bytes or memory was reached."""


class Stopping(Unavailable):
    """The node is shutting down, or failed and says why."""


class OutcomeUnknown(KvError):
    """Timed out after proposing: the write may have been applied, or may yet be."""


class StorageError(Exception):
    """The data directory cannot be used; the text says what to do about it. Not for clients."""


class StorageFailed(StorageError):
    """A durable write failed while running; the node must stop (D2)."""


class DivergedState(RuntimeError):
    """This node's state differs from that of the majority at the same slot; it must stop (D5)."""
