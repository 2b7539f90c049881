"""The client proves who it is, and logs in again when it must, against a real node."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from http_api.callers.authentication import Access
from kvstore.client import (
    AuthChangeRefused,
    BlockingClient,
    Client,
    InvalidArgument,
    PermissionDenied,
    PermissionStatus,
    RoleStatus,
    Unauthenticated,
    UserStatus,
)
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import Guarded, guarded

Test = Callable[[Guarded, Client], Awaitable[None]]


def url(node: EtcdNode) -> str:
    return f"http://{node.address[0]}:{node.address[1]}"


def as_user(path: Path, test: Test, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a test with a client of u's; the names of all who logged in meanwhile."""
    logins: list[str] = []
    original = Access.log_in

    async def counted(self: Access, name: str, *more: object) -> str:
        logins.append(name)
        return await original(self, name, *more)  # type: ignore[arg-type]

    async def run(on: Guarded) -> None:
        monkeypatch.setattr(Access, "log_in", counted)
        async with Client(url(on.node), user="u", password="u's") as client:
            await test(on, client)

    guarded(path, run)
    return logins


def test_calls_share_one_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(on: Guarded, client: Client) -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(*(client.put("a", str(number)) for number in range(20)))
            assert (await client.get("a")) is not None
            assert (await client.auth_status()).user == "u"

    assert as_user(tmp_path, test, monkeypatch) == ["u"]


@pytest.mark.parametrize("path", ["auth/rotate", "users/u/logout"])
def test_an_ended_token_is_replaced_unseen(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(on: Guarded, client: Client) -> None:
        async with asyncio.timeout(30):
            await client.put("a", "1")
            watch = client.watch(prefix="a")
            reply = await on.native("POST", f"/v1/{path}", on.root)
            assert reply.status == 200, reply
            assert await asyncio.gather(*(client.put("a", "2") for _ in range(5)))
            async with watch:
                await client.put("a", "3")
                assert (await anext(aiter(watch))).value == b"3"

    assert as_user(tmp_path, test, monkeypatch) == ["u", "u"]


def test_a_watch_logs_in_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(on: Guarded, client: Client) -> None:
        async with asyncio.timeout(30):
            await client.get("a")
            await on.native("POST", "/v1/auth/rotate", on.root)
            async with client.watch(prefix="a"):
                pass

    assert as_user(tmp_path, test, monkeypatch) == ["u", "u"]


def test_what_is_refused_is_said(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        async with asyncio.timeout(30):
            async with Client(url(on.node), user="u", password="u's") as client:
                with pytest.raises(PermissionDenied):
                    await client.get("z")
                with pytest.raises(PermissionDenied):
                    await client.users()
                with pytest.raises(PermissionDenied):
                    async with client.watch(prefix="z"):
                        pass
            async with Client(url(on.node)) as nobody:
                with pytest.raises(Unauthenticated):
                    await nobody.get("a")
            async with Client(url(on.node), token="no token") as liar:
                with pytest.raises(Unauthenticated):
                    await liar.get("a")
            async with Client(url(on.node), token=on.user) as holder:
                assert (await holder.auth_status()).user == "u"
            async with Client(url(on.node), user="u", password="wrong") as guesser:
                with pytest.raises(Unauthenticated):
                    await guesser.get("a")

    guarded(tmp_path, test)


def test_with_authentication_off_a_password_does_no_harm(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with asyncio.timeout(30), Client(url(node), user="u", password="p") as client:
            await client.put("k", "1")
            await client.add_user("root", "r")
            await client.grant_role("root", "root")
            await client.add_user("u", "p")
            await client.auth_enable()
            assert (await client.auth_status()).user == "u"  # it logs in now
            with pytest.raises(PermissionDenied):
                await client.put("k", "2")

    on_node(tmp_path, test)


def test_users_and_roles(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        async with asyncio.timeout(30), Client(url(on.node), token=on.root) as client:
            await client.add_role("x")
            await client.grant_permission("x", "read", key=b"\xff")
            await client.grant_permission("x", "write", prefix="p/")
            await client.grant_permission("x", "readwrite", start="s", end="tt")
            await client.grant_permission("x", "read", start="u")
            await client.grant_scope("x", "backup")
            every = PermissionStatus("write", prefix=b"p/")
            assert await client.role("x") == RoleStatus(
                "x",
                (
                    every,
                    PermissionStatus("readwrite", start=b"s", end=b"tt"),
                    PermissionStatus("read", start=b"u"),
                    PermissionStatus("read", key=b"\xff"),
                ),
                ("backup",),
            )
            for taken in ({"key": b"\xff"}, {"prefix": "p/"}, {"start": "s", "end": "tt"}):
                await client.revoke_permission("x", **taken)  # type: ignore[arg-type]
            await client.revoke_scope("x", "backup")
            assert (await client.role("x")).scopes == ()
            await client.grant_permission("x", "read", prefix="")
            assert (await client.role("x")).permissions[0] == PermissionStatus("read", prefix=b"")
            name = "a/b ü?"
            await client.add_user(name, "p")
            await client.grant_role(name, "x")
            assert await client.user(name) == UserStatus(name, ("x",), True)
            await client.add_user("cert")
            assert not (await client.user("cert")).password
            assert [user.name for user in await client.users()] == [name, "cert", "root", "u"]
            assert await client.roles() == ("r", "root", "x")
            await client.revoke_role(name, "x")
            await client.delete_role("x")
            await client.delete_user(name)
            for refused in (client.add_role("r"), client.delete_user(name), client.role("x")):
                with pytest.raises(AuthChangeRefused):
                    await refused
            for wrong in (client.add_user("e", ""), client.grant_scope("r", "all")):
                with pytest.raises(InvalidArgument):
                    await wrong

    guarded(tmp_path, test)


def test_the_blocking_client_logs_in_too(tmp_path: Path) -> None:
    def block(endpoint: str) -> str | None:
        with BlockingClient(endpoint, user="u", password="u's") as store:
            store.put("a", "1")
            return store.auth_status().user

    async def test(on: Guarded) -> None:
        assert await asyncio.to_thread(block, url(on.node)) == "u"

    guarded(tmp_path, test)


@pytest.mark.parametrize(
    "given",
    [{"user": "u"}, {"password": "p"}, {"user": "u", "password": "p", "token": "t"},
     {"token": "a\nb"}, {"token": ""}],
)  # fmt: skip
def test_credentials_that_cannot_be(given: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        Client("http://127.0.0.1:1", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "meant"),
    [("127.0.0.1", "http://127.0.0.1:2379"), ("kv", "http://kv:2379"),
     ("[::1]", "http://[::1]:2379"), ("h:1", "http://h:1"), ("http://h", "http://h"),
     ("https://h/kv/", "https://h/kv")],
)  # fmt: skip
def test_an_endpoint_without_a_port_means_ours(text: str, meant: str) -> None:
    assert Client(text).endpoints == (meant,)


def test_a_password_in_an_endpoint_is_refused_and_not_shown() -> None:
    for text in ("http://ann:geheim@h:1", "ann:geheim@h:1", "https://geheim@h"):
        with pytest.raises(InvalidArgument) as caught:
            Client(text)
        assert "geheim" not in str(caught.value)
