"""What all of etcd's streams share, and lease/keepalive: documents, errors, slow clients, ends."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http_api.core import streams
from http_api.etcd import channel
from http_api.etcd.channel import Channel, Documents
from http_api.etcd.errors import EtcdError
from tests.support.etcd_node import EtcdNode, error_of, etcd_node, on_node
from tests.support.etcd_stream import Stream, cancel, create, stream, until
from tests.support.examples import TIMES
from tests.support.raw_http import connect

# -- documents ------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def taken(documents: Documents) -> Iterator[Any]:
    while (document := documents.take()) is not None:
        yield json.loads(document)


@settings(max_examples=25 * TIMES)
@given(st.lists(VALUES), st.sampled_from([" ", "\n", "\r\n\t"]), st.booleans(), st.data())
def test_documents_are_found_however_they_arrive(
    values: list[Any], space: str, ascii_only: bool, data: st.DataObject
) -> None:
    text = space.join(json.dumps(value, ensure_ascii=ascii_only) for value in values)
    body = (space + text).encode("utf-8", "surrogatepass")
    documents = Documents()
    found = []
    while body:
        size = data.draw(st.integers(1, len(body)))
        documents.feed(body[:size])
        body = body[size:]
        found += taken(documents)
    documents.finished = True
    found += taken(documents)
    assert found == values


def test_documents_need_no_space_between() -> None:
    documents = Documents()
    documents.feed(b'{"a":"}\\\\"}[1,"]\\""]{}"x"{}')
    assert list(taken(documents)) == [{"a": "}\\"}, [1, ']"'], {}, "x", {}]


def test_a_document_is_found_before_the_next_begins() -> None:
    documents = Documents()
    documents.feed(b' {"a":1}')
    assert documents.take() == b'{"a":1}'
    documents.feed(b"12")
    assert documents.take() is None  # it may go on
    documents.finished = True
    assert documents.take() == b"12"
    assert documents.take() is None


def test_garbage_is_handed_out_at_once() -> None:
    documents = Documents()
    documents.feed(b"garbage")
    assert documents.take() == b"garbage"


def test_each_byte_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = Documents()
    documents.feed(b'{"k":"')
    for _ in range(20_000):  # quadratic work would take minutes
        documents.feed(b"x" * 50)
        assert documents.take() is None
    monkeypatch.setattr(channel, "DOCUMENT_BYTES_MAX", 1000)
    with pytest.raises(EtcdError, match="larger than max"):
        documents.take()


# -- keepalive ------------------------------------------------------------------------------


async def one_by_one(node: EtcdNode, body: bytes) -> list[dict[str, Any]]:
    """All results of a stream that ends by itself, on a connection that stays usable."""
    async with connect(node.address) as connection:
        await connection.send(
            b"POST /v3/lease/keepalive HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        opened = Stream(connection._reader, connection._writer)
        results = []
        while chunk := await opened.chunk():
            assert chunk.endswith(b"}\n")
            result = json.loads(chunk)["result"]
            del result["header"]
            results.append(result)
        assert (await connection.call("GET", "/version")).status == 200
        return results


def test_keep_alive_answers_each_and_ends_with_the_body(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=777)
        alive, unknown = {"ID": "777", "TTL": "60"}, {"ID": "778"}
        for body, results in (
            (b'{"ID":"777"}', [alive]),
            (b'{"ID":777}\n{"ID":778}{"ID":"777"}', [alive, unknown, alive]),
            (b"", []),
            (b"{}", [{}]),
            (b"null", [{}]),
            (b'{"ID":"777"} garbage', [alive]),
            (b'{"ID":"777"}{"ID"', [alive]),
        ):
            assert await one_by_one(node, body) == results, body
        reply = await node.raw("/v3/kv/lease/keepalive", b'{"ID":777}')
        assert reply.status == 404

    on_node(tmp_path, test)


def test_keep_alive_answers_before_the_body_ends(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=777)
        async with stream(node.address, "lease/keepalive") as opened:
            for _ in range(3):
                await opened.say({"ID": 777})
                message = await opened.message()
                assert message.pop("header").keys() >= {"cluster_id", "member_id", "revision"}
                assert message == {"ID": "777", "TTL": "60"}
            await opened.end_body()
            assert await opened.chunk() == b""

    on_node(tmp_path, test)


def test_keep_alive_renews(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=2, ID=777)
        loop = asyncio.get_running_loop()
        end = loop.time() + 3.0
        while loop.time() < end:
            assert await one_by_one(node, b'{"ID":777}') == [{"ID": "777", "TTL": "2"}]
        await until(lambda: node.replica.state.leases.ttl_s(777) is None)
        assert await one_by_one(node, b'{"ID":777}') == [{"ID": "777"}]

    on_node(tmp_path, test)


@pytest.mark.parametrize("body", [b"garbage", b'{"ID":"x"}', b"[]", b'{"ID"'])
def test_keep_alive_of_garbage(tmp_path: Path, body: bytes) -> None:
    async def test(node: EtcdNode) -> None:
        reply = await node.raw("/v3/lease/keepalive", body)
        assert error_of(reply)[:2] == (500, 2)

    on_node(tmp_path, test)


def test_keep_alive_without_a_leader(tmp_path: Path) -> None:
    members = {1: ("127.0.0.1", 0), 2: ("127.0.0.1", 1), 3: ("127.0.0.1", 2)}

    async def test(node: EtcdNode) -> None:
        reply = await node.post("lease/keepalive", {"ID": 777})
        assert reply.status == 503
        assert reply.headers["content-type"] == "application/json"
        assert reply.json() == {
            "error": {
                "grpc_code": 14,
                "http_code": 503,
                "message": "etcdserver: no leader",
                "http_status": "Service Unavailable",
            }
        }

    on_node(tmp_path, test, members=members, request_timeout_s=0.3)


def test_a_stream_that_loses_its_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=777)
        async with stream(node.address, "lease/keepalive", {"ID": 777}) as opened:
            assert (await opened.result())["TTL"] == "60"
            # The leader's confirmation never comes: nobody is left to give it.
            monkeypatch.setattr(node.replica.leasing, "step", lambda: None)
            monkeypatch.setattr(node.replica.leasing, "tick", lambda: None)
            await opened.say({"ID": 777})
            error = json.loads(await opened.chunk())["error"]
            assert (error["grpc_code"], error["message"]) == (14, "etcdserver: no leader")
            assert await opened.chunk() == b""

    on_node(tmp_path, test, request_timeout_s=0.3)


# -- ends -----------------------------------------------------------------------------------

STOPPED = {
    "error": {
        "grpc_code": 14,
        "http_code": 503,
        "message": "error reading from server: EOF",
        "http_status": "Service Unavailable",
    }
}


def test_a_stop_of_the_server_ends_streams(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as streams:
            async with etcd_node(tmp_path) as node:
                opened = [
                    await streams.enter_async_context(stream(node.address, path, document))
                    for path, document in (
                        ("watch", create(b"a")),
                        ("lease/keepalive", {"ID": 7}),
                        ("watch", {}),
                    )
                ]
                for each in opened[:2]:
                    await each.message()
                # Without any watch left, and without anything more to be asked, it stays open.
                idle = await streams.enter_async_context(
                    stream(node.address, "watch", create(b"a"), cancel(0))
                )
                opened.insert(0, idle)
                await idle.end_body()
                assert (await idle.result())["created"] and (await idle.result())["canceled"]
                began = loop.time()
            assert loop.time() - began < 4  # not by the time-out of the stop
            for each in opened[:3]:
                assert json.loads(await each.chunk()) == STOPPED
                assert await each.chunk() == b""
                assert await each.closed() == b""
            reply = await opened[3].reply()
            assert (reply.status, reply.json()) == (503, STOPPED)

    asyncio.run(run())


def test_a_client_that_does_not_read_is_bounded_and_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STUCK_S", 0.5)
    used: list[Channel] = []
    receive = Channel.receive
    monkeypatch.setattr(
        Channel, "receive", lambda self, struct: used.append(self) or receive(self, struct)
    )

    async def test(node: EtcdNode) -> None:
        _, writer = await asyncio.open_connection(*node.address, limit=1000)
        body = json.dumps(create("YQ==")).encode()
        writer.write(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await until(lambda: node.replica.feed.watchers == 1)
        buffered = 0
        for _ in range(30):
            await node.ok("kv/put", key=b"a", value=bytes(900_000))
            if (transport := used[0].request.transport) is not None:
                buffered = max(buffered, transport.get_write_buffer_size())
        # One message of 1.2 MB above the mark at which a transport asks for a pause.
        assert 100_000 < buffered < 3_000_000
        await until(lambda: node.replica.feed.watchers == 0)
        writer.close()

    on_node(tmp_path, test)


def test_a_client_that_reads_slowly_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than the time-out for a message, and yet reads all the time."""
    monkeypatch.setattr(streams, "STUCK_S", 1.5)
    count, size = 2, 1_000_000
    total = (2 * count - 1) * size * 4 // 3

    async def read_slowly(reader: asyncio.StreamReader) -> int:
        read = 0
        while read < total:
            piece = await reader.read(1 << 15)
            if not piece:
                break
            read += len(piece)
            await asyncio.sleep(0.05)
        return read

    async def test(node: EtcdNode) -> None:
        async with stream(
            node.address, "watch", create(b"a", prev_kv=True), limit=1 << 14
        ) as opened:
            opened.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 16)
            assert await opened.result() == {"created": True}
            reading = asyncio.create_task(read_slowly(opened._reader))
            for _ in range(count):
                await node.ok("kv/put", key=b"a", value=bytes(size))
            assert await reading >= total
            assert node.replica.feed.watchers == 1

    on_node(tmp_path, test)


def test_a_broken_body_is_the_end_of_the_requests(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a")) as opened:
            assert await opened.result() == {"created": True}
            opened.writer.write(b"no chunk at all\r\n")
            await node.ok("kv/put", key=b"a", value=b"v")
            assert len((await opened.result())["events"]) == 1
            opened.hang_up()
            await until(lambda: node.replica.feed.watchers == 0)

    on_node(tmp_path, test)
