"""The native API is closed while authentication is on, but for who may."""

import asyncio
import base64
import re
from pathlib import Path

import pytest

from http_api.callers.authentication import Access
from kvstore.commands.accounts import AddUser
from kvstore.commands.commands import Administer, Compact, Put
from kvstore.commands.results import Compacted, Written
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import (
    NO_USER,
    Guarded,
    guarded,
)
from tests.support.raw_http import Connection, connect, request


def test_the_caller_of_one_request_is_not_that_of_the_next(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        await on.ok("kv/put", on.root, key=b"z")
        assert await on.refused("kv/put", key=b"z") == NO_USER
        assert (await on.native("PUT", "/v1/kv/z", on.root, b"1")).status == 200
        assert await on.refused("kv/put", key=b"z") == NO_USER
        assert (await on.native("PUT", "/v1/kv/z", "", b"1")).status == 401
        await on.ok("lease/grant", on.root, TTL=60, ID=7)
        await on.ok("kv/put", on.root, key=b"z", lease=7)
        assert await on.refused("lease/timetolive", ID=7, keys=True) == NO_USER

    guarded(tmp_path, test)


def test_a_node_that_does_not_know_yet_that_it_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests are refused where they are applied, whoever was served before."""

    async def test(on: Guarded) -> None:
        assert (await on.native("PUT", "/v1/kv/z", on.root, b"1")).status == 200
        monkeypatch.setattr(Access, "enabled", False)
        assert (await on.native("PUT", "/v1/kv/z", "", b"1")).status == 401
        assert (await on.native("GET", "/v1/kv/z")).status == 401
        assert await on.refused("kv/put", key=b"z") == NO_USER
        assert await on.refused("kv/range", key=b"z") == NO_USER

    guarded(tmp_path, test)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


NATIVE: list[tuple[str, str, bytes]] = [
    ("GET", "/v1/kv/z", b""),
    ("GET", "/v1/kv/z?consistency=serializable", b""),
    ("GET", "/v1/kv/z?revision=3", b""),
    ("GET", "/v1/kv/z?history", b""),
    ("PUT", "/v1/kv/z", b"x"),
    ("PUT", "/v1/kv/z?ttl=60", b"x"),
    ("DELETE", "/v1/kv/z", b""),
    ("GET", "/v1/kv?prefix=z", b""),
    ("GET", "/v1/kv", b""),
    ("GET", "/v1/kv?prefix=a&end=z", b""),
    ("GET", "/v1/watch?key=z", b""),
    ("GET", "/v1/watch?prefix=", b""),
    ("HEAD", "/v1/kv/z", b""),
    ("POST", "/v1/txn", b'{"then":[{"get":{"key":"z"}}]}'),
    ("POST", "/v1/txn", b'{"then":[{"txn":{"then":[{"put":{"key":"z","value":""}}]}}]}'),
    ("POST", "/v1/compact", b'{"revision":2}'),
    ("POST", "/v1/cluster/handover", b"{}"),
]


def test_the_native_api_is_no_back_door(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        revision = on.node.replica.state.revision
        for method, path, body in NATIVE:
            for authorization, statuses in (
                ("", {401}),
                ("bad.1", {401}),
                (basic("u", "wrong"), {401, 429}),
                (on.user, {400} if "prefix=a&end" in path else {403}),
            ):
                reply = await on.native(method, path, authorization, body)
                assert reply.status in statuses, (method, path, authorization, reply)
                assert b"secret" not in reply.body
                if method == "HEAD":
                    continue
                if reply.status == 401:
                    assert reply.headers["www-authenticate"] == 'Bearer realm="kvstore"'
                    assert reply.json()["type"] == "/problems/unauthenticated"
                elif reply.status == 403:
                    assert reply.json()["type"] == "/problems/permission-denied"
        assert on.node.replica.state.revision == revision

    guarded(tmp_path, test)


async def batch(on: Guarded) -> list[int]:
    """The statuses of three operations of u, of which it may do the first."""
    body = b'[{"get":{"key":"a"}},{"get":{"key":"z"}},{"put":{"key":"z","value":""}}]'
    headers = {"Authorization": on.user, "Connection": "close"}
    async with connect(on.node.address) as connection:
        await connection.send(request("POST", "/v1/batch", headers, body))
        answer = await connection.ended()
    return [int(status) for status in re.findall(rb'"status":(\d+),"(?:get|put|problem)"', answer)]


def test_the_fast_lane_is_no_back_door(tmp_path: Path) -> None:
    """A connection that has asked for nothing else yet; with a token and without."""

    async def test(on: Guarded) -> None:
        async with connect(on.node.address) as connection:
            for _ in range(2):
                assert (await connection.call("PUT", "/v1/kv/a", None, b"x")).status == 401
                assert (await connection.call("GET", "/v1/kv/a")).status == 401
            headers = {"Authorization": on.user}
            assert (await connection.call("GET", "/v1/kv/a", headers)).body == b"1"
            assert (await connection.call("GET", "/v1/kv/a")).status == 401

    guarded(tmp_path, test)


async def one_status(connection: Connection) -> int:
    """Of the next answer, which is read to its end."""
    head = await connection.until(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    await connection._reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(b" ", 2)[1])


def test_pipelined_requests_are_each_their_senders(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        senders = [on.root, on.user, "", on.user, on.root, on.root]
        async with connect(on.node.address) as connection:
            for method, statuses in (
                ("PUT", [200, 403, 401, 403, 200, 200]),
                ("GET", [200, 403, 401, 403, 200, 200]),
            ):
                pieces = []
                for number, sender in enumerate(senders):
                    headers = {"Authorization": f"Bearer {sender}"} if sender else {}
                    body = b"v" if method == "PUT" else b""
                    pieces.append(request(method, f"/v1/kv/z{number}", headers, body))
                await connection.send(b"".join(pieces))
                assert [await one_status(connection) for _ in senders] == statuses
            assert on.node.http._lanes is not None
            assert len(on.node.http._lanes.open) == 1, "it stayed in the fast lane"

    guarded(tmp_path, test)


def test_the_native_api_with_rights(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        for authorization in (on.user, f"Bearer {on.user}", basic("u", "u's")):
            reply = await on.native("PUT", "/v1/kv/a", authorization, b"x")
            assert reply.status == 200
            reply = await on.native("GET", "/v1/kv/a", authorization)
            assert (reply.status, reply.body) == (200, b"x")
            reply = await on.native("GET", "/v1/kv?prefix=a", authorization)
            assert reply.status == 200 and len(reply.json()["items"]) == 1
            assert (await on.native("GET", "/v1/cluster", authorization)).status == 200
            assert (await on.native("GET", "/v1/leases", authorization)).status == 200
        assert await batch(on) == [200, 403, 403]
        reply = await on.native("POST", "/v1/compact", on.root, b'{"revision":2}')
        assert reply.status == 200
        for path in ("/healthz", "/readyz", "/openapi.json", "/"):
            assert (await on.native("GET", path)).status == 200
        assert (await on.native("GET", "/metrics")).status == 401
        await on.ok("auth/user/changepw", on.root, name="u", password="new")
        assert (await on.native("GET", "/v1/kv/a", basic("u", "u's"))).status == 401
        assert (await on.native("GET", "/v1/kv/a", basic("u", "new"))).status == 200

    guarded(tmp_path, test)


def test_commands_that_name_no_user_are_refused_by_the_replica(tmp_path: Path) -> None:
    """Whatever a face forgets, or a lagging node does not know yet."""

    async def test(on: Guarded) -> None:
        replica = on.node.replica
        revision, users = replica.state.revision, dict(replica.state.auth.users)
        for command in (Put(b"a", b""), Compact(2), Administer(AddUser("x", b""))):
            result = await replica.execute(command, 5)
            assert not isinstance(result, Written | Compacted)
        assert (replica.state.revision, replica.state.auth.users) == (revision, users)

    guarded(tmp_path, test)


def test_many_logins_at_once_are_refused_before_they_cost(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        async def attempt() -> int:
            async with connect(on.node.address) as connection:
                body = b'{"name":"u","password":"x"}'
                return (await connection.call("POST", "/v3/auth/authenticate", None, body)).status

        statuses = await asyncio.gather(*(attempt() for _ in range(80)))
        assert set(statuses) == {400, 429}

    guarded(tmp_path, test)


@pytest.mark.parametrize("authorization", ["", "anything"])
def test_while_off_the_native_api_asks_nobody(tmp_path: Path, authorization: str) -> None:
    async def test(node: EtcdNode) -> None:
        headers = {"Authorization": authorization} if authorization else None
        assert (await node.connection.call("PUT", "/v1/kv/k", headers, b"v")).status == 200
        assert (await node.connection.call("GET", "/v1/kv/k", headers)).body == b"v"

    on_node(tmp_path, test)


def test_the_right_to_read_everything(tmp_path: Path) -> None:
    """A right from the lowest key on covers what begins before it: there are no keys between."""

    async def test(on: Guarded) -> None:
        perm = {"permType": "READWRITE", "key": b"\0", "range_end": b"\0"}
        await on.ok("auth/role/grant", on.root, name="r", perm=perm)
        bearer = f"Bearer {on.user}"
        for query in ("", "?prefix=", "?start=", "?end=m", "?order=desc"):
            assert (await on.native("GET", f"/v1/kv{query}", bearer)).status == 200, query
        for body in (b'{"then":[{"get":{"prefix":""}}]}', b'{"then":[{"delete":{"end":"a"}}]}'):
            assert (await on.native("POST", "/v1/txn", bearer, body)).status == 200
        async with connect(on.node.address) as c:
            headers = {"Authorization": bearer}
            await c.send(request("GET", "/v1/watch?prefix=", headers))
            assert await c.status() == 200

    guarded(tmp_path, test)


def test_bounds_of_listings_are_bounded(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        for name in ("start", "end", "prefix"):
            reply = await on.native("GET", f"/v1/kv?{name}={'k' * 2000}", f"Bearer {on.root}")
            assert reply.status == 400 and reply.json()["parameter"] == name

    guarded(tmp_path, test)


def test_an_idempotency_key_belongs_to_its_user(tmp_path: Path) -> None:
    """Failing schedule otherwise: who takes another's key first spoils the other's write, and
    learns from the answer that there was one."""

    async def test(on: Guarded) -> None:
        calls = (
            ("PUT", "/v1/kv/a", b"%b"),
            ("PUT", "/v1/kv/a2?ttl=60", b"%b"),
            ("POST", "/v1/leases", b'{"ttl_s":60}'),
            ("POST", "/v1/txn", b'{"then":[{"put":{"key":"a3","value":"%b"}}]}'),
            ("DELETE", "/v1/kv/a4", b""),
        )
        for number, (method, path, body) in enumerate(calls):
            for name, token in (("u", on.user), ("root", on.root)):
                headers = {"Authorization": token, "Idempotency-Key": f"key{number}"}
                sent = body.replace(b"%b", name.encode())
                first = await on.node.connection.call(method, path, headers, sent)
                assert first.status in (200, 201), (path, name, first)
                again = await on.node.connection.call(method, path, headers, sent)
                assert (again.status, again.body) == (first.status, first.body), (path, name)
        reply = await on.native("GET", "/v1/kv/a", on.user)
        assert (reply.body, reply.headers["x-version"]) == (b"root", "3")

    guarded(tmp_path, test)
