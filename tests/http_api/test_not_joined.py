"""A node that has not caught up with its own membership shows nothing of its own state."""

import asyncio
import json
from base64 import b64encode
from types import SimpleNamespace

import pytest

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
from kvstore.commands.commands import Put
from paxos.ballot import ZERO
from paxos.messages import LogEntry
from tests.http_api.conftest import Served, Server
from tests.support.event_source import watch
from tests.support.raw_http import Reply, connect

LOCAL = "consistency=serializable"
LOCAL_READS = (f"kv/k?{LOCAL}", f"kv/k?{LOCAL}&history=true", f"kv?{LOCAL}", f"leases?{LOCAL}")
K = b64encode(b"k").decode()


async def call(served: Served, target: str) -> Reply:
    async with connect(served.address) as connection:
        return await connection.call("GET", f"/v1/{target}")


async def etcd(served: Served, path: str, document: object) -> Reply:
    async with connect(served.address) as connection:
        body = json.dumps(document).encode()
        return await connection.call("POST", f"/v3/{path}", {}, body)


def behind(served: Served) -> None:
    """It has applied one write, of a time before its own."""
    served.replica.apply(Put(b"k", b"old"))
    served.replica.joined = False


def test_its_own_state_is_refused_until_it_is_there(server: Server) -> None:
    async def run() -> None:
        async with server() as served:
            behind(served)
            for target in LOCAL_READS:
                reply = await call(served, target)
                assert (reply.status, reply.json()["type"]) == (503, "/problems/not-ready"), target
                assert "ask another" in reply.json()["detail"]
            for more in ({}, {"range_end": K}):  # in the hot lane, and in aiohttp's
                reply = await etcd(served, "kv/range", {"key": K, "serializable": True, **more})
                assert (reply.status, reply.json()["code"]) == (503, 14)
            assert served.replica.timeouts == []
            served.replica.joined = True
            for target in LOCAL_READS:
                assert (await call(served, target)).status == 200
            reply = await etcd(served, "kv/range", {"key": K, "serializable": True})
            assert reply.status == 200

    asyncio.run(run())


def test_a_revision_that_it_has_is_read_behind_a_barrier(server: Server) -> None:
    """The rights of the moment are not there yet."""

    async def run() -> None:
        async with server() as served:
            behind(served)
            for barriers, joined in ((1, False), (1, True)):
                served.replica.joined = joined
                assert (await call(served, "kv/k?revision=2")).body == b"old"
                assert len(served.replica.timeouts) == barriers

    asyncio.run(run())


def test_what_its_log_holds_is_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rights that it has so far everybody would be an administrator."""

    async def run() -> None:
        async with server() as served:
            behind(served)
            bundle = encode(Bundle(1, 1, 1, 1, (Put(b"k", b"v"),)))
            entry = LogEntry(1, ZERO, encode(Batch(0, (bundle,), ())))
            node = SimpleNamespace(acceptor=SimpleNamespace(log={1: entry}))
            monkeypatch.setattr(served.replica.recorder, "node", node)
            assert (await call(served, "node/slots/1")).json()["commands"] is None
            served.replica.joined = True
            assert "k" in str((await call(served, "node/slots/1")).json()["commands"])

    asyncio.run(run())


def test_a_watch_goes_elsewhere(server: Server) -> None:
    """Else it shows what happened long ago as if it happened now."""

    async def run() -> None:
        async with server() as served:
            behind(served)
            async with watch(served.address, "prefix=") as source:
                told = await source.next()
                assert told is not None and told.kind == "no-leader"
                assert "not caught up" in told.data["detail"]
                assert await source.next() is None
            reply = await etcd(served, "watch", {"create_request": {"key": K}})
            assert (reply.status, reply.json()["error"]["grpc_code"]) == (503, 14)

    asyncio.run(run())
