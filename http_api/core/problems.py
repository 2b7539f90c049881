"""The one table from errors to HTTP statuses, and `application/problem+json` (RFC 9457).

Each answer says in `outcome` whether the write may have happened: "not-applied" is certain,
"unknown" means that it was proposed, or that nobody can tell.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from http_api.core.responses import Answer, answer
from kvstore import errors
from kvstore.commands.results import (
    AuthRefused,
    BadRevision,
    LeaseTaken,
    Mismatched,
    NoKey,
    NoLease,
    NotHeld,
    Result,
)
from kvstore.errors import (
    AuthChangeRefused,
    ConditionFailed,
    DuplicateKey,
    IdempotencyMismatch,
    InvalidArgument,
    KvError,
    LeaseExists,
    LeaseNotFound,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RequestError,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    TooLarge,
    TooManyOperations,
    Unauthenticated,
    Unavailable,
    auth_error,
)

PROBLEM_JSON = b"application/problem+json"
NOT_APPLIED = "not-applied"
UNKNOWN = "unknown"


class Malformed(RequestError):
    """The request, or its body, does not follow its format."""


class Contradiction(RequestError):
    """Two parts of the request exclude each other."""


class KeyNotFound(errors.KeyNotFound):
    """The key does not exist at the revision read, as `detail` says."""

    def __init__(self, detail: str) -> None:
        RequestError.__init__(self, detail)


class PathNotFound(RequestError):
    """No such resource."""


class MethodNotAllowed(RequestError):
    """The resource exists and does not take the method. `allow` lists those that it takes."""

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"this resource does not take {method}; it takes {allow}")
        self.allow = allow


class UnsupportedMedia(RequestError):
    """The body is encoded in a way that the server does not undo."""


class ExpectationFailed(RequestError):
    """An Expect header other than 100-continue."""


class BodyTimeout(RequestError):
    """The request body did not arrive in time."""


class NotReady(Unavailable):
    """The node does not serve yet, or no longer."""


class Unexpected(KvError):
    """A defect of the server; the log has the details."""


@dataclass(frozen=True)
class Kind:
    """What an error looks like from outside. `slug` ends its stable type, `/problems/<slug>`."""

    slug: str
    status: int
    title: str
    meaning: str
    outcome: str = NOT_APPLIED

    @property
    def type(self) -> str:
        """The problem type, a URI reference that this server answers."""
        return f"/problems/{self.slug}"


KINDS: dict[type[KvError], Kind] = {
    InvalidArgument: Kind(
        "invalid-argument", 400, "Invalid argument",
        "A key, parameter or header has a value that cannot be; `parameter` names it.",
    ),
    Malformed: Kind(
        "malformed", 400, "Malformed request",
        "The request or its body does not follow its format.",
    ),
    Contradiction: Kind(
        "contradiction", 400, "Contradictory request",
        "Two parts of the request exclude each other.",
    ),
    RevisionInFuture: Kind(
        "revision-in-future", 400, "Revision in the future",
        "The store has not reached this revision; `current_revision` is where it is.",
    ),
    TooManyOperations: Kind(
        "too-many-operations", 400, "Too many operations",
        "A transaction or batch over the limit on operations.",
    ),
    DuplicateKey: Kind(
        "duplicate-key", 400, "Duplicate key",
        "A transaction that would write a key twice, or write and delete it.",
    ),
    errors.KeyNotFound: Kind(
        "key-not-found", 404, "Key not found",
        "The key does not exist at the revision read, or has no value or lease to keep.",
    ),
    LeaseNotFound: Kind(
        "lease-not-found", 404, "Lease not found",
        "There is no such lease: it was never granted, or it has ended.",
    ),
    PathNotFound: Kind("not-found", 404, "Not found", "There is no such resource."),
    MethodNotAllowed: Kind(
        "method-not-allowed", 405, "Method not allowed",
        "The resource does not take this method; `Allow` lists those that it takes.",
    ),
    BodyTimeout: Kind(
        "body-timeout", 408, "Request body too slow", "The request body did not arrive in time."
    ),
    LeaseExists: Kind(
        "lease-exists", 409, "Lease exists", "A lease of this id is there already."
    ),
    Unauthenticated: Kind(
        "unauthenticated", 401, "Not authenticated",
        "Authentication is on: send a token or, by HTTP Basic, a user's name and password.",
    ),
    PermissionDenied: Kind(
        "permission-denied", 403, "Permission denied", "The user lacks the permission."
    ),
    AuthChangeRefused: Kind(
        "auth-change-refused", 409, "Not possible for these users and roles",
        "Users, roles or the switch of authentication cannot be changed so.",
    ),
    RevisionCompacted: Kind(
        "revision-compacted", 410, "Revision compacted",
        "The history at this revision is gone; it is readable from `compacted_revision` on.",
    ),
    ConditionFailed: Kind(
        "condition-failed", 412, "Condition failed",
        "The key is in another state than If-Match or If-None-Match asks for; nothing changed. "
        "`mod_revision` is the state of the key, 0 if it does not exist.",
    ),
    TooLarge: Kind("too-large", 413, "Body too large", "The request body is over the limit."),
    UnsupportedMedia: Kind(
        "unsupported-content-encoding", 415, "Unsupported content encoding",
        "Values are stored as they are sent; the server undoes no Content-Encoding.",
    ),
    ExpectationFailed: Kind(
        "expectation-failed", 417, "Expectation failed",
        "The only expectation that this server meets is 100-continue.",
    ),
    IdempotencyMismatch: Kind(
        "idempotency-mismatch", 422, "Idempotency key reused",
        "The Idempotency-Key was used before, for a different request.",
    ),
    Unexpected: Kind(
        "unexpected", 500, "Unexpected error",
        "A defect of the server; its log has the details.", UNKNOWN,
    ),
    NoQuorum: Kind(
        "no-quorum", 503, "No quorum",
        "No leader is known, or it cannot reach a quorum. Try again, here or on another node.",
    ),
    Overloaded: Kind(
        "overloaded", 503, "Overloaded",
        "A bound on requests, bytes or memory was reached. Try again a little later.",
    ),
    Stopping: Kind(
        "stopping", 503, "Node stopping",
        "The node is shutting down or has failed. Try another node.",
    ),
    NotReady: Kind("not-ready", 503, "Not ready", "The node does not serve now."),
    OutcomeUnknown: Kind(
        "outcome-unknown", 504, "Outcome unknown",
        "Timed out after proposing: the write may have been applied, or may yet be. "
        "Sending it again is safe with the same Idempotency-Key.", UNKNOWN,
    ),
}  # fmt: skip

_CHALLENGES = (
    b'WWW-Authenticate: Basic realm="kvstore", charset="UTF-8", Bearer realm="kvstore"\r\n'
)
_EXTRAS = ("parameter", "mod_revision", "compacted_revision", "current_revision")


def kind_of(error: KvError | type[KvError]) -> Kind:
    """The table's entry for the error, or the class of one, or its closest base."""
    for cls in (error if isinstance(error, type) else type(error)).__mro__:
        if cls in KINDS:
            return KINDS[cls]
    return KINDS[Unexpected]


def problem_document(error: KvError, outcome: str | None = None) -> dict[str, Any]:
    """What is said about an error; `outcome` replaces what the table says."""
    kind = kind_of(error)
    document: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": str(error) or kind.meaning,
        "outcome": outcome or kind.outcome,
    }
    for name in _EXTRAS:
        if hasattr(error, name):
            document[name] = getattr(error, name)
    return document


def problem(error: KvError, outcome: str | None = None) -> Answer:
    """The answer for an error."""
    document = problem_document(error, outcome)
    headers = b""
    if isinstance(error, Unavailable):
        headers = b"Retry-After: %d\r\n" % error.retry_after_s
    elif isinstance(error, Unauthenticated):
        headers = _CHALLENGES
    elif isinstance(error, MethodNotAllowed):
        headers = b"Allow: %s\r\n" % error.allow.encode()
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return answer(document["status"], body, PROBLEM_JSON, headers)


def refusal(result: Result) -> KvError:
    """The error that a result of another type than the expected one stands for."""
    if isinstance(result, NotHeld):
        return ConditionFailed(result.mod_revision)
    if isinstance(result, Mismatched):
        return IdempotencyMismatch()
    if isinstance(result, AuthRefused):
        return auth_error(result.reason)
    if isinstance(result, NoLease):
        return LeaseNotFound(result.lease)
    if isinstance(result, LeaseTaken):
        return LeaseExists(result.lease)
    if isinstance(result, NoKey):
        return errors.KeyNotFound()
    if isinstance(result, BadRevision):
        if result.revision > result.current_revision:
            return RevisionInFuture(result.revision, result.current_revision)
        return RevisionCompacted(result.revision, result.compacted_revision)
    # The key was used for a command of another kind, or replicas and API disagree about commands.
    return Unexpected(f"the state machine answered with a {type(result).__name__}")
