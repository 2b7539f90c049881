"""Users and roles as replicated state: the table `auth`, also kept whole in memory.

What is refused, and what counts as a change, follows etcd.
"""

from collections.abc import Callable

import msgspec

from kvstore.commands.accounts import (
    ROOT,
    AddRole,
    AddUser,
    AuthChange,
    ChangePassword,
    DeleteRole,
    DeleteUser,
    Disable,
    Enable,
    GrantPermission,
    GrantRole,
    GrantScope,
    LogOut,
    Permission,
    RevokePermission,
    RevokeRole,
    RevokeScope,
    RotateSecret,
    Scope,
)
from kvstore.commands.results import Administered, AuthRefused
from kvstore.errors import Reason
from kvstore.state.changes import Changes
from kvstore.state.tables import Table


class User(msgspec.Struct, frozen=True, array_like=True):
    """`password` is a hash, or None for a user that cannot log in with one.

    What was issued to the user at an auth revision before `valid_from` is void.
    """

    password: bytes | None
    roles: tuple[str, ...]
    valid_from: int


class AuthMeta(msgspec.Struct, frozen=True, array_like=True):
    """`revision` counts the changes from 1; `secret` is b"" while authentication is off."""

    enabled: bool = False
    revision: int = 1
    secret: bytes = b""


_META, _USER, _ROLE, _SCOPES = b"m", b"u", b"r", b"s"
"""First byte of the table's keys: of the one AuthMeta, of users, of roles, of the scopes of a role
that has any. Their name follows."""

TABLE, META_KEY = "auth", _META
"""Where the secret is, for who takes it out of a copy."""

_encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_decode_meta = msgspec.msgpack.Decoder(AuthMeta).decode
_decode_user = msgspec.msgpack.Decoder(User).decode
_decode_role = msgspec.msgpack.Decoder(tuple[Permission, ...]).decode
_decode_scopes = msgspec.msgpack.Decoder(tuple[Scope, ...]).decode

_UserChange = AddUser | DeleteUser | ChangePassword | LogOut | RevokeRole
_RoleChange = AddRole | DeleteRole | GrantPermission | RevokePermission | GrantScope | RevokeScope


def secret_of(meta: bytes) -> bytes:
    """The secret in the record at META_KEY; b"" if there is none."""
    return _decode_meta(meta).secret


def without_secret(meta: bytes) -> bytes:
    """The same record without it."""
    found = _decode_meta(meta)
    return _encode(AuthMeta(found.enabled, found.revision))


def with_secret(key: bytes, data: bytes, secret: bytes) -> bytes:
    """A row of the table as another cluster may have it: what was signed with the secret before is
    void there."""
    if key != _META:
        return data
    meta = _decode_meta(data)
    return _encode(msgspec.structs.replace(meta, secret=secret if meta.enabled else b""))


class ChangeRefused(Exception):
    """Inside this module: why a change is not made."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Accounts:
    """Users and roles by name, and whether authentication is on (`enabled`)."""

    def __init__(self, table: Table, changes: Changes) -> None:
        self._table = table
        self._changes = changes
        self.load()

    def load(self) -> None:
        """Read the table: at start, or after a snapshot was installed."""
        self.users: dict[str, User] = {}
        self.roles: dict[str, tuple[Permission, ...]] = {}
        self.scopes: dict[str, tuple[Scope, ...]] = {}
        """Of the roles that have any, in order."""
        meta = AuthMeta()
        for key, data in self._table.scan(b"", None):
            kind, name = key[:1], key[1:].decode()
            if kind == _META:
                meta = _decode_meta(data)
            elif kind == _USER:
                self.users[name] = _decode_user(data)
            elif kind == _ROLE:
                self.roles[name] = _decode_role(data)
            elif kind == _SCOPES:
                self.scopes[name] = _decode_scopes(data)
        self.enabled, self.revision, self.secret = meta.enabled, meta.revision, meta.secret

    def apply(self, change: AuthChange) -> Administered | AuthRefused:
        """Make a change; deterministic. One that changes nothing takes no revision."""
        try:
            changed = self._change(change)
        except ChangeRefused as refused:
            return AuthRefused(refused.reason)
        if changed:
            self._changes.auth_changed(change)
            meta = AuthMeta(self.enabled, self.revision, self.secret)
            self._table.put(_META, _encode(meta))
        return Administered(self.revision)

    def _change(self, change: AuthChange) -> bool:
        """Whether anything changed. Raises ChangeRefused, and then nothing did."""
        match change:
            case Enable(secret):
                return self._enable(secret)
            case Disable():
                if not self.enabled:
                    return False
                self.enabled, self.secret = False, b""
                self.revision += 1
                return True
            case RotateSecret(secret):
                if not self.enabled:
                    raise ChangeRefused(Reason.OFF)
                self.secret = secret
            case GrantRole(name, role):
                return self._grant_role(name, role)
            case AddUser() | DeleteUser() | ChangePassword() | LogOut() | RevokeRole():
                self._change_user(change)
            case _:
                self._change_role(change)
        self.revision += 1
        return True

    def _enable(self, secret: bytes) -> bool:
        if self.enabled:
            return False
        root = self.users.get(ROOT)
        if root is None:
            raise ChangeRefused(Reason.NO_ROOT_USER)
        if ROOT not in root.roles:
            raise ChangeRefused(Reason.NO_ROOT_ROLE)
        self.enabled, self.secret = True, secret
        return True

    def _grant_role(self, name: str, role: str) -> bool:
        user = self._known_user(name)
        if role != ROOT:
            self._known_role(role)
        if role in user.roles:
            return False
        self._set_user(name, User(user.password, (*user.roles, role), user.valid_from))
        self.revision += 1
        return True

    def _change_user(self, change: _UserChange) -> None:
        match change:
            case AddUser(name, password):
                if not name:
                    raise ChangeRefused(Reason.EMPTY_USER)
                if name in self.users:
                    raise ChangeRefused(Reason.USER_EXISTS)
                self._set_user(name, User(password, (), self.revision + 1))
            case DeleteUser(name):
                if self.enabled and name == ROOT:
                    raise ChangeRefused(Reason.BAD_MANAGEMENT)
                self._known_user(name)
                del self.users[name]
                self._table.delete(_USER + name.encode())
            case ChangePassword(name, password):
                user = self._known_user(name)
                # A user without a password stays one.
                kept = None if user.password is None else password
                self._set_user(name, User(kept, user.roles, self.revision + 1))
            case LogOut(name):
                user = self._known_user(name)
                self._set_user(name, User(user.password, user.roles, self.revision + 1))
            case RevokeRole(name, role):
                if self.enabled and name == ROOT and role == ROOT:
                    raise ChangeRefused(Reason.BAD_MANAGEMENT)
                user = self._known_user(name)
                if role not in user.roles:
                    raise ChangeRefused(Reason.ROLE_NOT_GRANTED)
                self._lose_role(name, user, role)

    def _change_role(self, change: _RoleChange) -> None:
        match change:
            case AddRole(name):
                if not name:
                    raise ChangeRefused(Reason.EMPTY_ROLE)
                if name in self.roles:
                    raise ChangeRefused(Reason.ROLE_EXISTS)
                self._set_role(name, ())
            case DeleteRole(name):
                if self.enabled and name == ROOT:
                    raise ChangeRefused(Reason.BAD_MANAGEMENT)
                self._known_role(name)
                del self.roles[name]
                self._table.delete(_ROLE + name.encode())
                self._set_scopes(name, ())
                for owner, user in sorted(self.users.items()):
                    if name in user.roles:
                        self._lose_role(owner, user, name)
            case GrantPermission(name, permission):
                held = self._known_role(name)
                others = [each for each in held if each.place != permission.place]
                self._set_role(name, tuple(sorted([*others, permission], key=_place)))
            case RevokePermission(name, key, range_end):
                held = self._known_role(name)
                rest = tuple(each for each in held if each.place != (key, range_end))
                if len(rest) == len(held):
                    raise ChangeRefused(Reason.PERMISSION_NOT_GRANTED)
                self._set_role(name, rest)
            case GrantScope(name, scope):
                self._known_role(name)
                self._set_scopes(name, tuple(sorted({*self.scopes.get(name, ()), scope})))
            case RevokeScope(name, scope):
                self._known_role(name)
                held_scopes = self.scopes.get(name, ())
                if scope not in held_scopes:
                    raise ChangeRefused(Reason.PERMISSION_NOT_GRANTED)
                self._set_scopes(name, tuple(each for each in held_scopes if each != scope))

    def _known_user(self, name: str) -> User:
        user = self.users.get(name)
        if user is None:
            raise ChangeRefused(Reason.USER_UNKNOWN)
        return user

    def _known_role(self, name: str) -> tuple[Permission, ...]:
        role = self.roles.get(name)
        if role is None:
            raise ChangeRefused(Reason.ROLE_UNKNOWN)
        return role

    def _lose_role(self, name: str, user: User, role: str) -> None:
        rest = tuple(each for each in user.roles if each != role)
        self._set_user(name, User(user.password, rest, user.valid_from))

    def _set_user(self, name: str, user: User) -> None:
        self.users[name] = user
        self._table.put(_USER + name.encode(), _encode(user))

    def _set_role(self, name: str, permissions: tuple[Permission, ...]) -> None:
        self.roles[name] = permissions
        self._table.put(_ROLE + name.encode(), _encode(permissions))

    def _set_scopes(self, name: str, scopes: tuple[Scope, ...]) -> None:
        if scopes:
            self.scopes[name] = scopes
            self._table.put(_SCOPES + name.encode(), _encode(scopes))
        elif self.scopes.pop(name, None) is not None:
            self._table.delete(_SCOPES + name.encode())


def _place(permission: Permission) -> tuple[bytes, bytes]:
    return permission.place
