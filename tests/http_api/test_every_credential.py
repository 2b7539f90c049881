"""Every call of both APIs with every credential that does not do, and with the scope that does."""

import asyncio
import base64
from pathlib import Path

import orjson
import pytest

from http_api.callers.tokens import Tokens
from http_api.core.calls import SCOPES, Need
from http_api.etcd.calls import StreamCall
from http_api.etcd.routes import etcd_calls
from http_api.server import native_calls
from kvstore.client import Client, PermissionDenied
from kvstore.state.rights import Caller
from tests.support.guarded_node import Guarded, guarded, log_in
from tests.support.raw_http import connect, request


async def bad_tokens(on: Guarded) -> dict[str, str]:
    """Tokens that prove nobody, each for another reason."""
    auth = on.node.replica.state.auth
    for name in ("leaver", "changer", "out"):
        await on.ok("auth/user/add", on.root, name=name, password="p")
    tokens = {name: await log_in(on.node, name, "p") for name in ("leaver", "changer", "out")}
    await on.ok("auth/user/delete", on.root, name="leaver")
    await on.ok("auth/user/changepw", on.root, name="changer", password="q")
    await on.native("POST", "/v1/users/out/logout", on.root)
    caller = Caller("root", auth.revision)
    body, _, signature = on.user.partition(".")
    return {
        **tokens,
        "": "",
        "wrong": "no token",
        "ended": Tokens(wall=lambda: 1.0).issue(caller, auth.secret),
        "forged": Tokens().issue(caller, b"another secret"),
        "another's": f"{on.root.partition('.')[0]}.{signature}",
        "changed": f"{body[:-2]}AA.{signature}",
    }


def target_of(path: str) -> str:
    return path.replace("{key}", "z").replace("{id}", "7").replace("{name}", "root")


async def native(on: Guarded, method: str, path: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else None
    async with connect(on.node.address) as connection:
        await connection.send(request(method, target_of(path), headers))
        return await connection.status()


async def etcd(on: Guarded, path: str, token: str) -> bytes:
    """The first bytes of the body, however it is framed."""
    headers = {"Authorization": token} if token else None
    body = b'{"create_request":{"key":"eg=="}}' if path.endswith("/watch") else b'{"key":"eg=="}'
    async with connect(on.node.address) as connection:
        await connection.send(request("POST", path, headers, body))
        await connection.until(b"\r\n\r\n")
        return await connection.until(b"}}" if path.endswith("/watch") else b"}")


@pytest.mark.proof
def test_credentials_that_prove_nobody(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        bad = await bad_tokens(on)
        revision = on.node.replica.state.auth.revision
        for call in native_calls():
            if call.need is Need.OPEN:
                continue
            for why, token in bad.items():
                assert await native(on, call.method, call.path, token) == 401, (call.path, why)
        for row in etcd_calls(on.node.http._access):
            if row.need is Need.OPEN:
                continue
            for why, token in bad.items():
                said = await etcd(on, row.path, token)
                refused = b"user name is empty" if not token else b"invalid auth token"
                other = (b"not provided", b"is empty")  # a fault that is told to everybody
                assert refused in said or any(each in said for each in other), (row.path, why, said)
        assert on.node.replica.state.auth.revision == revision
        assert (await on.native("GET", "/v1/users", on.root)).status == 200

    guarded(tmp_path, test)


@pytest.mark.proof
@pytest.mark.parametrize("scope", ["none", "cluster", "backup", "users", "watch", "metrics"])
def test_a_scope_opens_its_calls_and_no_other(tmp_path: Path, scope: str) -> None:
    async def test(on: Guarded) -> None:
        await on.ok("auth/role/add", on.root, name="s")
        if scope != "none":
            body = orjson.dumps({"scope": scope})
            assert (await on.native("POST", "/v1/roles/s/grant", on.root, body)).status == 200
        await on.ok("auth/user/add", on.root, name="holder", password="p")
        await on.ok("auth/user/grant", on.root, user="holder", role="s")
        token = await log_in(on.node, "holder", "p")
        for call in native_calls():
            if call.need not in SCOPES and call.need is not Need.ROOT:
                continue
            status = await native(on, call.method, call.path, token)
            opened = call.need in SCOPES and SCOPES[call.need] == scope
            # Nothing about root may be done by who manages users.
            denied = not opened or (scope == "users" and "{name}" in call.path)
            assert (status == 403) <= denied, (call.path, status)
            assert opened or status == 403, (call.path, status)
        for row in etcd_calls(on.node.http._access):
            if isinstance(row, StreamCall) or row.need not in SCOPES:
                continue
            said = await etcd(on, row.path, token)
            if SCOPES[row.need] != scope:
                fault = b"permission not given"  # of the message, which is told to everybody
                assert b"permission denied" in said or fault in said, row.path
        for path in ("/v1/kv/z", "/v1/kv?prefix="):
            assert await native(on, "GET", path, token) == 403  # no scope reads a key
        watch = 200 if scope == "watch" else 403
        assert await native(on, "GET", "/v1/watch?prefix=", token) == watch

    guarded(tmp_path, test)


def test_a_native_watch_ends_with_its_right(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        async with connect(on.node.address) as connection:
            headers = {"Authorization": on.user}
            await connection.send(request("GET", "/v1/watch?prefix=a", headers))
            await connection.until(b"event: ready")
            await on.ok("kv/put", on.root, key=b"a1", value=b"seen")
            assert b"seen" in await connection.until(b'"seen"')
            await on.ok("auth/role/add", on.root, name="other")  # a change that leaves the right
            await on.ok("kv/put", on.root, key=b"a2", value=b"seen too")
            await connection.until(b'"seen too"')
            await on.ok("auth/user/revoke", on.root, name="u", role="r")
            await on.ok("kv/put", on.root, key=b"a3", value=b"secret")
            rest = await connection.until(b"0\r\n\r\n")
        assert b"event: denied" in rest and b"permission-denied" in rest
        assert b"secret" not in rest

    guarded(tmp_path, test)


@pytest.mark.parametrize("how", ["revoke", "logout", "enable"])
def test_a_watch_of_etcds_ends_with_its_right(tmp_path: Path, how: str) -> None:
    async def test(on: Guarded) -> None:
        if how == "enable":
            await on.ok("auth/disable", on.root)
        create = base64.b64encode(b"a").decode()
        body = orjson.dumps({"create_request": {"key": create, "range_end": "Yg=="}})
        headers = {} if how == "enable" else {"Authorization": on.user}
        async with connect(on.node.address) as connection:
            await connection.send(request("POST", "/v3/watch", headers, body))
            await connection.until(b'"created":true')
            if how == "enable":
                await on.ok("auth/enable")
                on.root = await log_in(on.node, "root", "root's")
            elif how == "logout":
                await on.native("POST", "/v1/users/u/logout", on.root)
            else:
                await on.ok("auth/role/revoke", on.root, role="r", key=b"a", range_end=b"b")
            await on.ok("kv/put", on.root, key=b"a1", value=b"secret")
            async with asyncio.timeout(30):
                rest = await connection.until(b'"cancel_reason"')
        assert b'"canceled":true' in rest and b"events" not in rest

    guarded(tmp_path, test)


def test_the_client_hears_why_its_watch_has_ended(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        url = f"http://{on.node.address[0]}:{on.node.address[1]}"
        async with (
            asyncio.timeout(30),
            Client(url, token=on.user) as client,
            client.watch(prefix="a") as watch,
        ):
            await on.ok("auth/user/revoke", on.root, name="u", role="r")
            await on.ok("kv/put", on.root, key=b"a3", value=b"secret")
            with pytest.raises(PermissionDenied):
                await anext(aiter(watch))

    guarded(tmp_path, test)
