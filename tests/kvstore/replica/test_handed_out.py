"""No copy that a client gets holds the secret that signs tokens; who has one is not root."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from http_api.callers.tokens import Tokens
from http_api.core import session
from kvstore.client import Client, Unauthenticated
from kvstore.replica.handed_out import strip_secret
from kvstore.state.rights import Caller
from kvstore.storage.state import StateStore
from tests.support.etcd_node import etcd_node
from tests.support.guarded_node import Guarded, guard, guarded, log_in, send
from tests.support.raw_http import connect, request


async def snapshot(on: Guarded) -> bytes:
    """The file that a client stores."""
    async with connect(on.node.address) as connection:
        headers = {"Connection": "close", "Authorization": on.root}
        await connection.send(request("POST", "/v3/maintenance/snapshot", headers, b"{}"))
        answer = await connection.ended()
    _, _, body = answer.partition(b"\r\n\r\n")
    blobs = b""
    while body:  # chunks
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        for line in rest[:length].splitlines():
            blobs += base64.b64decode(json.loads(line)["result"]["blob"])
        body = rest[length + 2 :]
    return blobs[:-32]


def test_a_snapshot_makes_nobody_root(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        auth = on.node.replica.state.auth
        for number in range(5):  # several generations of the record, on several pages
            await on.native("POST", "/v1/auth/rotate", on.root)
            on.root = await log_in(on.node, "root", "root's")
            await on.ok("kv/put", on.root, key=b"k%d" % number, value=b"v" * 5000)
        secret = auth.secret
        assert len(secret) == 32
        copy = await snapshot(on)
        assert b"v" * 5000 in copy and b"root" in copy
        assert secret not in copy
        assert auth.secret == secret  # the node's own state is as it was
        assert (await on.native("GET", "/v1/users", on.root)).status == 200

    guarded(tmp_path, test)


def test_a_copy_that_is_not_stripped_would_make_one_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack that this is for; and rotation ends it."""

    async def test(on: Guarded) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(session, "strip_secret", lambda path: None)
            copy = await snapshot(on)
        secret = on.node.replica.state.auth.secret
        assert secret in copy
        forged = Tokens().issue(Caller("root", on.node.replica.state.auth.revision), secret)
        assert (await on.native("GET", "/v1/users", forged)).status == 200
        changed = await on.native(
            "PUT", "/v1/users/root/password", on.root, b'{"password":"another"}'
        )
        assert changed.status == 200
        on.root = await log_in(on.node, "root", "another")
        forged = Tokens().issue(Caller("root", on.node.replica.state.auth.revision), secret)
        assert (await on.native("GET", "/v1/users", forged)).status == 200, "as the report said"
        await on.native("POST", "/v1/auth/rotate", on.root)
        forged = Tokens().issue(Caller("root", on.node.replica.state.auth.revision), secret)
        assert (await on.native("GET", "/v1/users", forged)).status == 401

    guarded(tmp_path, test)


def test_a_restored_state_gets_a_secret_at_the_first_login(tmp_path: Path) -> None:
    async def run() -> None:
        async with etcd_node(tmp_path) as node:
            on = await guard(node)
            before = node.replica.state.auth.secret
        strip_secret(tmp_path / "node" / "state.mdb")
        async with etcd_node(tmp_path) as node:
            assert node.replica.state.auth.secret == b"" and node.replica.state.auth.enabled
            reply = await send(node, "kv/range", on.root, "Authorization", {"key": b"a"})
            assert reply.status == 401
            with pytest.raises(Unauthenticated):
                async with Client(f"http://{node.address[0]}:{node.address[1]}") as nobody:
                    await nobody.get("a")
            url = f"http://{node.address[0]}:{node.address[1]}"
            async with Client(url, user="u", password="u's") as client:
                assert (await client.get("a")) is not None
            assert len(node.replica.state.auth.secret) == 32
            assert node.replica.state.auth.secret != before

    asyncio.run(run())


def test_a_state_without_users_is_left_alone(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.mdb")
    store.tables["keys"].put(b"k", b"v")
    assert store.freeze()
    store.write_frozen(lambda _: None)
    store.finish()
    store.close()
    strip_secret(tmp_path / "state.mdb")
    again = StateStore(tmp_path / "state.mdb")
    assert again.tables["keys"].get(b"k") == b"v"
    again.close()
