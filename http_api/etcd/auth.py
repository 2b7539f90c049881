"""`auth/...`: users, roles, tokens; and what every other call needs of its caller.

Writes are judged where they are applied (`kvstore.state.rights`), reads where they happen;
`authorize` says on whose behalf, and refuses what needs no state to be refused. The differences to
etcd 3.5: what an inner transaction does is checked too, the keys of a lease are shown only to who
may read them (as since 3.5.8), compaction takes a user, and moving the leader takes root.
"""

import secrets
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import msgspec
from aiohttp import web

from http_api.etcd.encode import document
from http_api.etcd.errors import INVALID_ARGUMENT, UNKNOWN, EtcdError, status_of
from http_api.etcd.gateway import Gateway, Unary
from http_api.etcd.kv import bounds
from kvstore.commands import accounts
from kvstore.commands.accounts import NAME_BYTES_MAX, AuthChange, Permission, Right
from kvstore.commands.commands import Administer
from kvstore.commands.operations import prefix_end
from kvstore.commands.results import Administered
from kvstore.errors import AuthError, Reason, Unauthenticated, auth_error
from kvstore.replica.ambient import caller, check_read

SECRET_BYTES = 32

TOKEN_HEADERS = ("Grpc-Metadata-Token", "Grpc-Metadata-Authorization", "Authorization")
"""In the order in which etcd's gateway looks for a token."""

_OPEN = frozenset(
    (
        "auth/authenticate",
        "cluster/member/list",
        "lease/keepalive",
        "lease/timetolive",
        "lease/leases",
        "kv/lease/timetolive",
        "kv/lease/leases",
        "maintenance/status",
    )
)
"""Calls that look at no token, not even at a bad one."""
_ROOT = frozenset(
    (
        "cluster/member/add",
        "cluster/member/remove",
        "cluster/member/update",
        "cluster/member/promote",
        "maintenance/transfer-leadership",
        "auth/status",
        "auth/enable",
        "auth/disable",
        "auth/user/list",
        "auth/role/list",
    )
)
_ROOT_UNKNOWN = frozenset(
    (
        "maintenance/defragment",
        "maintenance/hash",
        "maintenance/snapshot",
    )
)
"""Refused by etcd without a proper code, and with another text."""
_KEYED = frozenset(("kv/range", "kv/put", "kv/deleterange"))


# -- what a caller may do -------------------------------------------------------------------


async def authorize(
    gateway: Gateway, request: web.BaseRequest, message: msgspec.Struct, path: str
) -> None:
    """From here on this task serves `request` on behalf of its sender.

    Raises AuthError, EtcdError, Unavailable. Costs nothing while authentication is off and the
    request has no token.
    """
    caller.set(None)
    token = _token(request.headers)
    if not token and not gateway.access.enabled:
        return
    if path in _KEYED and not getattr(message, "key", b""):
        return  # it will be told that the key is missing
    try:
        await _authorize(gateway, token, message, path)
    except AuthError as error:
        if path in _ROOT_UNKNOWN:
            text = status_of(error).text.replace("etcdserver:", "auth:")
            raise EtcdError(UNKNOWN, text) from None
        if path.startswith(("lock/", "election/")):
            raise EtcdError(UNKNOWN, status_of(error).text) from None
        raise


async def _authorize(gateway: Gateway, token: str, message: Any, path: str) -> None:
    if path in _OPEN:
        # Who asks decides what is shown of a lease; a token that proves nobody shows nothing.
        if token and path.endswith("timetolive") and gateway.access.enabled:
            try:
                caller.set(await gateway.access.of_token(token))
            except Unauthenticated:
                return
        return
    by = await gateway.access.of_token(token) if token else None
    if path in _ROOT or path in _ROOT_UNKNOWN:
        await gateway.access.administer(by)
    caller.set(by)
    auth = gateway.state.auth
    if path == "watch":
        check_read(auth, *bounds(message.key or b"\0", message.range_end))
    elif path in ("election/leader", "election/observe"):
        prefix = message.name + b"/"
        check_read(auth, prefix, prefix_end(prefix))
    elif (path == "auth/user/get" and message.name != (by.user if by else "")) or (
        path == "auth/role/get" and not _has_role(gateway, message.role)
    ):
        await gateway.access.administer(by)


def _token(headers: Mapping[str, str]) -> str:
    return next((found for name in TOKEN_HEADERS if (found := headers.get(name))), "")


def _has_role(gateway: Gateway, role: str) -> bool:
    """Whether it is one of the caller's."""
    by = caller.get()
    user = None if by is None else gateway.state.auth.user(by)
    return user is not None and role in user.roles


# -- requests -------------------------------------------------------------------------------


class PermissionType(IntEnum):
    READ = 0
    WRITE = 1
    READWRITE = 2

    @staticmethod
    def proto_name() -> str:
        """As in the texts of errors."""
        return "authpb.Permission.Type"


class PermissionMessage(msgspec.Struct, rename={"perm_type": "permType"}):
    perm_type: PermissionType = PermissionType.READ
    key: bytes = b""
    range_end: bytes = b""


class UserAddOptions(msgspec.Struct):
    no_password: bool = False


class UserAddRequest(msgspec.Struct, rename={"hashed_password": "hashedPassword"}):
    name: str = ""
    password: str = ""
    options: UserAddOptions | None = None
    hashed_password: str = ""


class ChangePasswordRequest(msgspec.Struct, rename={"hashed_password": "hashedPassword"}):
    name: str = ""
    password: str = ""
    hashed_password: str = ""


class NamedRequest(msgspec.Struct):
    """user/get, user/delete, role/add."""

    name: str = ""


class CredentialsRequest(msgspec.Struct):
    name: str = ""
    password: str = ""


class UserGrantRequest(msgspec.Struct):
    user: str = ""
    role: str = ""


class UserRevokeRequest(msgspec.Struct):
    name: str = ""
    role: str = ""


class RoleRequest(msgspec.Struct):
    """role/get, role/delete."""

    role: str = ""


class RoleGrantRequest(msgspec.Struct):
    name: str = ""
    perm: PermissionMessage | None = None


class RoleRevokeRequest(msgspec.Struct):
    role: str = ""
    key: bytes = b""
    range_end: bytes = b""


class EmptyRequest(msgspec.Struct):
    """enable, disable, status and the lists take nothing."""


# -- handlers -------------------------------------------------------------------------------


async def _change(gateway: Gateway, change: AuthChange) -> dict[str, Any]:
    await gateway.execute(Administer(change), Administered)
    return document(header=gateway.header())


def _check_name(name: str) -> None:
    if len(name.encode()) > NAME_BYTES_MAX:
        text = f"etcdserver: a name has at most {NAME_BYTES_MAX} bytes"
        raise EtcdError(INVALID_ARGUMENT, text)


async def _hash(gateway: Gateway, message: UserAddRequest | ChangePasswordRequest) -> bytes:
    """Hash the password; only for who may use the result."""
    if message.hashed_password and not message.password:
        text = "etcdserver: hashedPassword is not supported, send password"
        raise EtcdError(INVALID_ARGUMENT, text)
    await gateway.access.administer(caller.get())
    return await gateway.access.hash(message.password)


async def enable(gateway: Gateway, _: EmptyRequest) -> dict[str, Any]:
    """auth/enable."""
    return await _change(gateway, accounts.Enable(secrets.token_bytes(SECRET_BYTES)))


async def disable(gateway: Gateway, _: EmptyRequest) -> dict[str, Any]:
    """auth/disable."""
    return await _change(gateway, accounts.Disable())


async def status(gateway: Gateway, _: EmptyRequest) -> dict[str, Any]:
    """auth/status."""
    await gateway.barrier()
    auth = gateway.state.auth
    return document(header=gateway.header(), enabled=auth.enabled, authRevision=auth.revision)


async def authenticate(gateway: Gateway, message: CredentialsRequest) -> dict[str, Any]:
    """auth/authenticate."""
    token = await gateway.access.log_in(message.name, message.password)
    return document(header=gateway.header(), token=token)


async def user_add(gateway: Gateway, message: UserAddRequest) -> dict[str, Any]:
    """auth/user/add."""
    _check_name(message.name)
    without = message.options is not None and message.options.no_password
    password = None if without else await _hash(gateway, message)
    return await _change(gateway, accounts.AddUser(message.name, password))


async def user_get(gateway: Gateway, message: NamedRequest) -> dict[str, Any]:
    """auth/user/get."""
    await gateway.barrier()
    user = gateway.state.auth.users.get(message.name)
    if user is None:
        raise auth_error(Reason.USER_UNKNOWN)
    return document(header=gateway.header(), roles=sorted(user.roles))


async def user_list(gateway: Gateway, _: EmptyRequest) -> dict[str, Any]:
    """auth/user/list."""
    await gateway.barrier()
    return document(header=gateway.header(), users=sorted(gateway.state.auth.users))


async def user_delete(gateway: Gateway, message: NamedRequest) -> dict[str, Any]:
    """auth/user/delete."""
    return await _change(gateway, accounts.DeleteUser(message.name))


async def change_password(gateway: Gateway, message: ChangePasswordRequest) -> dict[str, Any]:
    """auth/user/changepw."""
    password = await _hash(gateway, message)
    return await _change(gateway, accounts.ChangePassword(message.name, password))


async def user_grant(gateway: Gateway, message: UserGrantRequest) -> dict[str, Any]:
    """auth/user/grant."""
    return await _change(gateway, accounts.GrantRole(message.user, message.role))


async def user_revoke(gateway: Gateway, message: UserRevokeRequest) -> dict[str, Any]:
    """auth/user/revoke."""
    return await _change(gateway, accounts.RevokeRole(message.name, message.role))


async def role_add(gateway: Gateway, message: NamedRequest) -> dict[str, Any]:
    """auth/role/add."""
    _check_name(message.name)
    return await _change(gateway, accounts.AddRole(message.name))


async def role_get(gateway: Gateway, message: RoleRequest) -> dict[str, Any]:
    """auth/role/get."""
    await gateway.barrier()
    permissions = gateway.state.auth.roles.get(message.role)
    if permissions is None:
        raise auth_error(Reason.ROLE_UNKNOWN)
    found = [_permission(permission) for permission in permissions]
    return document(header=gateway.header(), perm=found)


def _permission(permission: Permission) -> dict[str, Any]:
    kind = PermissionType(permission.right)
    return document(
        permType=kind.name if kind else "",
        key=permission.key,
        range_end=permission.range_end,
    )


async def role_list(gateway: Gateway, _: EmptyRequest) -> dict[str, Any]:
    """auth/role/list."""
    await gateway.barrier()
    return document(header=gateway.header(), roles=sorted(gateway.state.auth.roles))


async def role_delete(gateway: Gateway, message: RoleRequest) -> dict[str, Any]:
    """auth/role/delete."""
    return await _change(gateway, accounts.DeleteRole(message.role))


async def role_grant(gateway: Gateway, message: RoleGrantRequest) -> dict[str, Any]:
    """auth/role/grant."""
    if message.perm is None:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: permission not given")
    perm = message.perm
    permission = Permission(Right(perm.perm_type), perm.key, perm.range_end)
    return await _change(gateway, accounts.GrantPermission(message.name, permission))


async def role_revoke(gateway: Gateway, message: RoleRevokeRequest) -> dict[str, Any]:
    """auth/role/revoke."""
    change = accounts.RevokePermission(message.role, message.key, message.range_end)
    return await _change(gateway, change)


HANDLERS: dict[str, tuple[type[Any], Unary]] = {
    "auth/enable": (EmptyRequest, enable),
    "auth/disable": (EmptyRequest, disable),
    "auth/status": (EmptyRequest, status),
    "auth/authenticate": (CredentialsRequest, authenticate),
    "auth/user/add": (UserAddRequest, user_add),
    "auth/user/get": (NamedRequest, user_get),
    "auth/user/list": (EmptyRequest, user_list),
    "auth/user/delete": (NamedRequest, user_delete),
    "auth/user/changepw": (ChangePasswordRequest, change_password),
    "auth/user/grant": (UserGrantRequest, user_grant),
    "auth/user/revoke": (UserRevokeRequest, user_revoke),
    "auth/role/add": (NamedRequest, role_add),
    "auth/role/get": (RoleRequest, role_get),
    "auth/role/list": (EmptyRequest, role_list),
    "auth/role/delete": (RoleRequest, role_delete),
    "auth/role/grant": (RoleGrantRequest, role_grant),
    "auth/role/revoke": (RoleRevokeRequest, role_revoke),
}
