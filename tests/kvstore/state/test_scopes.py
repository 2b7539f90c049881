"""Scopes, logging out and the rotation of the secret, as replicated state."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
    Right,
    RotateSecret,
    Scope,
)
from kvstore.commands.commands import Administer, AsUser, Put
from kvstore.commands.results import Administered, AuthRefused, Result
from kvstore.errors import Reason
from kvstore.state.rights import ITSELF, Caller
from tests.support.driven_state import Driven


class Store(Driven):
    def change(self, *changes: AuthChange, by: str = ITSELF) -> Result:
        """The last one's result."""
        revision = self.state.auth.revision if by else 0
        return [self.apply(AsUser(by, revision, Administer(c)))[0] for c in changes][-1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """On; `hr` has the scope users, `ops` has cluster, `ann` has a role without any."""
    made = Store(tmp_path / "state.mdb")
    made.change(AddUser(ROOT, b"h"), GrantRole(ROOT, ROOT), AddRole("plain"), AddUser("ann", b"h"))
    made.change(GrantRole("ann", "plain"))
    for user, scope in (("hr", Scope.USERS), ("ops", Scope.CLUSTER)):
        role = f"{user}-role"
        made.change(AddUser(user, b"h"), AddRole(role), GrantScope(role, scope))
        made.change(GrantRole(user, role))
    made.change(Enable(b"secret"))
    yield made
    made.store.close()


def test_a_scope_allows_its_own_calls_only(store: Store) -> None:
    auth = store.state.auth
    for user, held in (("hr", Scope.USERS), ("ops", Scope.CLUSTER), ("ann", None)):
        caller = Caller(user, auth.revision)
        for scope in Scope:
            allowed = auth.scope_refusal(caller, scope)
            assert allowed == (None if scope is held else Reason.DENIED), (user, scope)
        assert auth.root_refusal(caller) is Reason.DENIED
    root = Caller(ROOT, auth.revision)
    assert {auth.scope_refusal(root, scope) for scope in Scope} == {None}
    assert auth.scope_refusal(None, Scope.METRICS) is Reason.NO_USER
    assert auth.scope_refusal(Caller("gone", 1), Scope.METRICS) is Reason.BAD_TOKEN


def test_a_scope_ends_with_the_role_and_the_grant(store: Store) -> None:
    auth = store.state.auth

    def refusal() -> Reason | None:
        return auth.scope_refusal(Caller("ops", auth.revision), Scope.CLUSTER)

    store.change(RevokeScope("ops-role", Scope.CLUSTER))
    assert refusal() is Reason.DENIED
    again = store.change(RevokeScope("ops-role", Scope.CLUSTER))
    assert again == AuthRefused(Reason.PERMISSION_NOT_GRANTED)
    store.change(GrantScope("ops-role", Scope.CLUSTER))
    assert refusal() is None
    store.change(DeleteRole("ops-role"), AddRole("ops-role"), GrantRole("ops", "ops-role"))
    assert refusal() is Reason.DENIED
    assert store.change(GrantScope("none", Scope.BACKUP)) == AuthRefused(Reason.ROLE_UNKNOWN)


PERMISSION = Permission(Right.READ, b"a")


@pytest.mark.parametrize(
    "change",
    [
        AddUser("new", b"h"), DeleteUser("ann"), ChangePassword("ann", b"n"), LogOut("ann"),
        AddRole("new"), GrantPermission("plain", PERMISSION), GrantRole("ann", "plain"),
    ],
)  # fmt: skip
def test_who_manages_users_may(store: Store, change: AuthChange) -> None:
    assert store.change(change, by="ann") == AuthRefused(Reason.DENIED)
    assert isinstance(store.change(change, by="hr"), Administered)


@pytest.mark.parametrize(
    "change",
    [
        Disable(), Enable(b"x"), RotateSecret(b"x"),
        GrantScope("plain", Scope.BACKUP), RevokeScope("ops-role", Scope.CLUSTER),
        GrantRole("hr", ROOT), GrantRole("hr", "ops-role"), RevokeRole(ROOT, ROOT),
        ChangePassword(ROOT, b"n"), ChangePassword("ops", b"n"), LogOut(ROOT),
        DeleteUser(ROOT), DeleteUser("ops"), AddUser(ROOT, b"h"), DeleteRole("ops-role"),
        GrantPermission("ops-role", PERMISSION), RevokePermission("hr-role", b"a", b""),
        AddRole(ROOT), GrantRole(ROOT, "plain"),
    ],
)  # fmt: skip
def test_who_manages_users_cannot_become_more(store: Store, change: AuthChange) -> None:
    before = store.state.auth.revision
    assert store.change(change, by="hr") == AuthRefused(Reason.DENIED)
    assert store.state.auth.revision == before


def test_logging_out_voids_what_was_issued_and_nothing_else(store: Store) -> None:
    store.change(AddRole("w"), GrantPermission("w", Permission(Right.WRITE, b"a")))
    store.change(GrantRole("ann", "w"))
    auth, password = store.state.auth, store.state.auth.users["ann"].password
    issued = auth.revision
    store.change(LogOut("ann"))
    assert store.apply(AsUser("ann", issued, Put(b"a", b"")))[0] == AuthRefused(Reason.BAD_TOKEN)
    assert auth.users["ann"].password == password and "w" in auth.users["ann"].roles
    assert auth.user(Caller("ann", auth.revision)) is not None
    assert auth.user(Caller("ops", issued)) is not None
    assert store.change(LogOut("nobody")) == AuthRefused(Reason.USER_UNKNOWN)


def test_rotation_replaces_the_secret_while_it_is_on(store: Store) -> None:
    auth = store.state.auth
    before = auth.revision
    assert store.change(RotateSecret(b"new")) == Administered(before + 1)
    assert auth.secret == b"new"
    store.change(Disable())
    assert store.change(RotateSecret(b"newer")) == AuthRefused(Reason.OFF)
    assert auth.secret == b""


def test_it_is_there_after_a_restart(store: Store) -> None:
    store.change(GrantScope("plain", Scope.METRICS), GrantScope("plain", Scope.BACKUP))
    held = dict(store.state.auth.accounts.scopes)
    assert held["plain"] == (Scope.BACKUP, Scope.METRICS)
    store.reopen()
    assert store.state.auth.accounts.scopes == held
