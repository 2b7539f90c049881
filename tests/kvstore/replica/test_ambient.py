"""The ambient caller's reads are checked."""

import pytest

from kvstore.commands.accounts import (
    AddRole,
    AddUser,
    AuthChange,
    ChangePassword,
    Disable,
    Enable,
    GrantPermission,
    GrantRole,
    Permission,
    Right,
)
from kvstore.commands.commands import Administer, AsUser
from kvstore.errors import PermissionDenied, Unauthenticated
from kvstore.replica.ambient import caller, check_read
from kvstore.state.rights import ITSELF, Caller
from tests.support.driven_state import Driven


def test_reads_are_checked_for_the_caller(driven: Driven) -> None:
    def change(*changes: AuthChange) -> None:
        driven.apply(*(AsUser(ITSELF, 0, Administer(each)) for each in changes))

    change(
        AddUser("root", b"hash"),
        GrantRole("root", "root"),
        AddUser("u", b"hash"),
        AddRole("r"),
        GrantPermission("r", Permission(Right.READ, b"a", b"c")),
        GrantRole("u", "r"),
        Enable(b"secret"),
    )
    auth = driven.state.auth
    with pytest.raises(Unauthenticated):
        check_read(auth, b"a", b"b")
    token = caller.set(Caller("u", auth.revision))
    try:
        check_read(auth, b"a", b"c")
        with pytest.raises(PermissionDenied):
            check_read(auth, b"a", b"d")
        change(ChangePassword("u", b"new"))
        with pytest.raises(Unauthenticated):
            check_read(auth, b"a", b"c")
        change(Disable())
        check_read(auth, b"a", None)
    finally:
        caller.reset(token)
