"""What a session is of: who calls, what was asked for, and the users and roles that it sees."""

from typing import NamedTuple

from http_api.core.port import ReplicaPort
from http_api.limits.slices import ReadTurns
from kvstore.commands.accounts import ChangePassword, Permission, Right, Scope
from kvstore.commands.commands import Administer, AsUser, Once, StoreCommand
from kvstore.commands.members import Reconfigure
from kvstore.commands.operations import Select, TxnOperation
from kvstore.commands.results import AuthRefused
from kvstore.errors import Reason, auth_error
from kvstore.state.rights import ITSELF, Auth, Caller, Demand
from kvstore.state.users import User

SessionCommand = StoreCommand | Once | Administer | Reconfigure


class LeadershipMove(NamedTuple):
    """That another node shall lead: `to`, or whoever is best."""

    to: int | None


class LoginTry(NamedTuple):
    """That somebody has given a password, or wants to, for `user`."""

    user: str


Touched = SessionCommand | Select | TxnOperation | LeadershipMove | LoginTry
"""What a request asked of the store, for the audit log: reads are `Select`."""
TOUCHED_MAX = 256
"""So much of one request is remembered."""


class AccountSession:
    """The part of a session that is about who calls, and about users and roles."""

    __slots__ = ("_store", "_turns", "caller", "refused", "touched")

    def __init__(self, store: ReplicaPort, caller: Caller | None, turns: ReadTurns) -> None:
        self._store = store
        self._turns = turns
        self.caller = caller
        self.touched: list[Touched] | None = None
        """What was asked of it, where it remembers that."""
        self.refused = ""
        """Why something was refused, where it remembers that."""

    def _refuse(self, reason: Reason) -> None:
        if self.touched is not None:
            self.refused = reason.value

    def _touch(self, *what: Touched) -> None:
        if self.touched is not None and len(self.touched) < TOUCHED_MAX:
            self.touched += what

    def _check_read(self, auth: Auth, start: bytes, end: bytes | None) -> None:
        # No key is empty: from the beginning on is from the first key on, where a right on
        # everything begins.
        reason = auth.denial(self.caller, (Demand(Right.READ, start or b"\0", end),))
        if reason is not None:
            self._refuse(reason)
            raise auth_error(reason)

    def logs_in(self, user: str) -> None:
        """Whose password comes with this request; it is not known yet whether it is right."""
        self._touch(LoginTry(user))

    async def require_root(self, timeout_s: float) -> None:
        """Raise Unauthenticated or PermissionDenied unless the caller is an administrator now,
        as of a read barrier. Raises Unavailable."""
        await self._store.barrier(timeout_s)
        self._check_root()

    async def require_scope(self, scope: Scope, timeout_s: float) -> None:
        """The same unless the caller has the scope, or is an administrator."""
        await self._store.barrier(timeout_s)
        self._check_scope(scope)

    def _check_root(self) -> None:
        reason = self._store.state.auth.root_refusal(self.caller)
        if reason is not None:
            raise auth_error(reason)

    def _check_scope(self, scope: Scope) -> None:
        reason = self._store.state.auth.scope_refusal(self.caller, scope)
        if reason is not None:
            raise auth_error(reason)

    async def change_own_password(self, hashed: bytes, timeout_s: float) -> None:
        """The caller's, who has just proved to know the old one: the cluster itself asks for the
        change, as no user may change users. Raises like `submit`, AuthError."""
        if self.caller is None:
            raise auth_error(Reason.NO_USER)
        change = Administer(ChangePassword(self.caller.user, hashed))
        self._touch(change)
        result = await self._store.submit(AsUser(ITSELF, 0, change), timeout_s)
        if isinstance(result, AuthRefused):
            raise auth_error(result.reason)

    @property
    def auth_enabled(self) -> bool:
        """Whether this node has applied that authentication is on."""
        return self._store.state.auth.enabled

    @property
    def auth_revision(self) -> int:
        """Counts the changes of users and roles."""
        return self._store.state.auth.revision

    def user(self, name: str) -> User | None:
        """For who manages users, and for the user itself."""
        if name != ("" if self.caller is None else self.caller.user):
            self._check_scope(Scope.USERS)
        return self._store.state.auth.users.get(name)

    def users(self) -> list[str]:
        """All names, in order; for who manages users."""
        self._check_scope(Scope.USERS)
        return sorted(self._store.state.auth.users)

    def role(self, name: str) -> tuple[Permission, ...] | None:
        """What a role permits; for who manages users, and for who has the role."""
        auth = self._store.state.auth
        user = None if self.caller is None else auth.user(self.caller)
        if user is None or name not in user.roles:
            self._check_scope(Scope.USERS)
        return auth.roles.get(name)

    def scopes(self, name: str) -> tuple[Scope, ...]:
        """The scopes of a role; asked after `role`, which checks the right."""
        return self._store.state.auth.accounts.scopes.get(name, ())

    def roles(self) -> list[str]:
        """All names, in order; for who manages users."""
        self._check_scope(Scope.USERS)
        return sorted(self._store.state.auth.roles)
