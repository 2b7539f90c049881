"""Requests that ask for much: what each does in one turn of the loop, and how one ends that
compaction overtakes or that nobody reads. Work is counted, not timed."""

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from http_api.limits import slices
from kvstore.commands.commands import Compact, Grant, Put
from kvstore.commands.operations import TxnPut
from tests.http_api.conftest import Served, Server
from tests.support.driven_state import then
from tests.support.etcd_node import b64
from tests.support.raw_http import WAIT_S, connect, request
from tests.support.work_meter import WorkMeter

KEYS, LEASES, OFTEN = 6_000, 3_000, 1_500
TURN_MAX = 1_900
"""Entries of tables that one turn of the loop may read and write."""
WHOLE = {"key": b64(b"k"), "range_end": b64(b"l")}

Ask = Callable[[Served], Coroutine[Any, Any, None]]


def fill(served: Served) -> None:
    apply = served.replica.apply
    apply(*(Put(b"k%06d" % at, b"v") for at in range(KEYS)))
    apply(*(Grant(lease, 600) for lease in range(1, LEASES + 1)))
    for some in range(60):
        apply(then(*(TxnPut(b"t%d" % at, b"%d" % some) for at in range(100))))
    apply(*(Put(b"often", b"%d" % at) for at in range(OFTEN)))


async def answered(served: Served, method: str, target: str, body: object = None) -> None:
    """The whole answer, which is 200."""
    data = b"" if body is None else json.dumps(body).encode()
    async with connect(served.address) as connection:
        await connection.send(request(method, target, {"Connection": "close"}, data))
        answer = await connection.ended()
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:400]


def etcd(call: str, **message: Any) -> Ask:
    return lambda served: answered(served, "POST", f"/v3/{call}", message)


def native(target: str) -> Ask:
    return lambda served: answered(served, "GET", target)


async def watch(served: Served) -> None:
    async with connect(served.address) as connection:
        await connection.send(request("GET", "/v1/watch?prefix=&from_revision=2"))
        last = b"id: %d\n" % served.replica.state.revision
        await connection.until(b"\n\n")  # the head may end so, too
        while last not in await connection.until(b"\n\n"):
            pass


async def batch(served: Served) -> None:
    puts = [{"put": {"key": f"b{at}", "value": "v"}} for at in range(1000)]
    await answered(served, "POST", "/v1/batch", puts)


async def many(served: Served) -> None:
    await asyncio.gather(*(etcd("kv/range", **WHOLE, count_only=True)(served) for _ in range(9)))


COUNT = {"request_range": {**WHOLE, "count_only": True}}
LONG: dict[str, Ask] = {
    "range": etcd("kv/range", **WHOLE),
    "descending": etcd("kv/range", **WHOLE, sort_order="DESCEND", keys_only=True),
    "sorted": etcd("kv/range", **WHOLE, sort_target="VALUE", sort_order="DESCEND"),
    "old": etcd("kv/range", **WHOLE, revision=KEYS + 1),
    "count": etcd("kv/range", **WHOLE, count_only=True),
    "nine counts": many,
    "counts in a transaction": etcd("kv/txn", success=[COUNT] * 5),
    "leases": etcd("lease/leases"),
    "native leases": native("/v1/leases"),
    "page": native("/v1/kv?prefix=&limit=1000"),
    "history": native("/v1/kv/often?history&limit=1000"),
    "watch": watch,
    "batch": batch,
}


@pytest.mark.parametrize("name", LONG)
def test_no_turn_does_much(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)  # a slice is one step

    async def run() -> None:
        async with server() as served:
            fill(served)
            meter = WorkMeter(monkeypatch)
            turns = asyncio.create_task(meter.run())
            await LONG[name](served)
            turns.cancel()
            assert meter.total >= 1000 and meter.most <= TURN_MAX, (meter.total, meter.most)

    asyncio.run(run())


def test_who_does_not_read_is_not_read_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 MiB only what the sockets hold is read; and when compaction overtakes the rest of it,
    the connection breaks: what came cannot be taken for a whole answer."""

    async def run() -> None:
        async with server() as served:
            for at in range(64):
                served.replica.apply(Put(b"k%02d" % at, b"v" * (1 << 20)))
            meter = WorkMeter(monkeypatch)
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(raw, served.address)
            ask = request("POST", "/v3/kv/range", None, json.dumps(WHOLE).encode())
            await loop.sock_sendall(raw, ask)
            read = -1
            while read != meter.total or not read:
                read = meter.total
                await asyncio.sleep(0.1)
            assert 1 <= read <= 24
            served.replica.apply(Put(b"a", b""))
            served.replica.apply(Compact(served.replica.state.revision))
            answer = bytearray()
            async with asyncio.timeout(WAIT_S):
                try:
                    while data := await loop.sock_recv(raw, 1 << 20):
                        answer += data
                except ConnectionError:
                    pass
            raw.close()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert not answer.endswith(b"0\r\n\r\n") and b"}]" not in answer[-100:]

    asyncio.run(run())


def test_compaction_before_anything_has_left(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is overtaken while nothing of the answer has left is told so, by every kind of read."""
    monkeypatch.setattr(slices, "SLICE_S", 0.0)

    async def run() -> None:
        async with server() as served:
            fill(served)

            async def compact() -> None:
                while True:  # after each turn of the loop
                    served.replica.apply(Put(b"a", b""))
                    served.replica.apply(Compact(served.replica.state.revision))
                    await asyncio.sleep(0)

            compacting = asyncio.create_task(compact())
            counts = {"success": [COUNT] * 5}
            sort = {**WHOLE, "sort_target": "MOD", "sort_order": "DESCEND"}
            for target, body in (
                ("/v3/kv/range", {**WHOLE, "count_only": True}),
                ("/v3/kv/range", {**WHOLE, "keys_only": True, "limit": 5000}),
                ("/v3/kv/range", sort),
                ("/v3/kv/txn", counts),
            ):
                async with connect(served.address) as connection:
                    data = json.dumps(body).encode()
                    reply = await connection.call("POST", target, None, data)
                    told = reply.json()
                    assert (reply.status, told["code"]) == (400, 11), (target, reply.status, told)
            async with connect(served.address) as connection:
                reply = await connection.call("GET", "/v1/kv?prefix=k&limit=1000")
                assert (reply.status, reply.json()["type"][-18:]) == (410, "revision-compacted")
            compacting.cancel()

    asyncio.run(run())
