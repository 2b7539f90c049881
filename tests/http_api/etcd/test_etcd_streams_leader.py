"""Who asks for a node that has a leader (`Grpc-Metadata-Hasleader`), and who waits for a turn."""

import asyncio
import json
from typing import Any

from kvstore.replica.leader_absence import ELECTION_TIMEOUTS
from tests.http_api.conftest import Served, Server
from tests.support.etcd_node import b64, encoded, error_of
from tests.support.etcd_stream import create, stream, until
from tests.support.raw_http import Reply, connect

HAS_LEADER = {"Grpc-Metadata-Hasleader": "true"}
NO_LEADER = (503, 14, "etcdserver: no leader")
LAST = {
    "error": {
        "grpc_code": 14,
        "http_code": 503,
        "message": "etcdserver: no leader",
        "http_status": "Service Unavailable",
    }
}


def lose_the_leader(served: Served, ticks: int = ELECTION_TIMEOUTS * 4) -> None:
    served.replica.leads = None
    for _ in range(ticks):
        served.replica.leader_absence.tick()


async def call(
    served: Served, path: str, headers: dict[str, str] | None = None, **fields: Any
) -> Reply:
    async with connect(served.address) as connection:
        body = json.dumps(encoded(fields)).encode()
        return await connection.call("POST", f"/v3/{path}", headers, body)


def test_a_call_that_asks_for_a_leader_is_refused_without_one(server: Server) -> None:
    async def run() -> None:
        async with server() as served:
            asked: dict[str, Any] = {"headers": HAS_LEADER, "key": b"k", "serializable": True}
            assert (await call(served, "kv/range", **asked)).status == 200
            lose_the_leader(served, 1)
            assert error_of(await call(served, "kv/range", **asked)) == NO_LEADER
            no = {**asked, "headers": {"Grpc-Metadata-Hasleader": "false"}}
            assert (await call(served, "kv/range", **no)).status == 200
            assert (await call(served, "kv/range", key=b"k", serializable=True)).status == 200

    asyncio.run(run())


def test_a_stream_that_asks_for_a_leader_ends_without_one(server: Server) -> None:
    async def run() -> None:
        async with server() as served:
            address, watch = served.address, create(b"k")
            async with (
                stream(address, "watch", watch, headers=HAS_LEADER) as asks,
                stream(address, "watch", watch) as does_not,
            ):
                for opened in (asks, does_not):
                    assert (await opened.result())["created"]
                lose_the_leader(served, ELECTION_TIMEOUTS * 4 - 1)
                await asks.nothing_yet()
                lose_the_leader(served, 1)
                assert json.loads(await asks.chunk()) == LAST
                assert await asks.chunk() == b""
                await does_not.nothing_yet()
                assert served.replica.feed.watchers == 1
            async with stream(address, "watch", watch, headers=HAS_LEADER) as opened:
                reply = await opened.reply()
                assert reply.status == 503 and reply.json() == LAST

    asyncio.run(run())


def test_nobody_waits_for_a_turn_at_a_node_without_a_leader(server: Server) -> None:
    """Its lease may be kept alive elsewhere: it would have the turn and not hear of it."""

    async def run() -> None:
        async with server() as served:
            for lease in (1, 2):
                await call(served, "lease/grant", TTL=60, ID=lease)
            for path in ("lock/lock", "election/campaign"):
                name = path.encode()
                assert (await call(served, path, name=name, lease=1)).status == 200
                waiting = asyncio.create_task(call(served, path, name=name, lease=2))
                await until(lambda: served.replica.feed.watchers == 2)
                lose_the_leader(served)
                async with asyncio.timeout(5):
                    assert error_of(await waiting) == NO_LEADER
                # It comes back with its lease, here or elsewhere, and finds its place.
                assert name + b"/2" in served.replica.keys
                served.replica.leads = 1
                served.replica.leader_absence.tick()
                again = asyncio.create_task(call(served, path, name=name, lease=2))
                await until(lambda: served.replica.feed.watchers == 2)
                await call(served, "kv/deleterange", key=name + b"/1")
                assert (await again).status == 200

    asyncio.run(run())


def test_observers_may_ask_for_a_leader_too(server: Server) -> None:
    async def run() -> None:
        async with server() as served:
            await call(served, "lease/grant", TTL=60, ID=1)
            await call(served, "election/campaign", name=b"E", lease=1, value=b"v")
            async with stream(
                served.address, "election/observe", {"name": b"E"}, headers=HAS_LEADER
            ) as opened:
                await opened.end_body()
                assert (await opened.message())["kv"]["value"] == b64(b"v")
                lose_the_leader(served)
                assert json.loads(await opened.chunk()) == LAST

    asyncio.run(run())
