"""Who may do what: the check before a command is applied, and before a range is read.

Rights are checked where a command is applied, so every replica decides alike, and what one node
has acknowledged (a password changed, a role revoked) no lagging node can get around. The rules
are etcd's, but that inner transactions are checked as well, and that compaction takes a user.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from kvstore.commands.accounts import ROOT, AuthChange, Permission, Right
from kvstore.commands.commands import (
    Administer,
    AsUser,
    Command,
    Compact,
    Delete,
    Once,
    Put,
    Revoke,
)
from kvstore.commands.members import AddMember, Reconfigure
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnOperation, TxnPut, only
from kvstore.commands.results import Administered, AuthRefused
from kvstore.errors import Reason
from kvstore.state.users import Accounts, User

ITSELF = ""
"""The user of commands that the cluster gives itself."""


class Caller(NamedTuple):
    """Who sent a request: a user, authenticated at a revision of `Auth`."""

    user: str
    auth_revision: int


class Demand(NamedTuple):
    """What a request needs: READ or WRITE on every key of a range."""

    right: Right
    start: bytes
    end: bytes | None


class LeaseDemand(NamedTuple):
    """WRITE on every key that a lease holds: on none if it holds none."""

    lease: int


_Ranges = tuple[list[bytes], list[bytes | None]]
"""Starts and ends of disjoint ranges that do not touch, in order."""


class Auth:
    """The rights that the users of `accounts` have by their roles.

    `first_key(lease, start)` names the first key of a lease from `start` on, None if there is none:
    its keys are written when it ends.
    """

    def __init__(self, accounts: Accounts, first_key: Callable[[int, bytes], bytes | None]) -> None:
        self.accounts = accounts
        self._first_key = first_key
        self._ranges: dict[tuple[str, Right], _Ranges] = {}
        """What (user, right) covers; worked out when first asked for."""

    def load(self) -> None:
        """Read the accounts anew: a snapshot was installed."""
        self.accounts.load()
        self._ranges.clear()

    def apply(self, change: AuthChange) -> Administered | AuthRefused:
        """Make a change; deterministic. One that changes nothing takes no revision."""
        self._ranges.clear()
        return self.accounts.apply(change)

    @property
    def enabled(self) -> bool:
        """Whether rights count; while they do not, everybody may do everything."""
        return self.accounts.enabled

    @property
    def revision(self) -> int:
        """Counts the changes of users and roles, from 1."""
        return self.accounts.revision

    @property
    def secret(self) -> bytes:
        """Signs tokens; b"" while authentication is off."""
        return self.accounts.secret

    @property
    def users(self) -> Mapping[str, User]:
        return self.accounts.users

    @property
    def roles(self) -> Mapping[str, tuple[Permission, ...]]:
        return self.accounts.roles

    def refusal(self, command: Command) -> Reason | None:
        """Why `command` must not be applied now; None if it may be."""
        if not self.accounts.enabled:
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
            case Reconfigure(change):
                # Who shows a token for joining needs no user: whether it is good is judged with it.
                shown = isinstance(change, AddMember) and change.token
                return None if shown else self.root_refusal(by)
            case Compact():
                return Reason.NO_USER if by is None else self.denial(by, ())
        return self.denial(by, self._demands(command))

    def denial(self, by: Caller | None, demands: Iterable[Demand | LeaseDemand]) -> Reason | None:
        """Why `by` may not do all that, or None if it may. `by` None is somebody who did not say
        who they are: they may do what needs no right. While authentication is off all may be done.
        """
        if not self.accounts.enabled:
            return None
        if by is None:
            return None if next(iter(demands), None) is None else Reason.NO_USER
        user = self.user(by)
        if user is None:
            return Reason.BAD_TOKEN
        if ROOT in user.roles:
            return None
        allowed = all(self._allows(by.user, user, demand) for demand in demands)
        return None if allowed else Reason.DENIED

    def root_refusal(self, by: Caller | None) -> Reason | None:
        """Why `by` may not change users and roles, or None if it may."""
        if not self.accounts.enabled:
            return None
        if by is None:
            return Reason.NO_USER
        user = self.user(by)
        if user is None:
            return Reason.BAD_TOKEN
        return None if ROOT in user.roles else Reason.DENIED

    def user(self, by: Caller) -> User | None:
        """The caller's user; None if it is deleted, or if what was issued to it is void now."""
        user = self.accounts.users.get(by.user)
        return None if user is None or user.valid_from > by.auth_revision else user

    def _allows(self, name: str, user: User, demand: Demand | LeaseDemand) -> bool:
        if isinstance(demand, LeaseDemand):
            return self._covers_lease(self._held(name, user, Right.WRITE), demand.lease)
        return self._covers(self._held(name, user, demand.right), demand)

    def _held(self, name: str, user: User, right: Right) -> _Ranges:
        ranges = self._ranges.get((name, right))
        if ranges is None:
            ranges = self._ranges[name, right] = self._ranges_of(user, right)
        return ranges

    def _covers_lease(self, ranges: _Ranges, lease: int) -> bool:
        """Whether all keys of a lease lie within the ranges. From one range's end it goes to the
        first key after it: a lease with many keys costs no more than the ranges are many."""
        starts, ends = ranges
        key = self._first_key(lease, b"")
        while key is not None:
            at = bisect_right(starts, key) - 1
            if at < 0:
                return False
            end = ends[at]
            if end is None:
                return True
            if key >= end:
                return False
            key = self._first_key(lease, end)
        return True

    @staticmethod
    def _covers(ranges: _Ranges, demand: Demand) -> bool:
        starts, ends = ranges
        at = bisect_right(starts, demand.start) - 1
        if at < 0 or (demand.end is not None and demand.end <= demand.start):
            return False
        end = ends[at]
        return end is None or (demand.end is not None and demand.end <= end)

    def _ranges_of(self, user: User, right: Right) -> _Ranges:
        """What all the user's roles cover together, for one right."""
        held = sorted(
            (permission.key, permission.range_end)
            for role in user.roles
            for permission in self.accounts.roles.get(role, ())
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

    def _demands(self, command: Command) -> Iterator[Demand | LeaseDemand]:
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

    def _operation_demands(self, operation: TxnOperation) -> Iterator[Demand | LeaseDemand]:
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

    def _lease_demands(self, lease: int) -> Iterator[LeaseDemand]:
        """Ending a lease deletes its keys, and a key put on it is deleted along with them: both
        need the right to write all its keys."""
        if self._first_key(lease, b"") is not None:
            yield LeaseDemand(lease)
