"""What clients that send or read nothing may hold: bodies, watches, answers."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import orjson
import pytest

from http_api.core import streams
from http_api.core.encoded import EncodedOnce
from http_api.etcd import watch
from http_api.etcd.watch_events import EncodedEvents
from http_api.limits.outgoing import SMALL_BYTES_MAX, Outgoing
from http_api.v1.watch import ENCODED_BYTES_MAX, EncodedChanges
from kvstore.commands.commands import Put
from kvstore.errors import Overloaded
from kvstore.replica.interest import Interest, RevisionEvents
from tests.support.etcd_node import EtcdNode, b64, encoded, on_node
from tests.support.etcd_stream import create, stream, until
from tests.support.memory_replica import MemoryReplica
from tests.support.raw_http import connect, request

MIB = 1 << 20


@asynccontextmanager
async def deaf(address: tuple[str, int], *requests: bytes) -> AsyncIterator[list[socket.socket]]:
    """Connections that send these, one each, and read nothing."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        clients = []
        for data in requests:
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, data)
            clients.append(client)
        yield clients


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# -- bodies ---------------------------------------------------------------------------------


def test_a_body_that_is_only_declared_takes_nothing(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        head = b"POST /v3/kv/put HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n{" % (4 * MIB)
        async with deaf(node.address, *[head] * 16):
            body = orjson.dumps({"key": b64(b"k"), "value": b64(b"v" * 300_000)})
            whole = request("POST", "/v3/kv/put", body=body)
            async with connect(node.address) as c:
                await c.send(whole[:-100_000])
                await asyncio.sleep(0.05)
                await c.send(whole[-100_000:])
                assert (await c.reply()).status == 200

    on_node(tmp_path, test)


# -- watches of etcd's API ------------------------------------------------------------------


def test_watches_that_cannot_be_sent_hold_their_position_only(tmp_path: Path) -> None:
    """400 on one connection that read nothing, 39 kB sent, cost 2.3 GB."""

    async def test(node: EtcdNode) -> None:
        for number in range(8):
            await node.connection.call("PUT", f"/v1/kv/k{number}", body=b"v" * MIB)
        body = b"".join(
            orjson.dumps(encoded(create(b"\0", range_end=b"\0", start_revision=1, watch_id=number)))
            for number in range(1, 61)
        )
        head = b"POST /v3/watch HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with deaf(node.address, head + body):
            watchers = node.replica.feed._watchers
            await until(lambda: len(watchers) == 60)
            await asyncio.sleep(0.6)  # those that were to read more would have
            moved = [watcher.next_revision for watcher in watchers if watcher.next_revision > 1]
            assert len(moved) < 6

    on_node(tmp_path, test)


def test_watches_of_one_stream_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WATCHES_MAX", 2)

    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch") as opened:
            for _ in range(2):
                await opened.say(create(b"k"))
                assert "canceled" not in await opened.result()
            await opened.say(create(b"k"))
            refused = await opened.result()
            assert refused["canceled"] and "2 watches are on this" in refused["cancel_reason"]
            await opened.say({"cancel_request": {"watch_id": 0}})
            await opened.result()
            await opened.say(create(b"k"))
            assert "canceled" not in await opened.result()

    on_node(tmp_path, test)


# -- slow readers ---------------------------------------------------------------------------


def test_slow_readers_hold_the_same_bytes(tmp_path: Path) -> None:
    """500 of /v1/watch while 40 MiB were written: 1.2 GB, and a stall of 1.9 s."""

    async def test(node: EtcdNode) -> None:
        watching = b"GET /v1/watch?prefix= HTTP/1.1\r\nHost: t\r\n\r\n"
        async with deaf(node.address, *[watching] * 250):
            await until(lambda: len(node.replica.feed._watchers) == 250)
            before = resident_bytes()
            for number in range(8):
                await node.connection.call("PUT", f"/v1/kv/k{number}", body=b"v" * MIB)
            await asyncio.sleep(0.3)
            assert resident_bytes() - before < 200 * MIB

    on_node(tmp_path, test)


def test_a_change_is_encoded_once_however_it_was_read() -> None:
    replica = MemoryReplica()
    live = replica.feed.watch(Interest(b"", None))
    replica.apply(Put(b"a", b"1"), Put(b"b", b"2"))

    async def run() -> None:
        recent = await live.next()
        again = [change for change in await _from_history(replica) if change.events]
        assert recent == again and recent[0] is not again[0]
        changes, events = EncodedChanges(), EncodedEvents()
        for one, other in zip(recent, again, strict=True):
            assert changes.of(one, False) is changes.of(other, False)
            assert changes.of(one, False) is not changes.of(one, True)
            events.of(one.events[0], False), events.of(other.events[0], False)
        assert len(events.kept) == len(recent)
        assert changes.of(recent[0], False) != changes.of(recent[1], False)

    asyncio.run(run())
    replica.close()


async def _from_history(replica: MemoryReplica) -> list[RevisionEvents]:
    replica.feed._forget()
    return list(await replica.feed.watch(Interest(b"", None), 2).next())  # 1 is the empty store


def test_the_oldest_encoding_leaves_first() -> None:
    kept, made = EncodedOnce(30), list[str]()

    def encode(name: str) -> bytes:
        made.append(name)
        return name.encode() * 10

    for name in ("a", "b", "c", "a", "d", "b", "c", "d", "a"):
        assert kept.of(name, lambda name=name: encode(name)) == name.encode() * 10
    assert made == ["a", "b", "c", "d", "a"] and (len(kept), kept.bytes) == (3, 30)


def test_what_is_kept_encoded_is_bounded() -> None:
    replica = MemoryReplica()
    live = replica.feed.watch(Interest(b"", None))
    changes, events = EncodedChanges(), EncodedEvents(bytes_max=3 * MIB)

    async def run() -> None:
        for number in range(20):
            replica.apply(Put(b"%d" % number, b"v" * MIB))
            (change,) = await live.next()
            changes.of(change, False)
            events.of(change.events[0], False)
        assert 14 * MIB < changes.kept.bytes <= ENCODED_BYTES_MAX and len(changes.kept) < 16
        assert 2 * MIB < events.kept.bytes <= 3 * MIB and len(events.kept) == 2

    asyncio.run(run())
    replica.close()


# -- answers --------------------------------------------------------------------------------


async def _fill(node: EtcdNode, count: int) -> None:
    for number in range(count):
        await node.connection.call("PUT", f"/v1/kv/k{number}", body=b"v" * MIB)


def _outgoing(node: EtcdNode) -> Outgoing:
    return node.http.facilities.outgoing


RANGE = request("POST", "/v3/kv/range", body=b'{"key":"aw==","range_end":"bA=="}')
READS: list[tuple[str, bytes]] = [
    ("native", request("GET", "/v1/kv?prefix=k", {"Accept-Charset": "x"}) * 8),
    ("hot lane", request("GET", "/v1/kv/k1") * 12),
]
"""Long answers of etcd's API are sent as they are read: what waits of them is bounded by itself."""


@pytest.mark.parametrize("read", [data for _, data in READS], ids=[name for name, _ in READS])
def test_answers_that_nobody_reads_are_counted_and_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: bytes
) -> None:
    async def test(node: EtcdNode) -> None:
        await _fill(node, 12)
        outgoing = _outgoing(node)
        async with deaf(node.address, read):
            await until(lambda: outgoing.bytes > 0)
        await until(lambda: outgoing.bytes == 0)
        if read.startswith(b"GET /v1/kv/k1"):
            return  # the hot lane's idle time cuts it off
        monkeypatch.setattr(streams, "STUCK_S", 0.05)
        async with deaf(node.address, read):
            await until(lambda: outgoing.bytes > 0)
            await until(lambda: outgoing.bytes == 0)

    on_node(tmp_path, test)


def test_large_reads_are_refused_while_too_much_is_unread(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await _fill(node, 12)
        outgoing = _outgoing(node)
        hot = request("GET", "/v1/kv/k1") * 12
        async with deaf(node.address, *[hot] * 6):
            await until(lambda: outgoing.bytes > MIB)
            outgoing._bytes_max = outgoing.bytes
            async with connect(node.address) as fast, connect(node.address) as other:
                refused = await fast.call("GET", "/v1/kv/k1")
                assert refused.status == 503 and refused.json()["outcome"] == "not-applied"
                assert (await fast.call("GET", "/v1/kv/none")).status == 404
                assert (await fast.call("PUT", "/v1/kv/x", body=b"v")).status == 200
                assert (await fast.call("GET", "/v1/kv?prefix=k")).status == 503
                await other.send(RANGE)  # sent as it is read
                assert (await other.reply()).status == 200
        await until(lambda: outgoing.bytes == 0)
        async with connect(node.address) as c:
            assert (await c.call("GET", "/v1/kv/k1")).status == 200

    on_node(tmp_path, test)


def test_one_answer_may_be_larger_than_the_bound() -> None:
    outgoing = Outgoing(MIB)
    outgoing.check(5 * MIB)
    outgoing.bytes = MIB
    outgoing.check(SMALL_BYTES_MAX)
    with pytest.raises(Overloaded):
        outgoing.check(SMALL_BYTES_MAX + 1)
