"""What an answer or a failure of one attempt means, in the words of `kvstore.errors`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec

from kvstore.errors import (
    ConditionFailed,
    DuplicateKey,
    IdempotencyMismatch,
    InvalidArgument,
    KeyNotFound,
    KvError,
    LeaseExists,
    LeaseNotFound,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    TooLarge,
    TooManyOperations,
    Unavailable,
)


class HttpReply(NamedTuple):
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def error_of(answer: HttpReply) -> KvError:
    """The error that an answer outside of 2xx stands for.

    The type of the problem decides; without one, which is what a proxy would send, the status.
    """
    problem = _problem(answer)
    kind = _kind(problem)
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {answer.status}")
    if answer.status in (429, 503) and problem.get("outcome") != "unknown":
        return _unavailable(answer, kind, detail)
    if answer.status >= 500:
        certain = problem.get("outcome") == "not-applied"
        return Unavailable(detail) if certain else OutcomeUnknown(detail)
    return _request_error(answer, kind, detail, problem)


def says_key_not_found(answer: HttpReply) -> bool:
    """Whether a node says that the key does not exist, unlike any 404 of anything else."""
    return answer.status == 404 and _kind(_problem(answer)) == "key-not-found"


def error_of_failure(error: Exception, endpoint: str, *, sent: bool) -> KvError:
    """The error for an attempt without an answer. `sent`: whether a part of it may have left."""
    if sent and isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return OutcomeUnknown(f"the connection to {endpoint} was lost before the answer")
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error.strerror or error.os_error
        return NoQuorum(f"cannot reach {endpoint}: {cause}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NoQuorum(f"cannot reach {endpoint} in time")
    if isinstance(error, TimeoutError):
        return OutcomeUnknown(f"{endpoint} did not answer in time")
    cause = str(error) or type(error).__name__
    return OutcomeUnknown(f"the connection to {endpoint} was lost before the answer: {cause}")


def _kind(problem: dict[str, Any]) -> str:
    return str(problem.get("type", "")).rpartition("/")[2]


def _problem(answer: HttpReply) -> dict[str, Any]:
    if "json" not in answer.headers.get("Content-Type", ""):
        return {}
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _unavailable(answer: HttpReply, kind: str, detail: str) -> Unavailable:
    error: Unavailable
    if answer.status == 429 or "overload" in kind:
        error = Overloaded(detail)
    elif "stopping" in kind:
        error = Stopping(detail)
    else:
        error = NoQuorum(detail)
    retry_after = answer.headers.get("Retry-After", "")
    if retry_after.isdecimal():
        error.retry_after_s = int(retry_after)
    return error


def _request_error(answer: HttpReply, kind: str, detail: str, problem: dict[str, Any]) -> KvError:
    if answer.status == 412:
        return ConditionFailed(_number(problem, "mod_revision"))
    if answer.status == 413:
        return TooLarge(detail)
    if "compacted" in kind:
        revision, oldest = _number(problem, "revision"), _number(problem, "compacted_revision")
        return _saying(RevisionCompacted(revision, oldest), detail)
    if "future" in kind:
        revision, current = _number(problem, "revision"), _number(problem, "current_revision")
        return _saying(RevisionInFuture(revision, current), detail)
    if "idempotency" in kind and "mismatch" in kind:
        return IdempotencyMismatch()
    if kind == "lease-not-found":
        return _saying(LeaseNotFound(_number(problem, "lease")), detail)
    if kind == "lease-exists":
        return _saying(LeaseExists(_number(problem, "lease")), detail)
    if kind == "too-many-operations":
        return _saying(TooManyOperations(_number(problem, "maximum")), detail)
    if kind == "duplicate-key":
        return _saying(DuplicateKey(), detail)
    if kind == "key-not-found":
        return _saying(KeyNotFound(), detail)
    if not problem:
        detail = f"HTTP status {answer.status} without a problem: is this endpoint a kvstore node?"
    return InvalidArgument(str(problem.get("parameter", "request")), detail)


def _saying(error: KvError, detail: str) -> KvError:
    error.args = (detail,)
    return error


def _number(problem: dict[str, Any], name: str) -> int:
    value = problem.get(name, 0)
    if isinstance(value, str) and value.isdecimal():
        return int(value)  # lease ids, which have 63 bits
    return value if isinstance(value, int) else 0
