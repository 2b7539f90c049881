"""`/v1/users`: who there is, their passwords and their roles."""

from typing import Any

import msgspec

from http_api.callers.passwords import PASSWORD_BYTES_MAX
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, json_answer
from http_api.v1.accounts import (
    BODY_BYTES_MAX,
    CHANGE_PROBLEMS,
    CHANGED,
    READ_PROBLEMS,
    change,
    checked_name,
    named,
)
from kvstore.commands.accounts import (
    AddUser,
    ChangePassword,
    DeleteUser,
    GrantRole,
    LogOut,
    RevokeRole,
    Scope,
)
from kvstore.errors import Contradiction, InvalidArgument, Reason, Unauthenticated, auth_error
from kvstore.state.users import User


class NewUser(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`password`: left out, the user can prove who it is by a certificate only."""

    password: str | None = None


class NewPassword(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`current`: one's own, where one changes it oneself."""

    password: str
    current: str | None = None


class RoleName(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The role that is given or taken."""

    role: str


def user_document(name: str, user: User) -> dict[str, Any]:
    """A user as the API shows it: never the hash of its password."""
    return {"name": name, "roles": sorted(user.roles), "password": user.password is not None}


async def page(ask: Ask[None]) -> Answer:
    """All users, in order."""
    ask.options()
    session = ask.session
    await session.read_barrier(ask.config.request_timeout_s)
    found = ((name, session.user(name)) for name in session.users())
    return json_answer({"users": [user_document(name, user) for name, user in found if user]})


async def get(ask: Ask[None]) -> Answer:
    """One user: oneself, or as an administrator anybody."""
    ask.options()
    name = named(ask)
    await ask.session.read_barrier(ask.config.request_timeout_s)
    user = ask.session.user(name)
    if user is None:
        raise auth_error(Reason.USER_UNKNOWN)
    return json_answer(user_document(name, user))


async def add(ask: Ask[NewUser]) -> Answer:
    """A user that may do nothing yet."""
    ask.options()
    name, wanted = named(ask), await ask.read()
    if ":" in name and wanted.password is not None:
        raise InvalidArgument("name", "name: with a colon it cannot be sent by HTTP Basic")
    password = None
    if wanted.password is not None:
        await ask.session.require_scope(Scope.USERS, ask.config.request_timeout_s)
        password = await _hash(ask, wanted.password)
    return await change(ask, AddUser(name, password))


async def set_password(ask: Ask[NewPassword]) -> Answer:
    """Another password; the user's tokens end. Administrators need not know the old one."""
    ask.options()
    name, wanted = named(ask), await ask.read()
    session, timeout_s = ask.session, ask.config.request_timeout_s
    if wanted.current is None:
        await session.require_scope(Scope.USERS, timeout_s)
        return await change(ask, ChangePassword(name, await _hash(ask, wanted.password)))
    if not session.auth_enabled:
        raise Contradiction("current: authentication is off, so nobody has to prove anything")
    if session.caller is None or session.caller.user != name:
        raise Unauthenticated(Reason.WRONG_PASSWORD)
    await ask.facilities.logins.check(name, wanted.current, ask.address)
    hashed = await _hash(ask, wanted.password)
    await session.change_own_password(hashed, timeout_s)
    return json_answer({"revision": session.auth_revision})


async def _hash(ask: Ask[Any], password: str) -> bytes:
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
        text = f"password: at most {PASSWORD_BYTES_MAX} bytes"
        raise InvalidArgument("password", text)
    return await ask.facilities.logins.hash(password)


async def delete(ask: Ask[None]) -> Answer:
    """The user and its tokens end."""
    ask.options()
    return await change(ask, DeleteUser(named(ask)))


async def log_out(ask: Ask[None]) -> Answer:
    """The user's tokens end."""
    ask.options()
    return await change(ask, LogOut(named(ask)))


async def grant(ask: Ask[RoleName]) -> Answer:
    """Give a role."""
    ask.options()
    name, wanted = named(ask), await ask.read()
    return await change(ask, GrantRole(name, checked_name(wanted.role, "role")))


async def revoke(ask: Ask[RoleName]) -> Answer:
    """Take a role."""
    ask.options()
    name, wanted = named(ask), await ask.read()
    return await change(ask, RevokeRole(name, checked_name(wanted.role, "role")))


_USER = {
    "name": {"type": "string"},
    "roles": {"type": "array", "items": {"type": "string"}},
    "password": {"type": "boolean", "description": "Whether it can log in with one"},
}
_LIST = Doc(
    "All users",
    answers={
        200: {
            "description": "In order of their names",
            "properties": {
                "users": {"type": "array", "items": {"type": "object", "properties": _USER}}
            },
        }
    },
    problems=READ_PROBLEMS,
)
_GET = Doc(
    "A user: oneself, or as an administrator anybody",
    answers={200: {"description": "The user", "properties": _USER}},
    problems=READ_PROBLEMS,
)
_PATH = "/v1/users/{name}"


def _changes(summary: str) -> Doc:
    return Doc(summary, answers=CHANGED, problems=CHANGE_PROBLEMS)


CALLS = (
    Call("GET", "/v1/users", page, Need.USERS, _LIST),
    Call("GET", _PATH, get, Need.CALLER, _GET),
    Call(
        "PUT", _PATH, add, Need.USERS, _changes("Add a user"),
        BODY_BYTES_MAX, NewUser, empty_body=True,
    ),
    Call("DELETE", _PATH, delete, Need.USERS, _changes("Delete a user; its tokens end")),
    Call(
        "PUT", f"{_PATH}/password", set_password, Need.CALLER,
        _changes("Change a password: anybody's, or with `current` one's own. Its tokens end"),
        BODY_BYTES_MAX, NewPassword,
    ),
    Call("POST", f"{_PATH}/logout", log_out, Need.USERS, _changes("End a user's tokens")),
    Call(
        "POST", f"{_PATH}/grant", grant, Need.USERS, _changes("Give a user a role"),
        BODY_BYTES_MAX, RoleName,
    ),
    Call(
        "POST", f"{_PATH}/revoke", revoke, Need.USERS, _changes("Take a role from a user"),
        BODY_BYTES_MAX, RoleName,
    ),
)  # fmt: skip
