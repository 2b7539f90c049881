"""What somebody without rights costs: no slot of the log, and no decoding of what they send."""

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from http_api.etcd import decode
from kvstore.commands.commands import KEY_BYTES_MAX
from tests.support.guarded_node import DENIED, NO_USER, Guarded, guarded
from tests.support.raw_http import Reply, connect, request

EMPTY_COMPARES = b'{"compare":[' + b"{}," * 1_390_000 + b"{}]}"


# -- rights before replication --------------------------------------------------------------


def test_a_refused_write_takes_no_slot(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        applied = on.node.replica.state.applied_through
        for token, told in (("", NO_USER), (on.user, DENIED)):
            assert await on.refused("kv/put", token, key=b"z") == told
            assert await on.refused("kv/deleterange", token, key=b"z") == told
            compare = {"compare": [{"key": b"z"}], "success": []}
            assert await on.refused("kv/txn", token, **compare) == told
            assert await on.refused("auth/user/delete", token, name="x") == told
            assert await on.refused("auth/role/add", token, name="x") == told
            authorization = f"Bearer {token}" if token else ""
            for method, path in (("PUT", "/v1/kv/z"), ("DELETE", "/v1/kv/z")):
                reply = await on.native(method, path, authorization, b"v")
                assert reply.status == (403 if token else 401)
            async with connect(on.node.address) as connection:
                batch = b'[{"put":{"key":"z","value":"v"}}]'
                headers = {"Authorization": authorization}
                await connection.send(request("POST", "/v1/batch", headers, batch))
                assert await connection.status() == (200 if token else 401)
                await connection.until(b"permission-denied" if token else b"unauthenticated")
        assert on.node.replica.state.applied_through == applied
        await on.ok("kv/put", on.user, key=b"a")

    guarded(tmp_path, test)


def test_a_right_that_this_node_learns_of_by_the_barrier_counts(tmp_path: Path) -> None:
    """The refusal is as of a barrier: what another node has acknowledged must not be refused."""

    async def test(on: Guarded) -> None:
        replica = on.node.replica
        barrier, given = replica.barrier, asyncio.Event()

        def late(timeout_s: float) -> "asyncio.Future[None]":
            async def run() -> None:
                perm = {"permType": "WRITE", "key": b"z"}
                if not given.is_set():
                    given.set()
                    async with connect(on.node.address) as connection:
                        body = orjson.dumps({"name": "r", "perm": {**perm, "key": "eg=="}})
                        headers = {"Authorization": on.root}
                        path = "/v3/auth/role/grant"
                        reply = await connection.call("POST", path, headers, body)
                        assert reply.status == 200
                await barrier(timeout_s)

            return asyncio.ensure_future(run())

        replica.barrier = late  # type: ignore[method-assign]
        await on.ok("kv/put", on.user, key=b"z", value=b"now")
        assert given.is_set()

    guarded(tmp_path, test)


# -- credentials before decoding ------------------------------------------------------------


async def _post(on: Guarded, path: str, body: bytes, token: str = "") -> tuple[Reply, float]:
    """The answer, and the longest time for which the loop stood still meanwhile: in seconds of the
    processor, which other processes may take away for any time."""
    longest = 0.0
    headers = {"Authorization": token} if token else None

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.process_time()
            await asyncio.sleep(0)
            longest = max(longest, time.process_time() - before)

    watching = asyncio.create_task(watch())
    async with connect(on.node.address) as connection:
        reply = await connection.call("POST", path, headers, body)
    watching.cancel()
    return reply, longest


@pytest.mark.parametrize("prefix", ["/v3/", "/v3beta/"])
def test_a_large_body_from_nobody_is_not_decoded(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(on: Guarded) -> None:
        monkeypatch.setattr(decode, "parse", None)
        for path in ("kv/txn", "kv/put", "lock/lock", "auth/user/add"):
            reply, _ = await _post(on, prefix + path, EMPTY_COMPARES)
            assert "user name is empty" in reply.json()["error"]
            reply, _ = await _post(on, prefix + path, EMPTY_COMPARES, "bad.token")
            assert "invalid auth token" in reply.json()["error"]

    guarded(tmp_path, test)


def test_what_a_body_may_hold_is_counted_before_it_is_built(tmp_path: Path) -> None:
    """A transaction of empty compares, 4 MiB, took the loop 4.8 s."""

    async def test(on: Guarded) -> None:
        reply, stall_s = await _post(on, "/v3/kv/txn", EMPTY_COMPARES, on.root)
        assert (reply.status, reply.json()["code"]) == (400, 3)
        assert "8192 fields and items" in reply.json()["error"]
        assert stall_s < 0.25, "1.4 million objects take seconds"
        for path, body in (
            ("/v1/txn", b'{"compare":[' + b"{}," * 600_000 + b"{}]}"),
            ("/v1/batch", b"[" + b"0," * 4_000_000 + b"0]"),
        ):
            reply, stall_s = await _post(on, path, body, f"Bearer {on.root}")
            assert reply.status == 400
            assert "16384 fields and items" in reply.json()["detail"]
            assert stall_s < 0.25

    guarded(tmp_path, test)


def test_a_batch_of_empty_lines_is_refused_by_counting(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        headers = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {on.root}"}
        async with connect(on.node.address) as connection:
            reply = await connection.call("POST", "/v1/batch", headers, b"\n" * (8 << 20))
        assert reply.status == 400 and reply.json()["maximum"] == 1000

    guarded(tmp_path, test)


def test_a_stream_of_small_documents_lets_others_in(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        for body in (b"{}" * 500_000, b'{"create_request":{"filters":[' + b"{}," * 600_000):
            stall_s = await _stall_of_stream(on, body)
            assert stall_s < 0.25

    guarded(tmp_path, test)


async def _stall_of_stream(on: Guarded, body: bytes) -> float:
    longest = 0.0
    head = b"POST /v3/watch HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with connect(on.node.address) as connection:
        sending = asyncio.create_task(connection.send(head + body))
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            before = time.process_time()
            await asyncio.sleep(0)
            longest = max(longest, time.process_time() - before)
        sending.cancel()
    return longest


# -- bounds of names ------------------------------------------------------------------------


TOO_LONG: list[tuple[str, dict[str, Any]]] = [
    ("auth/authenticate", {"name": "n" * 257}),
    ("auth/authenticate", {"name": "u", "password": "p" * 1025}),
    ("auth/user/add", {"name": "é" * 129}),
    ("auth/user/add", {"name": "n", "password": "p" * 1025}),
    ("auth/user/get", {"name": "n" * 257}),
    ("auth/user/delete", {"name": "n" * 257}),
    ("auth/user/changepw", {"name": "n" * 257}),
    ("auth/user/grant", {"user": "n" * 257, "role": "r"}),
    ("auth/user/grant", {"user": "u", "role": "r" * 257}),
    ("auth/user/revoke", {"name": "u", "role": "r" * 257}),
    ("auth/user/revoke", {"name": "u" * 257, "role": "r"}),
    ("auth/role/add", {"name": "r" * 257}),
    ("auth/role/get", {"role": "r" * 257}),
    ("auth/role/delete", {"role": "r" * 257}),
    ("auth/role/grant", {"name": "r" * 257, "perm": {"key": b"a"}}),
    ("auth/role/grant", {"name": "r", "perm": {"key": b"k" * (KEY_BYTES_MAX + 1)}}),
    ("auth/role/grant", {"name": "r", "perm": {"range_end": b"k" * (KEY_BYTES_MAX + 2)}}),
    ("auth/role/revoke", {"role": "r" * 257, "key": b"a"}),
    ("auth/role/revoke", {"role": "r", "key": b"k" * (KEY_BYTES_MAX + 1)}),
    ("auth/role/revoke", {"role": "r", "range_end": b"k" * (KEY_BYTES_MAX + 2)}),
]


def test_every_name_and_key_of_users_and_roles_is_bounded(tmp_path: Path) -> None:
    """20 grants with keys of 1.4 MB at once made a frame that no member accepts."""

    async def test(on: Guarded) -> None:
        applied = on.node.replica.state.applied_through
        for path, message in TOO_LONG:
            status, code, text = await on.refused(path, on.root, **message)
            assert (status, code) == (400, 3) and "has at most" in text, (path, text)
        assert on.node.replica.state.applied_through == applied

    guarded(tmp_path, test)
