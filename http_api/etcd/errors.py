"""The one table from errors to etcd's codes and texts, and the form in which they are sent."""

from http import HTTPStatus
from typing import Any, NamedTuple

from kvstore.errors import (
    AnswerNotKept,
    AuthError,
    BodyTimeout,
    DuplicateKey,
    ExpectationFailed,
    InvalidArgument,
    KeyNotFound,
    KvError,
    LeaseExists,
    LeaseNotFound,
    Malformed,
    MemberNotFound,
    MembershipConflict,
    NoQuorum,
    NotReady,
    OutcomeUnknown,
    OutOfSpace,
    Overloaded,
    Reason,
    RequestError,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    TooLarge,
    TooManyOperations,
    Unexpected,
    UnsupportedMedia,
    WorkTooLarge,
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


class GrpcStatus(NamedTuple):
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


_TEXTS: dict[type[KvError], GrpcStatus] = {
    RevisionCompacted: GrpcStatus(
        OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"
    ),
    RevisionInFuture: GrpcStatus(
        OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"
    ),
    TooManyOperations: GrpcStatus(
        INVALID_ARGUMENT, "etcdserver: too many operations in txn request"
    ),
    DuplicateKey: GrpcStatus(INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
    LeaseNotFound: GrpcStatus(NOT_FOUND, "etcdserver: requested lease not found"),
    LeaseExists: GrpcStatus(FAILED_PRECONDITION, "etcdserver: lease already exists"),
    KeyNotFound: GrpcStatus(INVALID_ARGUMENT, "etcdserver: key not found"),
    TooLarge: GrpcStatus(INVALID_ARGUMENT, "etcdserver: request is too large"),
    MemberNotFound: GrpcStatus(NOT_FOUND, "etcdserver: member not found"),
    NoQuorum: GrpcStatus(UNAVAILABLE, "etcdserver: no leader"),
    OutOfSpace: GrpcStatus(RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    Overloaded: GrpcStatus(RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
    Stopping: GrpcStatus(UNAVAILABLE, "etcdserver: server stopped"),
    OutcomeUnknown: GrpcStatus(UNAVAILABLE, "etcdserver: request timed out"),
}
_AUTH: dict[Reason, GrpcStatus] = {
    Reason.NO_USER: GrpcStatus(INVALID_ARGUMENT, "etcdserver: user name is empty"),
    Reason.BAD_TOKEN: GrpcStatus(UNAUTHENTICATED, "etcdserver: invalid auth token"),
    Reason.WRONG_PASSWORD: GrpcStatus(
        INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"
    ),
    Reason.NO_PASSWORD: GrpcStatus(
        UNKNOWN, "auth: authentication failed, password was given for no password user"
    ),
    Reason.NO_SUCH_CERTIFICATE: GrpcStatus(UNAUTHENTICATED, "etcdserver: invalid auth token"),
    Reason.DENIED: GrpcStatus(PERMISSION_DENIED, "etcdserver: permission denied"),
    Reason.OFF: GrpcStatus(FAILED_PRECONDITION, "etcdserver: authentication is not enabled"),
    Reason.NO_ROOT_USER: GrpcStatus(FAILED_PRECONDITION, "etcdserver: root user does not exist"),
    Reason.NO_ROOT_ROLE: GrpcStatus(
        FAILED_PRECONDITION, "etcdserver: root user does not have root role"
    ),
    Reason.BAD_MANAGEMENT: GrpcStatus(INVALID_ARGUMENT, "etcdserver: invalid auth management"),
    Reason.EMPTY_USER: GrpcStatus(INVALID_ARGUMENT, "etcdserver: user name is empty"),
    Reason.EMPTY_ROLE: GrpcStatus(INVALID_ARGUMENT, "etcdserver: role name is empty"),
    Reason.USER_EXISTS: GrpcStatus(FAILED_PRECONDITION, "etcdserver: user name already exists"),
    Reason.USER_UNKNOWN: GrpcStatus(FAILED_PRECONDITION, "etcdserver: user name not found"),
    Reason.ROLE_EXISTS: GrpcStatus(FAILED_PRECONDITION, "etcdserver: role name already exists"),
    Reason.ROLE_UNKNOWN: GrpcStatus(FAILED_PRECONDITION, "etcdserver: role name not found"),
    Reason.ROLE_NOT_GRANTED: GrpcStatus(
        FAILED_PRECONDITION, "etcdserver: role is not granted to the user"
    ),
    Reason.PERMISSION_NOT_GRANTED: GrpcStatus(
        FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"
    ),
}
_TAKEN = GrpcStatus(FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
_BEHIND = GrpcStatus(
    FAILED_PRECONDITION,
    "etcdserver: can only promote a learner member which is in sync with leader",
)
_TOO_FEW = GrpcStatus(
    UNKNOWN, "etcdserver: re-configuration failed due to not enough started members"
)
_MEMBERSHIP: dict[str, GrpcStatus] = {
    "address-taken": _TAKEN,
    "name-taken": _TAKEN,
    "not-learner": GrpcStatus(FAILED_PRECONDITION, "etcdserver: can only promote a learner member"),
    "not-there-yet": _BEHIND,
    "not-in-step": _BEHIND,
    "last-voter": _TOO_FEW,
    "minority": _TOO_FEW,
    "too-many": GrpcStatus(FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"),
}
"""By the reason of a MembershipConflict; all others pass by themselves."""
_UNHEALTHY = GrpcStatus(UNAVAILABLE, "etcdserver: unhealthy cluster")
_CODES: dict[type[KvError], int] = {
    InvalidArgument: INVALID_ARGUMENT,
    Malformed: INVALID_ARGUMENT,
    UnsupportedMedia: INVALID_ARGUMENT,
    ExpectationFailed: INVALID_ARGUMENT,
    BodyTimeout: CANCELLED,
    WorkTooLarge: RESOURCE_EXHAUSTED,
    AnswerNotKept: FAILED_PRECONDITION,
    NotReady: UNAVAILABLE,
    Unexpected: UNKNOWN,
}
"""Errors that keep their own text."""


def status_of(error: KvError) -> GrpcStatus:
    """What etcd says to this."""
    if isinstance(error, EtcdError):
        return GrpcStatus(error.code, str(error))
    if isinstance(error, AuthError):
        return _AUTH[error.reason]
    if isinstance(error, MembershipConflict):
        return _MEMBERSHIP.get(error.reason, _UNHEALTHY)
    for cls in type(error).__mro__:
        if cls in _TEXTS:
            return _TEXTS[cls]
        if cls in _CODES:
            return GrpcStatus(_CODES[cls], str(error))
    return GrpcStatus(UNKNOWN, str(error))
