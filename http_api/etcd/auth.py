"""`auth/...`: users, roles, tokens. Who may call what stands in the rows, of all calls alike."""

import secrets
from typing import Any

import msgspec

from http_api.callers.authentication import Access
from http_api.callers.passwords import PASSWORD_BYTES_MAX
from http_api.core.calls import Need
from http_api.etcd.calls import EtcdAsk, UnaryCall, unary
from http_api.etcd.encode import document
from http_api.etcd.errors import INVALID_ARGUMENT, EtcdError
from http_api.etcd.messages import (
    ChangePasswordRequest,
    CredentialsRequest,
    Empty,
    NamedRequest,
    PermissionType,
    RoleGrantRequest,
    RoleRequest,
    RoleRevokeRequest,
    UserAddRequest,
    UserGrantRequest,
    UserRevokeRequest,
)
from kvstore.commands import accounts
from kvstore.commands.accounts import NAME_BYTES_MAX, AuthChange, Permission, Right, Scope
from kvstore.commands.commands import KEY_BYTES_MAX, Administer
from kvstore.commands.results import Administered
from kvstore.errors import Reason, auth_error

SECRET_BYTES = 32


# -- users and roles ------------------------------------------------------------------------


async def _change(ask: EtcdAsk[Any], change: AuthChange) -> dict[str, Any]:
    await ask.execute(Administer(change), Administered)
    return document(header=ask.header())


_BOUNDS = {
    "name": ("a name", NAME_BYTES_MAX),
    "user": ("a name", NAME_BYTES_MAX),
    "role": ("a name", NAME_BYTES_MAX),
    "password": ("a password", PASSWORD_BYTES_MAX),
    "key": ("a key", KEY_BYTES_MAX),
    "range_end": ("the end of a range", KEY_BYTES_MAX + 1),
}
"""Of the fields in all messages here: what is in them goes into the log, or costs time."""


def _check_bounds(message: msgspec.Struct) -> None:
    """Raise EtcdError for a name, a password or a key that is longer than any can be."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, msgspec.Struct):
            _check_bounds(value)
        elif name in _BOUNDS and len(_octets(value)) > _BOUNDS[name][1]:
            what, bytes_max = _BOUNDS[name]
            raise EtcdError(INVALID_ARGUMENT, f"etcdserver: {what} has at most {bytes_max} bytes")


def _octets(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


async def enable(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """auth/enable."""
    return await _change(ask, accounts.Enable(secrets.token_bytes(SECRET_BYTES)))


async def disable(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """auth/disable."""
    return await _change(ask, accounts.Disable())


async def status(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """auth/status."""
    await ask.barrier()
    enabled, revision = ask.session.auth_enabled, ask.session.auth_revision
    return document(header=ask.header(), enabled=enabled, authRevision=revision)


async def user_get(ask: EtcdAsk[NamedRequest]) -> dict[str, Any]:
    """auth/user/get; users may ask for themselves."""
    await ask.barrier()
    user = ask.session.user(ask.message.name)
    if user is None:
        raise auth_error(Reason.USER_UNKNOWN)
    return document(header=ask.header(), roles=sorted(user.roles))


async def user_list(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """auth/user/list."""
    await ask.barrier()
    return document(header=ask.header(), users=ask.session.users())


async def user_delete(ask: EtcdAsk[NamedRequest]) -> dict[str, Any]:
    """auth/user/delete."""
    return await _change(ask, accounts.DeleteUser(ask.message.name))


async def user_grant(ask: EtcdAsk[UserGrantRequest]) -> dict[str, Any]:
    """auth/user/grant."""
    return await _change(ask, accounts.GrantRole(ask.message.user, ask.message.role))


async def user_revoke(ask: EtcdAsk[UserRevokeRequest]) -> dict[str, Any]:
    """auth/user/revoke."""
    return await _change(ask, accounts.RevokeRole(ask.message.name, ask.message.role))


async def role_add(ask: EtcdAsk[NamedRequest]) -> dict[str, Any]:
    """auth/role/add."""
    return await _change(ask, accounts.AddRole(ask.message.name))


async def role_get(ask: EtcdAsk[RoleRequest]) -> dict[str, Any]:
    """auth/role/get; users may ask for their own."""
    await ask.barrier()
    permissions = ask.session.role(ask.message.role)
    if permissions is None:
        raise auth_error(Reason.ROLE_UNKNOWN)
    found = [_permission(permission) for permission in permissions]
    return document(header=ask.header(), perm=found)


def _permission(permission: Permission) -> dict[str, Any]:
    kind = PermissionType(permission.right)
    return document(
        permType=kind.name if kind else "",
        key=permission.key,
        range_end=permission.range_end,
    )


async def role_list(ask: EtcdAsk[Empty]) -> dict[str, Any]:
    """auth/role/list."""
    await ask.barrier()
    return document(header=ask.header(), roles=ask.session.roles())


async def role_delete(ask: EtcdAsk[RoleRequest]) -> dict[str, Any]:
    """auth/role/delete."""
    return await _change(ask, accounts.DeleteRole(ask.message.role))


async def role_grant(ask: EtcdAsk[RoleGrantRequest]) -> dict[str, Any]:
    """auth/role/grant."""
    perm = ask.message.perm
    if perm is None:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: permission not given")
    permission = Permission(Right(perm.perm_type), perm.key, perm.range_end)
    return await _change(ask, accounts.GrantPermission(ask.message.name, permission))


async def role_revoke(ask: EtcdAsk[RoleRevokeRequest]) -> dict[str, Any]:
    """auth/role/revoke."""
    message = ask.message
    change = accounts.RevokePermission(message.role, message.key, message.range_end)
    return await _change(ask, change)


# -- passwords and tokens -------------------------------------------------------------------


class Passwords:
    """The calls that hash or check a password."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def calls(self) -> tuple[UnaryCall[Any], ...]:
        """The rows."""
        return (
            unary(
                "auth/authenticate", CredentialsRequest, self.authenticate, Need.OPEN,
                "A token, for a name and its password.",
                check=_check_bounds,
            ),
            unary(
                "auth/user/add", UserAddRequest, self.user_add, Need.USERS,
                "Add a user, with a password or without.",
                at_apply=True, check=_check_bounds,
            ),
            unary(
                "auth/user/changepw", ChangePasswordRequest, self.change_password, Need.USERS,
                "Give a user another password; its tokens end.",
                at_apply=True, check=_check_bounds,
            ),
        )  # fmt: skip

    async def authenticate(self, ask: EtcdAsk[CredentialsRequest]) -> dict[str, Any]:
        """auth/authenticate."""
        message = ask.message
        ask.session.logs_in(message.name)
        token = await self._access.log_in(message.name, message.password, ask.address)
        return document(header=ask.header(), token=token)

    async def user_add(self, ask: EtcdAsk[UserAddRequest]) -> dict[str, Any]:
        """auth/user/add."""
        message = ask.message
        without = message.options is not None and message.options.no_password
        if not message.name:
            await ask.session.require_scope(Scope.USERS, ask.gateway.config.request_timeout_s)
            raise auth_error(Reason.EMPTY_USER)
        password = None if without else await self._hash(ask)
        return await _change(ask, accounts.AddUser(message.name, password))

    async def change_password(self, ask: EtcdAsk[ChangePasswordRequest]) -> dict[str, Any]:
        """auth/user/changepw."""
        password = await self._hash(ask)
        return await _change(ask, accounts.ChangePassword(ask.message.name, password))

    async def _hash(self, ask: EtcdAsk[UserAddRequest] | EtcdAsk[ChangePasswordRequest]) -> bytes:
        """Hash the password; only for who may use the result, as a hash costs much time."""
        if ask.message.hashed_password and not ask.message.password:
            text = "etcdserver: hashedPassword is not supported, send password"
            raise EtcdError(INVALID_ARGUMENT, text)
        await ask.session.require_scope(Scope.USERS, ask.gateway.config.request_timeout_s)
        return await self._access.hash(ask.message.password)


CALLS = (
    unary("auth/enable", Empty, enable, Need.ROOT, "Switch authentication on."),
    unary("auth/disable", Empty, disable, Need.ROOT, "Switch authentication off."),
    unary(
        "auth/status", Empty, status, Need.USERS,
        "Whether authentication is on, and at which revision of users and roles.",
    ),
    unary(
        "auth/user/get", NamedRequest, user_get, Need.CALLER,
        "The roles of a user: one's own, or as an administrator anybody's.",
        check=_check_bounds,
    ),
    unary("auth/user/list", Empty, user_list, Need.USERS, "The names of all users."),
    unary(
        "auth/user/delete", NamedRequest, user_delete, Need.USERS,
        "Delete a user; its tokens end.",
        at_apply=True, check=_check_bounds,
    ),
    unary(
        "auth/user/grant", UserGrantRequest, user_grant, Need.USERS,
        "Give a user a role.",
        at_apply=True, check=_check_bounds,
    ),
    unary(
        "auth/user/revoke", UserRevokeRequest, user_revoke, Need.USERS,
        "Take a role from a user.",
        at_apply=True, check=_check_bounds,
    ),
    unary(
        "auth/role/add", NamedRequest, role_add, Need.USERS,
        "Add a role that permits nothing yet.",
        at_apply=True, check=_check_bounds,
    ),
    unary(
        "auth/role/get", RoleRequest, role_get, Need.CALLER,
        "What a role permits: one's own, or as an administrator any.",
        check=_check_bounds,
    ),
    unary("auth/role/list", Empty, role_list, Need.USERS, "The names of all roles."),
    unary(
        "auth/role/delete", RoleRequest, role_delete, Need.USERS,
        "Delete a role, and take it from all users.",
        at_apply=True, check=_check_bounds,
    ),
    unary(
        "auth/role/grant", RoleGrantRequest, role_grant, Need.USERS,
        "Let a role read or write a key or a range.",
        at_apply=True, check=_check_bounds,
    ),
    unary(
        "auth/role/revoke", RoleRevokeRequest, role_revoke, Need.USERS,
        "Take a key or a range from a role.",
        at_apply=True, check=_check_bounds,
    ),
)  # fmt: skip
"""The calls of users and roles that need no password."""
