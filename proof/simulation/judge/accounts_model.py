"""The model of users, roles and rights: what docs/authentication.md says, by the simplest means."""

from collections.abc import Iterator
from dataclasses import dataclass, field

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
    RevokePermission,
    RevokeRole,
    Right,
)
from kvstore.commands.commands import Administer, AsUser, Command, Compact, Delete, Once, Put
from kvstore.commands.members import Reconfigure
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnOperation, TxnPut
from kvstore.commands.results import Administered, AuthRefused
from kvstore.errors import Reason

CLUSTER = ""
"""The name in which the cluster asks for something itself."""
_Need = tuple[bool, bytes, bytes | None]
"""Whether it is to write, and the range."""


@dataclass
class _UserModel:
    has_password: bool
    valid_from: int
    roles: set[str] = field(default_factory=set)


class _Refused(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__()
        self.reason = reason


def _demand(holds: bool, otherwise: Reason) -> None:
    if not holds:
        raise _Refused(otherwise)


class AccountsModel:
    """Users, and roles with what each permits: (key, range end) -> right."""

    def __init__(self) -> None:
        self.enabled = False
        self.revision = 1
        self.users: dict[str, _UserModel] = {}
        self.roles: dict[str, dict[tuple[bytes, bytes], Right]] = {}

    # -- changes ----------------------------------------------------------------------------

    def change(self, change: AuthChange) -> Administered | AuthRefused:
        """What the change answers."""
        try:
            if self._change(change):
                self.revision += not isinstance(change, Enable)
        except _Refused as refused:
            return AuthRefused(refused.reason)
        return Administered(self.revision)

    def _change(self, change: AuthChange) -> bool:
        """Whether it changes anything. Raises _Refused."""
        match change:
            case Enable():
                return self._enable()
            case Disable():
                was, self.enabled = self.enabled, False
                return was
            case AddUser(name, password):
                _demand(name != "", Reason.EMPTY_USER)
                _demand(name not in self.users, Reason.USER_EXISTS)
                self.users[name] = _UserModel(password is not None, self.revision + 1)
            case DeleteUser(name):
                _demand(not (self.enabled and name == ROOT), Reason.BAD_MANAGEMENT)
                _demand(name in self.users, Reason.USER_UNKNOWN)
                del self.users[name]
            case ChangePassword(name):
                _demand(name in self.users, Reason.USER_UNKNOWN)
                self.users[name].valid_from = self.revision + 1
            case GrantRole(name, role):
                _demand(name in self.users, Reason.USER_UNKNOWN)
                _demand(role == ROOT or role in self.roles, Reason.ROLE_UNKNOWN)
                if role in self.users[name].roles:
                    return False
                self.users[name].roles.add(role)
            case RevokeRole(name, role):
                kept = self.enabled and name == ROOT and role == ROOT
                _demand(not kept, Reason.BAD_MANAGEMENT)
                _demand(name in self.users, Reason.USER_UNKNOWN)
                _demand(role in self.users[name].roles, Reason.ROLE_NOT_GRANTED)
                self.users[name].roles.remove(role)
            case _:
                self._change_role(change)
        return True

    def _enable(self) -> bool:
        if self.enabled:
            return False
        _demand(ROOT in self.users, Reason.NO_ROOT_USER)
        _demand(ROOT in self.users[ROOT].roles, Reason.NO_ROOT_ROLE)
        self.enabled = True
        return True

    def _change_role(self, change: AuthChange) -> None:
        match change:
            case AddRole(name):
                _demand(name != "", Reason.EMPTY_ROLE)
                _demand(name not in self.roles, Reason.ROLE_EXISTS)
                self.roles[name] = {}
            case DeleteRole(name):
                _demand(not (self.enabled and name == ROOT), Reason.BAD_MANAGEMENT)
                _demand(name in self.roles, Reason.ROLE_UNKNOWN)
                del self.roles[name]
                for user in self.users.values():
                    user.roles.discard(name)
            case GrantPermission(name, permission):
                _demand(name in self.roles, Reason.ROLE_UNKNOWN)
                place = permission.key, permission.range_end
                self.roles[name][place] = permission.right
            case RevokePermission(name, key, range_end):
                _demand(name in self.roles, Reason.ROLE_UNKNOWN)
                _demand((key, range_end) in self.roles[name], Reason.PERMISSION_NOT_GRANTED)
                del self.roles[name][key, range_end]

    # -- rights -----------------------------------------------------------------------------

    def refusal(self, command: Command) -> Reason | None:
        """Why it is not carried out; None if it is."""
        if not self.enabled:
            return None
        if not isinstance(command, AsUser):
            return Reason.NO_USER  # all that the clients of the simulation ask needs a right
        if command.user == CLUSTER:
            return None
        asked: Command = command.command
        if isinstance(asked, Once):
            asked = asked.command
        user = self.users.get(command.user)
        if user is None or user.valid_from > command.auth_revision:
            return Reason.BAD_TOKEN
        if ROOT in user.roles or isinstance(asked, Compact):
            return None
        if isinstance(asked, Administer | Reconfigure):
            return Reason.DENIED
        return None if all(self._may(user, *need) for need in _needs(asked)) else Reason.DENIED

    def _may(self, user: _UserModel, write: bool, start: bytes, end: bytes | None) -> bool:
        """Whether every key of the range is in some range that a role of the user permits. It is
        enough to look at the first, and at the first behind each of those ranges."""
        if end is not None and end <= start:
            return False
        wanted = (Right.WRITE if write else Right.READ, Right.READ_WRITE)
        held = [
            (key, range_end)
            for role in user.roles
            for (key, range_end), right in self.roles.get(role, {}).items()
            if right in wanted
        ]
        behind = [_end_of(key, range_end) for key, range_end in held]
        looked_at = [start]
        for key in behind:
            if key is not None and start <= key and (end is None or key < end):
                looked_at.append(key)
        if end is None and not any(e is None for e in behind):
            return False
        return all(any(_holds(key, each) for each in held) for key in looked_at)


def _end_of(key: bytes, range_end: bytes) -> bytes | None:
    if range_end == b"\0":
        return None
    return range_end or key + b"\0"


def _holds(key: bytes, held: tuple[bytes, bytes]) -> bool:
    end = _end_of(*held)
    return held[0] <= key and (end is None or key < end)


def _needs(command: Command | TxnOperation) -> Iterator[_Need]:
    match command:
        case Put(key, _, condition) | Delete(key, condition):
            yield True, key, key + b"\0"
            if condition is not None:
                yield False, key, key + b"\0"
        case Select(start, end):
            yield False, start, end
        case TxnPut(key, _, lease, previous):
            assert not lease, "not in the model"
            yield True, key, key + b"\0"
            if previous:
                yield False, key, key + b"\0"
        case TxnDelete(start, end, previous):
            yield True, start, end
            if previous:
                yield False, start, end
        case Transaction(compares, success, failure):
            for compare in compares:
                yield False, compare.start, compare.end
            for operation in (*success, *failure):
                yield from _needs(operation)
