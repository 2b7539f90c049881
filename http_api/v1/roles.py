"""`/v1/roles`: what who has them may do, to keys and besides keys."""

from typing import Any, Literal

from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, json_answer
from http_api.v1.accounts import (
    BODY_BYTES_MAX,
    CHANGE_PROBLEMS,
    CHANGED,
    READ_PROBLEMS,
    change,
    named,
)
from http_api.v1.documents import BASE64, LOWEST_KEY, TEXT, KeyRange, text_or_base64
from kvstore.commands.accounts import (
    AddRole,
    DeleteRole,
    GrantPermission,
    GrantScope,
    Permission,
    RevokePermission,
    RevokeScope,
    Right,
    Scope,
)
from kvstore.commands.operations import only, prefix_end
from kvstore.errors import Contradiction, InvalidArgument, Reason, auth_error

RIGHTS = {"read": Right.READ, "write": Right.WRITE, "readwrite": Right.READ_WRITE}
_NAMES = {right: name for name, right in RIGHTS.items()}


class RoleGrant(KeyRange, kw_only=True, forbid_unknown_fields=True):
    """A right on keys, or a scope."""

    right: Literal["read", "write", "readwrite"] | None = None
    scope: Literal["cluster", "backup", "users", "watch", "metrics"] | None = None


class RoleWithdrawal(KeyRange, kw_only=True, forbid_unknown_fields=True):
    """What was granted on the same keys, or a scope."""

    scope: Literal["cluster", "backup", "users", "watch", "metrics"] | None = None


def permission_document(permission: Permission) -> dict[str, Any]:
    """A permission as the API shows it: key, prefix, or start and end."""
    key, end = permission.key, permission.range_end
    shown = {"right": _NAMES[permission.right]}
    if not end or end == only(key):
        return shown | dict((text_or_base64("key", key),))
    if end == b"\0":
        if key == LOWEST_KEY:
            return shown | {"prefix": ""}
        return shown | dict((text_or_base64("start", key),))
    if prefix_end(key) == end:
        return shown | dict((text_or_base64("prefix", key),))
    return shown | dict((text_or_base64("start", key), text_or_base64("end", end)))


def place(wanted: KeyRange) -> tuple[bytes, bytes]:
    """Key and range end, as a permission has them. Raises InvalidArgument."""
    start, end = wanted.bounds()
    if end is None:
        return start, b"\0"
    return start, b"" if end == only(start) else end


def _names_keys(wanted: KeyRange) -> bool:
    return any(getattr(wanted, name) is not None for name in KeyRange.__struct_fields__)


async def page(ask: Ask[None]) -> Answer:
    """The names of all roles."""
    ask.options()
    await ask.session.read_barrier(ask.config.request_timeout_s)
    return json_answer({"roles": ask.session.roles()})


async def get(ask: Ask[None]) -> Answer:
    """What a role permits: one's own, or as an administrator any."""
    ask.options()
    name = named(ask)
    await ask.session.read_barrier(ask.config.request_timeout_s)
    permissions = ask.session.role(name)
    if permissions is None:
        raise auth_error(Reason.ROLE_UNKNOWN)
    return json_answer(
        {
            "name": name,
            "permissions": [permission_document(each) for each in permissions],
            "scopes": list(ask.session.scopes(name)),
        }
    )


async def add(ask: Ask[None]) -> Answer:
    """A role that permits nothing yet."""
    ask.options()
    return await change(ask, AddRole(named(ask)))


async def delete(ask: Ask[None]) -> Answer:
    """The role, which its users lose."""
    ask.options()
    return await change(ask, DeleteRole(named(ask)))


async def grant(ask: Ask[RoleGrant]) -> Answer:
    """Let the role do more."""
    ask.options()
    role, wanted = named(ask), await ask.read()
    if (wanted.scope is not None) == (wanted.right is not None):
        raise Contradiction("name either a right and its keys, or a scope")
    if wanted.scope is not None:
        _no_keys(wanted)
        return await change(ask, GrantScope(role, Scope(wanted.scope)))
    assert wanted.right is not None
    permission = Permission(RIGHTS[wanted.right], *place(wanted))
    return await change(ask, GrantPermission(role, permission))


async def revoke(ask: Ask[RoleWithdrawal]) -> Answer:
    """Let the role do less."""
    ask.options()
    role, wanted = named(ask), await ask.read()
    if wanted.scope is not None:
        _no_keys(wanted)
        return await change(ask, RevokeScope(role, Scope(wanted.scope)))
    return await change(ask, RevokePermission(role, *place(wanted)))


def _no_keys(wanted: KeyRange) -> None:
    if _names_keys(wanted):
        raise InvalidArgument("scope", "scope: has nothing to do with keys")


_PERMISSION = {
    "right": {"type": "string", "enum": list(RIGHTS)},
    **dict.fromkeys(("key", "prefix", "start", "end"), TEXT),
    **{f"{name}_base64": BASE64 for name in ("key", "prefix", "start", "end")},
}
_LIST = Doc(
    "The names of all roles",
    answers={
        200: {
            "description": "In order",
            "properties": {"roles": {"type": "array", "items": {"type": "string"}}},
        }
    },
    problems=READ_PROBLEMS,
)
_GET = Doc(
    "What a role permits: one's own, or as an administrator any",
    answers={
        200: {
            "description": "The role",
            "properties": {
                "name": {"type": "string"},
                "permissions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": _PERMISSION,
                        "required": ["right"],
                    },
                },
                "scopes": {"type": "array", "items": {"enum": list(Scope)}},
            },
        }
    },
    problems=READ_PROBLEMS,
)
_PATH = "/v1/roles/{name}"


def _changes(summary: str) -> Doc:
    return Doc(summary, answers=CHANGED, problems=CHANGE_PROBLEMS)


CALLS = (
    Call("GET", "/v1/roles", page, Need.USERS, _LIST),
    Call("GET", _PATH, get, Need.CALLER, _GET),
    Call("PUT", _PATH, add, Need.USERS, _changes("Add a role")),
    Call("DELETE", _PATH, delete, Need.USERS, _changes("Delete a role; its users lose it")),
    Call(
        "POST", f"{_PATH}/grant", grant, Need.USERS,
        _changes("Let a role read or write keys, or give it a scope"), BODY_BYTES_MAX, RoleGrant,
    ),
    Call(
        "POST", f"{_PATH}/revoke", revoke, Need.USERS,
        _changes("Take a right on keys, or a scope, from a role"), BODY_BYTES_MAX, RoleWithdrawal,
    ),
)  # fmt: skip
