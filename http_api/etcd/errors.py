"""The one table from errors to etcd's codes and texts, and the form in which they are sent."""

from http import HTTPStatus
from typing import Any, NamedTuple

from http_api.core.problems import BodyTimeout, ExpectationFailed, Malformed, UnsupportedMedia
from kvstore.commands.accounts import Reason
from kvstore.errors import (
    AuthError,
    DuplicateKey,
    InvalidArgument,
    KeyNotFound,
    KvError,
    LeaseExists,
    LeaseNotFound,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    RequestError,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    TooLarge,
    TooManyOperations,
)

# gRPC's status codes.
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
UNAVAILABLE = 14
UNAUTHENTICATED = 16

HTTP_STATUSES = {
    CANCELLED: 408,
    UNKNOWN: 500,
    INVALID_ARGUMENT: 400,
    DEADLINE_EXCEEDED: 504,
    NOT_FOUND: 404,
    PERMISSION_DENIED: 403,
    RESOURCE_EXHAUSTED: 429,
    FAILED_PRECONDITION: 400,
    OUT_OF_RANGE: 400,
    UNIMPLEMENTED: 501,
    UNAVAILABLE: 503,
    UNAUTHENTICATED: 401,
}


class EtcdError(RequestError):
    """An error that only etcd's API knows. `code` is a gRPC status code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Status(NamedTuple):
    """What etcd would say: gRPC code and text."""

    code: int
    text: str

    @property
    def http_status(self) -> int:
        return HTTP_STATUSES[self.code]

    def document(self) -> dict[str, Any]:
        """The body of an answer."""
        return {"error": self.text, "code": self.code, "message": self.text}

    def stream_document(self) -> dict[str, Any]:
        """The last document of a stream."""
        return {
            "error": {
                "grpc_code": self.code,
                "http_code": self.http_status,
                "message": self.text,
                "http_status": HTTPStatus(self.http_status).phrase,
            }
        }


_TEXTS: dict[type[KvError], Status] = {
    RevisionCompacted: Status(
        OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"
    ),
    RevisionInFuture: Status(
        OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"
    ),
    TooManyOperations: Status(INVALID_ARGUMENT, "etcdserver: too many operations in txn request"),
    DuplicateKey: Status(INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
    LeaseNotFound: Status(NOT_FOUND, "etcdserver: requested lease not found"),
    LeaseExists: Status(FAILED_PRECONDITION, "etcdserver: lease already exists"),
    KeyNotFound: Status(INVALID_ARGUMENT, "etcdserver: key not found"),
    TooLarge: Status(INVALID_ARGUMENT, "etcdserver: request is too large"),
    NoQuorum: Status(UNAVAILABLE, "etcdserver: no leader"),
    Overloaded: Status(RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
    Stopping: Status(UNAVAILABLE, "etcdserver: server stopped"),
    OutcomeUnknown: Status(UNAVAILABLE, "etcdserver: request timed out"),
}
_AUTH: dict[Reason, Status] = {
    Reason.NO_USER: Status(INVALID_ARGUMENT, "etcdserver: user name is empty"),
    Reason.BAD_TOKEN: Status(UNAUTHENTICATED, "etcdserver: invalid auth token"),
    Reason.WRONG_PASSWORD: Status(
        INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"
    ),
    Reason.NO_PASSWORD: Status(
        UNKNOWN, "auth: authentication failed, password was given for no password user"
    ),
    Reason.DENIED: Status(PERMISSION_DENIED, "etcdserver: permission denied"),
    Reason.OFF: Status(FAILED_PRECONDITION, "etcdserver: authentication is not enabled"),
    Reason.NO_ROOT_USER: Status(FAILED_PRECONDITION, "etcdserver: root user does not exist"),
    Reason.NO_ROOT_ROLE: Status(
        FAILED_PRECONDITION, "etcdserver: root user does not have root role"
    ),
    Reason.BAD_MANAGEMENT: Status(INVALID_ARGUMENT, "etcdserver: invalid auth management"),
    Reason.EMPTY_USER: Status(INVALID_ARGUMENT, "etcdserver: user name is empty"),
    Reason.EMPTY_ROLE: Status(INVALID_ARGUMENT, "etcdserver: role name is empty"),
    Reason.USER_EXISTS: Status(FAILED_PRECONDITION, "etcdserver: user name already exists"),
    Reason.USER_UNKNOWN: Status(FAILED_PRECONDITION, "etcdserver: user name not found"),
    Reason.ROLE_EXISTS: Status(FAILED_PRECONDITION, "etcdserver: role name already exists"),
    Reason.ROLE_UNKNOWN: Status(FAILED_PRECONDITION, "etcdserver: role name not found"),
    Reason.ROLE_NOT_GRANTED: Status(
        FAILED_PRECONDITION, "etcdserver: role is not granted to the user"
    ),
    Reason.PERMISSION_NOT_GRANTED: Status(
        FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"
    ),
}
_CODES: dict[type[KvError], int] = {
    InvalidArgument: INVALID_ARGUMENT,
    Malformed: INVALID_ARGUMENT,
    UnsupportedMedia: INVALID_ARGUMENT,
    ExpectationFailed: INVALID_ARGUMENT,
    BodyTimeout: CANCELLED,
}
"""Errors that keep their own text."""


def status_of(error: KvError) -> Status:
    """What etcd says to this."""
    if isinstance(error, EtcdError):
        return Status(error.code, str(error))
    if isinstance(error, AuthError):
        return _AUTH[error.reason]
    for cls in type(error).__mro__:
        if cls in _TEXTS:
            return _TEXTS[cls]
        if cls in _CODES:
            return Status(_CODES[cls], str(error))
    return Status(UNKNOWN, str(error))
