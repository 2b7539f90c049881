"""Tokens and passwords: who is believed to be whom, for how long, and on which node."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from http_api.callers import tokens
from http_api.callers.authentication import Access
from http_api.callers.tokens import SEEN_MAX, TTL_S, Tokens
from http_api.server import HttpServer
from kvstore.commands.accounts import AddUser, AuthChange, ChangePassword, Enable, GrantRole
from kvstore.commands.commands import Administer, AsUser
from kvstore.commands.results import Administered
from kvstore.config import Config
from kvstore.errors import Unauthenticated
from kvstore.event_log import EventLog
from kvstore.replica.open import open_replica
from kvstore.state.rights import ITSELF, Caller
from tests.support.etcd_node import EtcdNode, etcd_node, without_header
from tests.support.guarded_node import (
    BAD_TOKEN,
    DENIED,
    NO_USER,
    WRONG,
    Guarded,
    guard,
    guarded,
    log_in,
    send,
)
from tests.support.memory_replica import MemoryReplica
from tests.support.ports import free_ports
from tests.support.raw_http import connect

# -- tokens ---------------------------------------------------------------------------------


def test_a_signature_is_computed_once_for_each_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[bytes] = []
    signature = tokens._signature

    def counted(body: bytes, secret: bytes) -> bytes:
        computed.append(secret)
        return signature(body, secret)

    known, caller = Tokens(), Caller("u", 1)
    token = Tokens().issue(caller, b"secret")
    monkeypatch.setattr(tokens, "_signature", counted)
    for _ in range(3):
        assert known.recognise(token, b"secret") == caller
    assert computed == [b"secret"]
    assert known.recognise(token, b"other") is None and known.recognise(token, b"") is None
    assert known.recognise(token, b"secret") == caller
    assert computed == [b"secret", b"other"]


def test_wrong_passwords(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        async def refused(name: str, password: str) -> tuple[int, int, str]:
            return await on.refused("auth/authenticate", name=name, password=password)

        assert await refused("u", "root's") == WRONG
        assert await refused("u", "") == WRONG
        assert await refused("nobody", "x") == WRONG
        assert await refused("", "") == WRONG
        await on.ok("auth/user/add", on.root, name="np", options={"no_password": True})
        await on.ok("auth/user/changepw", on.root, name="np", password="x")
        without = "auth: authentication failed, password was given for no password user"
        assert await refused("np", "x") == (500, 2, without)
        token = await on.ok("auth/authenticate", "stale.1", name="u", password="u's")
        assert token["token"] != on.user

    guarded(tmp_path, test)


def test_where_a_token_is_looked_for(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        async def status(header: str, token: str) -> int:
            return (await send(on.node, "kv/range", token, header, {"key": b"a"})).status

        for header in ("Authorization", "Grpc-Metadata-Token", "Grpc-Metadata-Authorization"):
            assert await status(header, on.user) == 200
            assert await status(header, "bad") == 401
        assert await status("Authorization", f"Bearer {on.user}") == 401
        assert await status("X-Other", on.user) == 400

    guarded(tmp_path, test)


def test_forged_tokens(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        body, signature = on.user.split(".")
        root_body = on.root.split(".")[0]
        other = Tokens().issue(Caller("root", 99), b"another secret")
        for forged in (
            f"{root_body}.{signature}", f"{body}.", f"{body}", f".{signature}", "é.é", other,
            f"{body}.{signature[:-4]}AAAA", "x" * 5000,
        ):  # fmt: skip
            assert await on.refused("kv/range", forged, key=b"a") == BAD_TOKEN

    guarded(tmp_path, test)


def test_tokens_are_void_after_password_change_and_deletion(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        assert await on.refused("auth/user/changepw", on.user, name="u", password="x") == DENIED
        await on.ok("auth/user/changepw", on.root, name="u", password="new")
        assert await on.refused("kv/range", on.user, key=b"a") == BAD_TOKEN
        assert await on.refused("auth/authenticate", name="u", password="u's") == WRONG
        token = await log_in(on.node, "u", "new")
        await on.ok("kv/range", token, key=b"a")
        await on.ok("auth/user/revoke", on.root, name="u", role="r")
        assert await on.refused("kv/range", token, key=b"a") == DENIED
        await on.ok("auth/user/grant", on.root, user="u", role="r")
        await on.ok("kv/range", token, key=b"a")
        await on.ok("auth/role/delete", on.root, role="r")
        assert await on.refused("kv/range", token, key=b"a") == DENIED
        await on.ok("auth/user/delete", on.root, name="u")
        assert await on.refused("kv/range", token, key=b"a") == BAD_TOKEN
        await on.ok("auth/user/add", on.root, name="u", password="new")
        assert await on.refused("kv/range", token, key=b"a") == BAD_TOKEN

    guarded(tmp_path, test)


def test_all_tokens_are_void_once_it_was_off(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        await on.ok("auth/disable", on.root)
        assert await on.refused("kv/range", on.root, key=b"a") == BAD_TOKEN
        await on.ok("kv/range", key=b"z")
        await on.ok("auth/enable")
        assert await on.refused("auth/status", on.root) == BAD_TOKEN
        root = await log_in(on.node, "root", "root's")
        status = without_header(await on.ok("auth/status", root))
        assert status["enabled"] is True
        await on.ok("auth/enable", root)
        assert without_header(await on.ok("auth/status", root)) == status

    guarded(tmp_path, test)


def test_a_token_lives_for_five_minutes_since_its_last_use() -> None:
    now = [1_000.0, 0.0]
    tokens = Tokens(lambda: now[0], lambda: now[1])
    elsewhere = Tokens(lambda: now[0], lambda: now[1])
    by = Caller("u", 3)
    token = tokens.issue(by, b"s")

    def wait(seconds: float) -> None:
        now[:] = [time + seconds for time in now]

    assert tokens.recognise(token, b"s") == by
    assert tokens.recognise(token, b"other") is None
    assert tokens.recognise(token, b"") is None
    wait(TTL_S - 1)
    assert tokens.recognise(token, b"s") == elsewhere.recognise(token, b"s") == by
    wait(TTL_S - 1)
    assert tokens.recognise(token, b"s") == by
    assert Tokens(lambda: now[0], lambda: now[1]).recognise(token, b"s") is None
    wait(TTL_S)
    assert tokens.recognise(token, b"s") is None
    assert elsewhere.recognise(token, b"s") is None
    assert tokens.issue(by, b"s") != tokens.issue(by, b"s")
    # An hour ahead of this node's clock is no more to be trusted than an hour behind.
    ahead = Tokens(lambda: now[0] + 3_600, lambda: now[1]).issue(by, b"s")
    assert tokens.recognise(ahead, b"s") is None


def test_remembered_tokens_are_bounded() -> None:
    tokens = Tokens(lambda: 0.0, lambda: 0.0)
    for number in range(SEEN_MAX + 10):
        assert tokens.recognise(tokens.issue(Caller("u", number), b"s"), b"s")
    assert len(tokens._seen) == SEEN_MAX


def test_it_survives_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with etcd_node(tmp_path) as node:
            on = await guard(node)
        async with etcd_node(tmp_path) as node:
            again = Guarded(node, on.root, on.user)
            assert await again.refused("kv/range", key=b"a") == NO_USER
            await again.ok("kv/range", on.user, key=b"a")
            await log_in(node, "u", "u's")

    asyncio.run(run())


class Lagging(MemoryReplica):
    """Knows nothing of what another has applied until a read barrier."""

    def __init__(self, ahead: MemoryReplica) -> None:
        super().__init__()
        self._ahead = ahead

    def barrier(self, timeout_s: float, reads: int = 1) -> asyncio.Future[None]:
        self.state = self._ahead.state
        return super().barrier(timeout_s, reads)


def test_a_node_that_lags_waits_before_it_refuses() -> None:
    async def run(ahead: MemoryReplica, stack: ExitStack) -> None:
        def change(*changes: AuthChange) -> None:
            for each in changes:
                done = ahead.apply(AsUser(ITSELF, 0, Administer(each)))
                assert isinstance(done, Administered)

        def lagging() -> Access:
            return Access(stack.enter_context(closing(Lagging(ahead))), 5)

        access = Access(ahead, 5)
        password = await access.hash("old")
        change(AddUser("root", password), GrantRole("root", "root"), Enable(b"secret"))
        token = await access.log_in("root", "old")
        by = Caller("root", ahead.state.auth.revision)
        assert await lagging().of_token(token) == by
        assert await lagging().of_password("root", "old") == by
        change(ChangePassword("root", await access.hash("new")))
        for node in (access, lagging()):
            with pytest.raises(Unauthenticated):
                await node.of_token(token)
            with pytest.raises(Unauthenticated):
                await node.log_in("root", "old")
        assert await access.of_token(await lagging().log_in("root", "new"))

    with closing(MemoryReplica()) as ahead, ExitStack() as stack:
        asyncio.run(run(ahead, stack))


@asynccontextmanager
async def cluster(path: Path) -> AsyncIterator[list[EtcdNode]]:
    """Three nodes in this process."""
    members = {node: ("127.0.0.1", port) for node, port in enumerate(free_ports(3), 1)}
    async with AsyncExitStack() as stack:
        replicas = []
        for node, address in members.items():
            config = Config(
                node_id=node,
                members=members,
                listen_peer=address,
                listen_client=("127.0.0.1", 0),
                data_dir=path / str(node),
            )
            replica = await open_replica(config, EventLog(node))
            stack.push_async_callback(replica.stop)
            http = HttpServer(replica, config)
            await http.start()
            stack.push_async_callback(http.stop)
            replicas.append((replica, http))
        async with asyncio.timeout(60):
            while not all(replica.status().ready for replica, _ in replicas):
                await asyncio.sleep(0.005)
        yield [
            EtcdNode(replica, http, await stack.enter_async_context(connect(http.address)))
            for replica, http in replicas
        ]


def test_every_node_knows_what_one_has_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        async with cluster(tmp_path) as nodes:
            first = await guard(nodes[0])
            views = [Guarded(node, first.root, first.user) for node in nodes]
            for number in range(10):
                at, then = views[number % 3], views[(number + 1) % 3]
                password = f"new {number}"
                await at.ok("auth/user/changepw", at.root, name="u", password=password)
                assert await then.refused("kv/put", then.user, key=b"a") == BAD_TOKEN
                assert await then.refused("kv/range", then.user, key=b"a") == BAD_TOKEN
                fresh = await log_in(at.node, "u", password)
                await then.ok("kv/put", fresh, key=b"a")
                await at.ok("auth/user/revoke", at.root, name="u", role="r")
                assert await then.refused("kv/put", fresh, key=b"a") == DENIED
                assert await then.refused("kv/range", fresh, key=b"a") == DENIED
                await at.ok("auth/user/grant", at.root, user="u", role="r")
                await then.ok("kv/range", fresh, key=b"a")
                for view in views:
                    view.user = fresh

    asyncio.run(run())
