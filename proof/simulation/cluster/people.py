"""Users of the store, and administrators who change their rights all the time.

In a run with administrators every other client acts as the user `root`, whom nobody touches.
"""

import asyncio

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
    Permission,
    RevokePermission,
    RevokeRole,
    Right,
)
from kvstore.commands.commands import EXISTS, Administer, Delete, Put
from kvstore.commands.operations import Select, Transaction, TxnDelete, TxnPut, only
from kvstore.commands.results import AuthRefused
from kvstore.replica.replica import Replica
from kvstore.state.rights import Caller
from proof.simulation.cluster.clients import Named, SimulatedClient

USERS = ("alice", "bob")
ROLES = ("reader", "writer")
CHANGES = 20
REQUESTS = 20
KEYS = 4
"""u0 to u3"""


class SimulatedAdministrator(SimulatedClient):
    """Sets the stage, switches authentication on, and changes users, roles and rights."""

    async def _run(self) -> None:
        first: list[AuthChange] = [AddUser(ROOT, b"secret"), GrantRole(ROOT, ROOT)]
        first += [AddRole(role) for role in ROLES]
        first += [AddUser(user, b"secret") for user in USERS]
        first += [Enable(b"signs")]
        for change in first:
            await self._administer(change)
        for _ in range(CHANGES):
            await asyncio.sleep(self.rng.uniform(0, 0.4))
            await self._administer(self._draw())
        self.done = True

    async def _administer(self, change: AuthChange) -> None:
        await self.insist(f"administer {type(change).__name__}", "", Administer(change), 1)

    def _draw(self) -> AuthChange:
        rng = self.rng
        user, role = rng.choice(USERS), rng.choice(ROLES)
        start, end = self._range()
        changes: list[tuple[int, AuthChange]] = [
            (8, GrantPermission(role, Permission(rng.choice((*Right,)), start, end))),
            (3, RevokePermission(role, start, end)),
            (5, GrantRole(user, role)),
            (2, RevokeRole(user, role)),
            (1, DeleteUser(user)),
            (2, AddUser(user, rng.choice((b"other", None)))),
            (1, ChangePassword(user, b"new")),
            (1, DeleteRole(role)),
            (2, AddRole(role)),
            (1, Disable()),
            (2, Enable(b"signs")),
        ]
        return rng.choices([c for _, c in changes], [weight for weight, _ in changes])[0]

    def _range(self) -> tuple[bytes, bytes]:
        """As in a permission."""
        first = self.rng.randrange(KEYS)
        return _key(first), self.rng.choice((b"", _key(first + 1), _key(first + 2), b"v", b"\0"))


class SimulatedUser(SimulatedClient):
    """Asks for what it may or may not do, at times with a login that is void by now."""

    async def _run(self) -> None:
        name, revision = self.rng.choice(USERS), 0
        for _ in range(REQUESTS):
            await asyncio.sleep(self.rng.uniform(0, 0.4))
            if self.rng.random() < 0.3:
                revision = await self._log_in() or revision
            command = self._draw()
            text = f"{type(command).__name__} as {name}"
            result = await self.insist(text, "", command, 1, Caller(name, revision))
            if isinstance(result, AuthRefused):
                self.world.reached("user told of a missing right")
        self.done = True

    async def _log_in(self) -> int:
        async def work(replica: Replica) -> int:
            await replica.barrier(replica.config.request_timeout_s)
            return replica.state.auth.revision

        revision = await self.attempt(self.node, "log in", "", work)
        return revision if isinstance(revision, int) else 0

    def _draw(self) -> Named:
        rng = self.rng
        number = rng.randrange(KEYS)
        key, value = _key(number), self.new_value().encode()
        match rng.randrange(6):
            case 0:
                return Put(key, value, EXISTS)
            case 1:
                return Delete(key)
            case 2:
                parts = (TxnPut(key, value, previous=rng.random() < 0.5), Select(b"u", b"v"))
                return Transaction((), parts)
            case 3:
                end = _key(number + 2)
                return Transaction((), (Select(key, only(key)), TxnDelete(key, end)))
            case 4 if rng.random() < 0.3:
                return Administer(AddUser("mallory", None))
        return Put(key, value)


def _key(number: int) -> bytes:
    return b"u%d" % number
