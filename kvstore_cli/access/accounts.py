"""`kvstore login`, `logout`, `auth`, `user` and `role`."""

import asyncio
import os
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from kvstore.client import AuthStatus, Client, PermissionStatus, RoleStatus, UserStatus
from kvstore.client.attempts import parse_endpoints
from kvstore.client.credentials import Login
from kvstore.errors import InvalidArgument
from kvstore_cli.client_command import client_command, endpoint_flags
from kvstore_cli.command import Command, positive
from kvstore_cli.credentials import (
    KeptLogin,
    ask,
    forget_login,
    keep_login,
    new_password,
    password_of,
    tls_of,
)
from kvstore_cli.output import OK, print_json, print_table, printable, text_or_base64

ROOT = "root"
LOGIN_TTL_S = 8 * 3600

_AUTH = """\
With authentication on every request needs a user, and a user needs a role that allows it.

examples:
  kvstore auth enable                               asks for root's password if there is no root
  kvstore auth status
  kvstore auth rotate                               all tokens end, also forged and stolen ones
  kvstore auth disable
"""
_USER = """\
Passwords are asked for without echo, or come from --new-password-file.

examples:
  kvstore user add alice
  kvstore user grant alice app
  kvstore user passwd                               one's own
  kvstore user passwd alice                         as an administrator; her tokens end
  kvstore user logout alice
  kvstore user list
"""
_ROLE = """\
A role permits to read or write keys, and, by scopes, what has nothing to do with keys: cluster,
backup, users, watch (all keys), metrics. The role root permits all.

examples:
  kvstore role add app
  kvstore role grant app readwrite --prefix app/
  kvstore role grant app read greeting
  kvstore role grant monitoring --scope metrics
  kvstore role revoke app --prefix app/
  kvstore role list app
"""
_LOGIN = """\
Keeps a token for these endpoints in the user's config directory, in a file that nobody else can
read; it ends when it was not used for --ttl seconds. Other commands use it until logout.

examples:
  kvstore login root
  kvstore login alice --ttl 3600
  kvstore logout
"""


# -- login -----------------------------------------------------------------------------------


def _login_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="who (default: --user, KVSTORE_USER)")
    add("--ttl", metavar="S", type=positive, default=LOGIN_TTL_S,
        help="seconds without use after which it ends (default: %(default)s)")  # fmt: skip


async def _login(client: Client, options: Namespace) -> int:
    name, password = options.name, options.password
    if name is None:
        raise InvalidArgument("name", "who logs in? kvstore login NAME")
    issued = await client.log_in(name, password, ttl_s=options.ttl)
    path = await asyncio.to_thread(keep_login, KeptLogin(client.endpoints, name, issued.token))
    if options.json:
        print_json({"user": name, "ttl_s": issued.ttl_s, "file": str(path)})
    else:
        print(f"logged in as {printable(name.encode())}; the token is in {path}")
    return OK


def _who_logs_in(options: Namespace) -> Login:
    """The client itself sends nothing: the login does."""
    given = options.name or options.user or os.environ.get("KVSTORE_USER") or ""
    name, colon, password = given.partition(":")
    if colon and (options.name or options.user):
        raise InvalidArgument("name", "the password is asked for, or comes from --password-file")
    options.name = name or None
    if name:
        options.password = password if colon else password_of(name, options.password_file)
    return tls_of(options)


def _logout(options: Namespace) -> int:
    secure = parse_endpoints(options.endpoints, secure=True)
    if forget_login((*parse_endpoints(options.endpoints), *secure)):
        print("the login is forgotten")
    else:
        print("there was no login for these endpoints")
    return OK


# -- auth ------------------------------------------------------------------------------------


async def _status(client: Client, options: Namespace) -> int:
    status = await client.auth_status()
    if options.json:
        print_json(msgspec.to_builtins(status))
    else:
        _print_status(status)
    return OK


def _print_status(status: AuthStatus) -> None:
    print(f"authentication is {'on' if status.enabled else 'off'}, revision {status.revision}")
    if status.user is not None:
        print(f"you are {printable(status.user.encode())}")


async def _enable(client: Client, options: Namespace) -> int:
    if (await client.auth_status()).enabled:
        return _said(options, "authentication is on already")
    known = {user.name: user for user in await client.users()}
    if ROOT not in known:
        password = await asyncio.to_thread(new_password, ROOT, options.new_password_file)
        await client.add_user(ROOT, password)
    if ROOT not in known or ROOT not in known[ROOT].roles:
        await client.grant_role(ROOT, ROOT)
    await client.auth_enable()
    return _said(options, "authentication is on; log in with: kvstore login root")


async def _disable(client: Client, options: Namespace) -> int:
    await client.auth_disable()
    return _said(options, "authentication is off: everybody may do everything")


async def _rotate(client: Client, options: Namespace) -> int:
    await client.auth_rotate()
    return _said(options, "tokens are signed with a new secret; all that were issued have ended")


def _said(options: Namespace, text: str) -> int:
    if options.json:
        print_json({"done": text})
    else:
        print(text)
    return OK


# -- users -----------------------------------------------------------------------------------


def _name_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def _maybe_name_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?")


def _role_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("role", metavar="ROLE")


def _new_password_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--new-password-file", metavar="FILE", help="take the new password from FILE, - for stdin"
    )


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--no-password", action="store_true", help="it shows a certificate instead")


async def _user_add(client: Client, options: Namespace) -> int:
    password = None
    if not options.no_password:
        password = await asyncio.to_thread(new_password, options.name, options.new_password_file)
    await client.add_user(options.name, password)
    return _said(options, f"user {options.name} is added; it may do nothing yet")


async def _user_passwd(client: Client, options: Namespace) -> int:
    own = (await client.auth_status()).user
    name = options.name or own
    if name is None:
        raise InvalidArgument("name", "whose password? kvstore user passwd NAME")
    current = None
    if name == own:
        current = options.password
        if current is None:
            current = await asyncio.to_thread(ask, f"current password of {name}: ")
    password = await asyncio.to_thread(new_password, name, options.new_password_file)
    await client.set_password(name, password, current=current)
    return _said(options, f"user {name} has a new password; its tokens have ended")


async def _user_delete(client: Client, options: Namespace) -> int:
    await client.delete_user(options.name)
    return _said(options, f"user {options.name} is deleted")


async def _user_logout(client: Client, options: Namespace) -> int:
    await client.log_out(options.name)
    return _said(options, f"the tokens of user {options.name} have ended")


async def _user_grant(client: Client, options: Namespace) -> int:
    await client.grant_role(options.name, options.role)
    return _said(options, f"user {options.name} has the role {options.role}")


async def _user_revoke(client: Client, options: Namespace) -> int:
    await client.revoke_role(options.name, options.role)
    return _said(options, f"user {options.name} has lost the role {options.role}")


async def _user_list(client: Client, options: Namespace) -> int:
    if options.name is None:
        _print_users(await client.users(), options)
    else:
        _print_users((await client.user(options.name),), options)
    return OK


def _print_users(users: tuple[UserStatus, ...], options: Namespace) -> None:
    if options.json:
        for user in users:
            print_json(msgspec.to_builtins(user))
        return
    rows = [("USER", "ROLES", "PASSWORD")]
    for user in users:
        roles = ",".join(printable(role.encode()) for role in user.roles) or "-"
        rows.append((printable(user.name.encode()), roles, "yes" if user.password else "no"))
    print_table(rows)


# -- roles -----------------------------------------------------------------------------------


def _keys_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("key", metavar="KEY", nargs="?", help="this key")
    add("--prefix", metavar="PREFIX", help="all keys that begin so; '' is every key")
    add("--start", metavar="KEY", help="from this key on, included")
    add("--end", metavar="KEY", help="to this key, excluded")
    add("--scope", metavar="SCOPE", choices=("cluster", "backup", "users", "watch", "metrics"),
        help="cluster, backup, users, watch or metrics, instead of keys")  # fmt: skip


def _grant_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="ROLE")
    parser.add_argument(
        "right", metavar="RIGHT", nargs="?", choices=("read", "write", "readwrite"),
        help="read, write or readwrite",
    )  # fmt: skip
    _keys_flags(parser)


def _revoke_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="ROLE")
    _keys_flags(parser)


def _keys(options: Namespace) -> dict[str, str]:
    """Which keys the options name; none with --scope. Raises InvalidArgument."""
    names = ("key", "prefix", "start", "end")
    named = {name: getattr(options, name) for name in names}
    given = {name: text for name, text in named.items() if text is not None}
    if options.scope is not None and (given or getattr(options, "right", None)):
        raise InvalidArgument("scope", "give --scope, or a right and its keys")
    if options.scope is None and not given:
        raise InvalidArgument("key", "give KEY, --prefix, --start, --end or --scope")
    return given


async def _role_grant(client: Client, options: Namespace) -> int:
    keys = _keys(options)
    if options.scope is not None:
        await client.grant_scope(options.name, options.scope)
    elif options.right is None:
        raise InvalidArgument("right", "give a right: read, write or readwrite")
    else:
        await client.grant_permission(options.name, options.right, **keys)
    return _said(options, f"role {options.name} may do more")


async def _role_revoke(client: Client, options: Namespace) -> int:
    keys = _keys(options)
    if options.scope is not None:
        await client.revoke_scope(options.name, options.scope)
    else:
        await client.revoke_permission(options.name, **keys)
    return _said(options, f"role {options.name} may do less")


async def _role_add(client: Client, options: Namespace) -> int:
    await client.add_role(options.name)
    return _said(options, f"role {options.name} is added; it permits nothing yet")


async def _role_delete(client: Client, options: Namespace) -> int:
    await client.delete_role(options.name)
    return _said(options, f"role {options.name} is deleted")


async def _role_list(client: Client, options: Namespace) -> int:
    names = await client.roles() if options.name is None else (options.name,)
    rows = [("ROLE", "PERMITS", "ON")]
    for name in names:
        role = await client.role(name)
        if options.json:
            print_json(_role_json(role))
        shown = printable(name.encode())
        rows += [(shown, each.right, _where(each)) for each in role.permissions]
        rows += [(shown, scope, "(scope)") for scope in role.scopes]
        if not role.permissions and not role.scopes:
            rows.append((shown, "-", "-"))
    if not options.json:
        print_table(rows)
    return OK


def _where(permission: PermissionStatus) -> str:
    if permission.key is not None:
        return printable(permission.key)
    if permission.prefix is not None:
        return f"{printable(permission.prefix)}*"
    start = "" if permission.start is None else printable(permission.start)
    return f"{start} .. {'' if permission.end is None else printable(permission.end)}"


def _role_json(role: RoleStatus) -> dict[str, Any]:
    found = []
    for each in role.permissions:
        bounds = {name: getattr(each, name) for name in ("key", "prefix", "start", "end")}
        document = {"right": each.right}
        for name, bound in bounds.items():
            document |= {} if bound is None else text_or_base64(name, bound)
        found.append(document)
    return {"name": role.name, "permissions": found, "scopes": list(role.scopes)}


COMMANDS = (
    client_command(
        "login", "get a token and keep it for later commands", _LOGIN, _login, _login_flags,
        who=_who_logs_in,
    ),
    Command("logout", "forget the token", _LOGIN, (endpoint_flags,), _logout),
    Command(
        "auth", "switch authentication on or off", _AUTH,
        actions=(
            client_command("enable", "switch it on", _AUTH, _enable, _new_password_flags),
            client_command("disable", "switch it off", _AUTH, _disable),
            client_command("status", "whether it is on, and who you are", _AUTH, _status),
            client_command("rotate", "end all tokens that were issued", _AUTH, _rotate),
        ),
    ),
    Command(
        "user", "manage users, passwords and their roles", _USER,
        actions=(
            client_command(
                "add", "add a user", _USER, _user_add,
                _name_flags, _new_password_flags, _add_flags,
            ),
            client_command(
                "passwd", "change a password", _USER, _user_passwd,
                _maybe_name_flags, _new_password_flags,
            ),
            client_command("delete", "delete a user", _USER, _user_delete, _name_flags),
            client_command("logout", "end a user's tokens", _USER, _user_logout, _name_flags),
            client_command("grant", "give a user a role", _USER, _user_grant, _role_flags),
            client_command("revoke", "take a role from a user", _USER, _user_revoke, _role_flags),
            client_command("list", "list users, or show one", _USER, _user_list, _maybe_name_flags),
        ),
    ),
    Command(
        "role", "manage what roles permit", _ROLE,
        actions=(
            client_command("add", "add a role", _ROLE, _role_add, _name_flags),
            client_command("delete", "delete a role", _ROLE, _role_delete, _name_flags),
            client_command("grant", "let a role do more", _ROLE, _role_grant, _grant_flags),
            client_command("revoke", "let a role do less", _ROLE, _role_revoke, _revoke_flags),
            client_command("list", "list roles, or show one", _ROLE, _role_list, _maybe_name_flags),
        ),
    ),
)  # fmt: skip
