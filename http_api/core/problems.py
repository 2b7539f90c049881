"""Errors as answers: `application/problem+json` (RFC 9457), as their classes declare it.

Each answer says in `outcome` whether the write may have happened: "not-applied" is certain,
"unknown" means that it was proposed, or that nobody can tell. The table of kinds is
`kvstore.errors.KINDS`; the client reads the same.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from http_api.core.responses import Answer, answer
from kvstore.commands.results import (
    AnswerDropped,
    AuthRefused,
    BadRevision,
    LeaseTaken,
    MembershipRefused,
    Mismatched,
    NoKey,
    NoLease,
    NotHeld,
    OverLimit,
    Result,
)
from kvstore.errors import (
    KINDS,
    NOT_APPLIED,
    UNKNOWN,
    AnswerNotKept,
    BodyTimeout,
    ConditionFailed,
    Contradiction,
    ExpectationFailed,
    IdempotencyMismatch,
    KeyNotFound,
    Kind,
    KvError,
    LeaseExists,
    LeaseNotFound,
    Malformed,
    MethodNotAllowed,
    NotReady,
    PathNotFound,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    Unauthenticated,
    Unexpected,
    UnsupportedMedia,
    WorkTooLarge,
    auth_error,
    membership_error,
)

__all__ = [
    "KINDS",
    "NOT_APPLIED",
    "UNKNOWN",
    "BodyTimeout",
    "Contradiction",
    "ExpectationFailed",
    "KeyNotFound",
    "Kind",
    "Malformed",
    "MethodNotAllowed",
    "NotReady",
    "PathNotFound",
    "Unexpected",
    "UnsupportedMedia",
    "kind_of",
    "membership_refusal",
    "problem",
    "problem_document",
    "refusal",
]

PROBLEM_JSON = b"application/problem+json"
_CHALLENGES = (
    b'WWW-Authenticate: Basic realm="kvstore", charset="UTF-8", Bearer realm="kvstore"\r\n'
)


def kind_of(error: KvError | type[KvError]) -> Kind:
    """What the error, or the class of one, looks like from outside."""
    return error.kind


def problem_document(error: KvError, outcome: str | None = None) -> dict[str, Any]:
    """What is said about an error; `outcome` replaces what its kind says."""
    kind = error.kind
    document: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": str(error) or kind.meaning,
        "outcome": outcome or kind.outcome,
    }
    values = vars(error)
    document |= {f.name: f.encode(values[f.name]) for f in error.fields if f.header is None}
    return document


def problem(
    error: KvError, outcome: str | None = None, more: Mapping[str, Any] | None = None
) -> Answer:
    """The answer for an error; `more` are further fields of this one answer."""
    document = problem_document(error, outcome) | dict(more or {})
    values = vars(error)
    headers = b"".join(
        b"%s: %s\r\n" % (field.header.encode(), str(values[field.name]).encode())
        for field in error.fields
        if field.header is not None
    )
    if isinstance(error, Unauthenticated):
        headers = _CHALLENGES
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
        return KeyNotFound()
    if isinstance(result, OverLimit):
        return WorkTooLarge(result.limit.name.lower(), result.maximum)
    if isinstance(result, AnswerDropped):
        return AnswerNotKept(result.revision)
    if isinstance(result, MembershipRefused):
        return membership_refusal(result)
    if isinstance(result, BadRevision):
        if result.revision > result.current_revision:
            return RevisionInFuture(result.revision, result.current_revision)
        return RevisionCompacted(result.revision, result.compacted_revision)
    # The key was used for a command of another kind, or replicas and API disagree about commands.
    return Unexpected(f"the state machine answered with a {type(result).__name__}")


def membership_refusal(refused: MembershipRefused, under_way: str = "") -> KvError:
    """The error for a change of members that was not made; `under_way`: where one leads that is."""
    reason = refused.reason
    slug = reason.name.lower().replace("_", "-")
    return membership_error(slug, reason.value, refused.number, under_way)


def storage_failed() -> Stopping:
    """What a client hears when this node's data turned out to be damaged: the node's own log names
    the file, and another node has it whole."""
    return Stopping("this node has failed: its data is damaged; ask another node")
