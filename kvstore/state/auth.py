"""Authentication and authorisation: who there is, what they may do, and the check in apply.

Users, roles and the switch are replicated state, kept in the table `auth` and, whole, in memory.
Rights are checked where a command is applied, so every replica decides alike, and what one node
has acknowledged (a password changed, a role revoked) no lagging node can get around. The rules
are etcd's; a transaction within a transaction is checked as well, and compaction takes a user.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import NamedTuple

from kvstore.commands.accounts import (
    ROOT,
    AddRole,
    AddUser,
    AuthChange,
    AuthMeta,
    ChangePassword,
    DeleteRole,
    DeleteUser,
    Disable,
    Enable,
    GrantPermission,
    GrantRole,
    Permission,
    RevokePermission,
    RevokeRole,
    Right,
    User,
    decode_meta,
    decode_role,
    decode_user,
    encode,
)
from kvstore.commands.commands import (
    Administer,
    Administered,
    AsUser,
    AuthRefused,
    Command,
    Compact,
    Delete,
    Once,
    Put,
    Revoke,
)
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnOperation, TxnPut, only
from kvstore.errors import Reason, auth_error
from kvstore.storage.state import Table

_META, _USER, _ROLE = b"m", b"u", b"r"
ITSELF = ""
"""The user of commands that the cluster gives itself."""


class Caller(NamedTuple):
    """Who sent a request: a user, authenticated at a revision of `Auth`."""

    user: str
    auth_revision: int


caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""On whose behalf the running task works. The HTTP API sets it for each request while
authentication is on; `Replica` sends it along with commands."""


class Demand(NamedTuple):
    """What a request needs: READ or WRITE on every key of a range."""

    right: Right
    start: bytes
    end: bytes | None


class ChangeRefused(Exception):
    """Inside this module: the change cannot be."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


_Ranges = tuple[list[bytes], list[bytes | None]]
"""Starts and ends of disjoint ranges that do not touch, in order."""


class Auth:
    """`keys_of(lease)` names the keys of a lease: they are written when it ends."""

    def __init__(
        self,
        table: Table,
        digest_parts: list[bytes],
        keys_of: Callable[[int], list[bytes]],
    ) -> None:
        self._table = table
        self._digest_parts = digest_parts
        self._keys_of = keys_of
        self.load()

    def load(self) -> None:
        """Read the table: at start, or after a snapshot was installed."""
        self.users: dict[str, User] = {}
        self.roles: dict[str, tuple[Permission, ...]] = {}
        self._ranges: dict[tuple[str, Right], _Ranges] = {}
        meta = AuthMeta()
        for key, data in self._table.scan(b"", None):
            name = key[1:].decode()
            match key[:1]:
                case b"m":
                    meta = decode_meta(data)
                case b"u":
                    self.users[name] = decode_user(data)
                case b"r":
                    self.roles[name] = decode_role(data)
        self.enabled, self.revision, self.secret = meta.enabled, meta.revision, meta.secret

    # -- who may do what --------------------------------------------------------------------

    def refusal(self, command: Command) -> Reason | None:
        """Why `command` must not be applied now; None if it may be."""
        if not self.enabled:
            return None
        by: Caller | None = None
        if isinstance(command, AsUser):
            if command.user == ITSELF:
                return None
            by = Caller(command.user, command.auth_revision)
            command = command.command
        if isinstance(command, Once):
            command = command.command
        match command:
            case Administer():
                return self.root_refusal(by)
            case Compact():
                return Reason.NO_USER if by is None else self.denial(by, ())
        return self.denial(by, self._demands(command))

    def denial(self, by: Caller | None, demands: Iterable[Demand]) -> Reason | None:
        """Why `by` may not do all that; None: nobody in particular, who may do what needs no
        right. While authentication is off nothing is denied."""
        if not self.enabled:
            return None
        if by is None:
            return None if next(iter(demands), None) is None else Reason.NO_USER
        user = self.user(by)
        if user is None:
            return Reason.BAD_TOKEN
        if ROOT in user.roles:
            return None
        allowed = all(self._covers(by.user, user, demand) for demand in demands)
        return None if allowed else Reason.DENIED

    def root_refusal(self, by: Caller | None) -> Reason | None:
        """Why `by` may not administer."""
        if not self.enabled:
            return None
        if by is None:
            return Reason.NO_USER
        user = self.user(by)
        if user is None:
            return Reason.BAD_TOKEN
        return None if ROOT in user.roles else Reason.DENIED

    def user(self, by: Caller) -> User | None:
        """The caller's user, unless it is gone, or was changed so that what it held is void."""
        user = self.users.get(by.user)
        return None if user is None or user.valid_from > by.auth_revision else user

    def _covers(self, name: str, user: User, demand: Demand) -> bool:
        ranges = self._ranges.get((name, demand.right))
        if ranges is None:
            ranges = self._ranges[name, demand.right] = self._ranges_of(user, demand.right)
        starts, ends = ranges
        at = bisect_right(starts, demand.start) - 1
        if at < 0 or (demand.end is not None and demand.end <= demand.start):
            return False
        end = ends[at]
        return end is None or (demand.end is not None and demand.end <= end)

    def _ranges_of(self, user: User, right: Right) -> _Ranges:
        """What all the user's roles cover together."""
        held = sorted(
            (permission.key, permission.range_end)
            for role in user.roles
            for permission in self.roles.get(role, ())
            if permission.right in (right, Right.READ_WRITE) and permission.key
        )
        starts: list[bytes] = []
        ends: list[bytes | None] = []
        for start, range_end in held:
            end = None if range_end == b"\0" else range_end or only(start)
            if end is not None and end <= start:
                continue
            if not starts or ((last := ends[-1]) is not None and last < start):
                starts.append(start)
                ends.append(end)
            elif last is not None and (end is None or end > last):
                ends[-1] = end
        return starts, ends

    def _demands(self, command: Command) -> Iterator[Demand]:
        match command:
            case Put(key, _, condition, lease, ttl_s):
                yield Demand(Right.WRITE, key, only(key))
                if condition is not None:
                    yield Demand(Right.READ, key, only(key))
                if lease and not ttl_s:
                    yield from self._lease_demands(lease)
            case Delete(key, condition):
                yield Demand(Right.WRITE, key, only(key))
                if condition is not None:
                    yield Demand(Right.READ, key, only(key))
            case Transaction():
                yield from self._operation_demands(command)
            case Revoke(lease):
                yield from self._lease_demands(lease)

    def _operation_demands(self, operation: TxnOperation) -> Iterator[Demand]:
        match operation:
            case Select(start, end):
                yield Demand(Right.READ, start, end)
            case TxnPut(key, _, lease, previous):
                yield Demand(Right.WRITE, key, only(key))
                if lease:
                    yield from self._lease_demands(lease)
                if previous:
                    yield Demand(Right.READ, key, only(key))
            case TxnDelete(start, end, previous):
                yield Demand(Right.WRITE, start, end)
                if previous:
                    yield Demand(Right.READ, start, end)
            case Transaction(compares, success, failure):
                for compare in compares:
                    yield Demand(Right.READ, compare.start, compare.end)
                for inner in (*success, *failure):
                    yield from self._operation_demands(inner)

    def _lease_demands(self, lease: int) -> Iterator[Demand]:
        """Whoever ends a lease, or puts a key on it that others depend on, writes its keys."""
        for key in self._keys_of(lease):
            yield Demand(Right.WRITE, key, only(key))

    # -- changes ----------------------------------------------------------------------------

    def apply(self, change: AuthChange) -> Administered | AuthRefused:
        """Make a change; deterministic. One that changes nothing takes no revision."""
        try:
            changed = self._change(change)
        except ChangeRefused as refused:
            return AuthRefused(refused.reason)
        if changed:
            self._ranges.clear()
            self._digest_parts.append(b"auth" + encode(change))
            meta = AuthMeta(self.enabled, self.revision, self.secret)
            self._table.put(_META, encode(meta))
        return Administered(self.revision)

    def _change(self, change: AuthChange) -> bool:
        """Whether anything changed. Raises Refused, and then nothing did."""
        match change:
            case Enable(secret):
                return self._enable(secret)
            case Disable():
                if not self.enabled:
                    return False
                self.enabled, self.secret = False, b""
                self.revision += 1
                return True
            case GrantRole(name, role):
                return self._grant_role(name, role)
            case AddUser() | DeleteUser() | ChangePassword() | RevokeRole():
                self._change_user(change)
            case AddRole() | DeleteRole() | GrantPermission() | RevokePermission():
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

    def _change_user(self, change: AddUser | DeleteUser | ChangePassword | RevokeRole) -> None:
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
            case RevokeRole(name, role):
                if self.enabled and name == ROOT and role == ROOT:
                    raise ChangeRefused(Reason.BAD_MANAGEMENT)
                user = self._known_user(name)
                if role not in user.roles:
                    raise ChangeRefused(Reason.ROLE_NOT_GRANTED)
                self._lose_role(name, user, role)

    def _change_role(
        self, change: AddRole | DeleteRole | GrantPermission | RevokePermission
    ) -> None:
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
        self._table.put(_USER + name.encode(), encode(user))

    def _set_role(self, name: str, permissions: tuple[Permission, ...]) -> None:
        self.roles[name] = permissions
        self._table.put(_ROLE + name.encode(), encode(permissions))


def _place(permission: Permission) -> tuple[bytes, bytes]:
    return permission.place


def check_read(auth: Auth, start: bytes, end: bytes | None) -> None:
    """Raise Unauthenticated or PermissionDenied unless the caller may read the whole range now.

    To be called on the state that is about to be read, after any wait for it.
    """
    if auth.enabled:
        reason = auth.denial(caller.get(), (Demand(Right.READ, start, end),))
        if reason is not None:
            raise auth_error(reason)
