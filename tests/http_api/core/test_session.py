"""A session reads and writes on behalf of one caller, and of nobody else."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from http_api.callers.caller_sessions import CallerSessions
from http_api.core.session import Session
from kvstore.commands.accounts import (
    AddRole,
    AddUser,
    AuthChange,
    Enable,
    GrantPermission,
    GrantRole,
    Permission,
    Right,
)
from kvstore.commands.commands import Administer, Grant, Put
from kvstore.commands.operations import Select, only
from kvstore.commands.results import AuthRefused, Written
from kvstore.errors import PermissionDenied, Unauthenticated
from kvstore.replica.interest import Interest
from kvstore.state.rights import Caller
from tests.support.memory_replica import MemoryReplica

LEASE = 7
CHANGES: tuple[AuthChange, ...] = (
    AddUser("root", b"-"),
    GrantRole("root", "root"),
    AddUser("u", b"-"),
    AddRole("r"),
    GrantPermission("r", Permission(Right.READ, b"a", b"b")),
    GrantRole("u", "r"),
    Enable(b"secret"),
)


@pytest.fixture
def replica() -> Iterator[MemoryReplica]:
    """Authentication is on; u reads [a, b), and the keys a and z hang on one lease."""
    with closing(MemoryReplica()) as found:
        found.apply(Grant(LEASE, 60), Put(b"a", b"1", lease=LEASE), Put(b"z", b"2", lease=LEASE))
        found.apply(*map(Administer, CHANGES))
        yield found


def session(replica: MemoryReplica, user: str) -> Session:
    caller = Caller(user, replica.state.auth.revision) if user else None
    return CallerSessions(replica).of(caller)


READS: list[Callable[[Session], object]] = [
    lambda on: on.get(b"z"),
    lambda on: on.selection(Select(b"a", None)),
    lambda on: on.select(Select(b"z", only(b"z"))),
    lambda on: on.history(b"z", 10),
    lambda on: on.watch(Interest(b"a", b"c")),
    lambda on: on.check_watch(b"z", only(b"z")),
    lambda on: asyncio.run(on.lease_keys(LEASE)),
    lambda on: on.user("root"),
    lambda on: on.users(),
    lambda on: on.role("root"),
    lambda on: on.roles(),
    lambda on: on.digest,
]


@pytest.mark.parametrize("read", READS)
def test_reads_take_the_right(replica: MemoryReplica, read: Callable[[Session], object]) -> None:
    with pytest.raises(Unauthenticated):
        read(session(replica, ""))
    with pytest.raises(PermissionDenied):
        read(session(replica, "u"))
    read(session(replica, "root"))


def test_what_a_user_may_read(replica: MemoryReplica) -> None:
    on = session(replica, "u")
    found = on.get(b"a")
    assert found is not None
    assert found.value == b"1"
    assert len(on.select(Select(b"a", b"b")).items) == 1
    on.watch(Interest(b"a", b"b")).close()
    itself = on.user("u")
    assert itself is not None
    assert itself.roles == ("r",)
    assert on.role("r") is not None
    assert on.lease_ttl_s(LEASE) == 60


def test_a_write_is_applied_in_the_name_of_its_caller(replica: MemoryReplica) -> None:
    async def run() -> None:
        for user, expected in (("root", Written), ("u", AuthRefused), ("", AuthRefused)):
            result = await session(replica, user).execute(Put(b"z", b"3"), 1)
            assert isinstance(result, expected), user
        await session(replica, "root").require_root(1)
        for user, error in (("u", PermissionDenied), ("", Unauthenticated)):
            with pytest.raises(error):
                await session(replica, user).require_root(1)
            with pytest.raises(error):
                await session(replica, user).hand_over(None, 1)

    asyncio.run(run())


def test_nobody_shares_one_session(replica: MemoryReplica) -> None:
    sessions = CallerSessions(replica)
    assert sessions.of(None) is sessions.anonymous
    assert sessions.of(Caller("u", 1)) is not sessions.of(Caller("u", 1))
