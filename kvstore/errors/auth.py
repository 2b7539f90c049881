"""Errors of authentication and authorisation, and the reasons for them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from kvstore.errors.base import Kind, RequestError


class Reason(StrEnum):
    """Why authentication or authorisation refuses a request. The text is what the caller reads."""

    NO_USER = "the request names no user; authentication is on"
    BAD_TOKEN = "the token is invalid or has expired"
    WRONG_PASSWORD = "the user does not exist, or the password is wrong"
    NO_PASSWORD = "this user cannot authenticate with a password"
    NO_SUCH_CERTIFICATE = "there is no user of the name in the certificate"
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
    UNKNOWN = "a reason that this version does not know"


_REASONS = frozenset(Reason)
_UNPROVED = frozenset(
    (
        Reason.NO_USER,
        Reason.BAD_TOKEN,
        Reason.WRONG_PASSWORD,
        Reason.NO_PASSWORD,
        Reason.NO_SUCH_CERTIFICATE,
    )
)


class AuthError(RequestError):
    """Refused for reasons of authentication or authorisation; `reason` says which."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason

    @classmethod
    def restored(cls, detail: str, values: Mapping[str, int | str]) -> Self:
        """See `KvError.restored`. The text tells the reason."""
        error = super().restored(detail, values)
        error.reason = Reason(detail) if detail in _REASONS else Reason.UNKNOWN
        return error


class Unauthenticated(AuthError):
    """No user is named, or it is not proved to be that user."""

    kind = Kind(
        "unauthenticated", 401, "Not authenticated",
        "Authentication is on: send a token or, by HTTP Basic, a user's name and password.",
    )  # fmt: skip


class PermissionDenied(AuthError):
    """The user lacks the right."""

    kind = Kind("permission-denied", 403, "Permission denied", "The user lacks the permission.")


class AuthChangeRefused(AuthError):
    """A change of users, roles or the switch that cannot be."""

    kind = Kind(
        "auth-change-refused", 409, "Not possible for these users and roles",
        "Users, roles or the switch of authentication cannot be changed so.",
    )  # fmt: skip


def auth_error(reason: Reason) -> AuthError:
    """The error that a reason stands for."""
    if reason is Reason.DENIED:
        return PermissionDenied(reason)
    if reason in _UNPROVED:
        return Unauthenticated(reason)
    return AuthChangeRefused(reason)
