"""What an answer or a failure of one attempt means, in the words of `kvstore.errors`."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec

from kvstore.errors import (
    KINDS,
    NOT_APPLIED,
    UNKNOWN,
    ConditionFailed,
    InvalidArgument,
    KeyNotFound,
    KvError,
    NoQuorum,
    OutcomeUnknown,
    OutOfSpace,
    Overloaded,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_BY_TYPE = {kind.type: error for error, kind in KINDS.items()}
_BY_STATUS: dict[int, type[KvError]] = {
    412: ConditionFailed,
    413: TooLarge,
    429: Overloaded,
    503: NoQuorum,
    507: OutOfSpace,
}
"""What a status means without a type that is known here, whoever answers."""
_BY_STATUS_OF_A_NODE: dict[int, type[KvError]] = {401: Unauthenticated, 403: PermissionDenied}
"""The same from a node, which always tells the outcome: a proxy has users of its own."""


class HttpReply(NamedTuple):
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def error_of(answer: HttpReply) -> KvError:
    """The error that an answer outside of 2xx stands for.

    The type of the problem decides, as the table of `kvstore.errors` has it; without one that is
    known there, the status: a proxy answers so, or a node of a later version. What the problem
    itself says of the outcome goes before what its type says.
    """
    problem = _problem(answer)
    error = _class_of(answer.status, problem)
    outcome = problem.get("outcome")
    if outcome == UNKNOWN and error.kind.outcome != UNKNOWN:
        error = OutcomeUnknown
    elif outcome == NOT_APPLIED and error.kind.outcome != NOT_APPLIED:
        error = Unavailable
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {answer.status}")
    if not problem and error is InvalidArgument:
        detail = f"HTTP status {answer.status} without a problem: is this endpoint a kvstore node?"
    values = {
        field.name: field.decode(
            problem.get(field.name) if field.header is None else answer.headers.get(field.header)
        )
        for field in error.fields
    }
    return error.restored(detail, values)


def says_key_not_found(answer: HttpReply) -> bool:
    """Whether a node says that the key does not exist, unlike any 404 of anything else."""
    return answer.status == 404 and _named(_problem(answer)) is KeyNotFound


def error_of_failure(error: Exception, endpoint: str, *, sent: bool) -> KvError:
    """The error for an attempt without an answer. `sent`: whether a part of it may have left."""
    if sent and isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return OutcomeUnknown(f"the connection to {endpoint} was lost before the answer")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        fault = error.certificate_error
        cause = getattr(fault, "verify_message", "") or str(fault)
        return NoQuorum(f"cannot trust {endpoint}: its certificate is not accepted: {cause}")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return NoQuorum(f"cannot speak TLS with {endpoint}: {_tls_cause(error)}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NoQuorum(f"cannot reach {endpoint}: {_cause(error.os_error)}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NoQuorum(f"cannot reach {endpoint} in time")
    if isinstance(error, TimeoutError):
        return OutcomeUnknown(f"{endpoint} did not answer in time")
    cause = str(error) or type(error).__name__
    return OutcomeUnknown(f"the connection to {endpoint} was lost before the answer: {cause}")


def _tls_cause(error: aiohttp.ClientConnectorSSLError) -> str:
    reason = getattr(error.os_error, "reason", None) or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return "it does not speak TLS: its address begins with http://"
    return str(reason).replace("_", " ").lower()


def _cause(error: OSError) -> str:
    """As the system says it: asyncio puts the address in its place."""
    if isinstance(error.errno, int) and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror or error)


def _class_of(status: int, problem: dict[str, Any]) -> type[KvError]:
    named = _named(problem)
    if named is not None:
        return named
    if "outcome" in problem and status in _BY_STATUS_OF_A_NODE:
        return _BY_STATUS_OF_A_NODE[status]
    return _BY_STATUS.get(status, OutcomeUnknown if status >= 500 else InvalidArgument)


def _named(problem: dict[str, Any]) -> type[KvError] | None:
    """The error that the type names. Types are compared whole, but for a base address."""
    _, mark, slug = str(problem.get("type", "")).rpartition("/problems/")
    return _BY_TYPE.get(mark + slug)


def _problem(answer: HttpReply) -> dict[str, Any]:
    if "json" not in answer.headers.get("Content-Type", ""):
        return {}
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {}
