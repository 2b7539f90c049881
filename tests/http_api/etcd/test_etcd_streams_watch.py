"""etcd's watch over HTTP, message by message."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd_node import EtcdNode, b64, error_of, on_node, revision
from tests.support.etcd_stream import Stream, cancel, create, gone, kv, put, quiet, stream, until


def test_created_comes_at_once_and_events_follow(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a")) as opened:
            message = await opened.message()
            header = message.pop("header")
            assert message == {"created": True}
            assert header.keys() == {"cluster_id", "member_id", "revision", "raft_term"}
            assert header["revision"] == "1"
            headers = await opened.head()
            assert headers["x-content-type-options"] == "nosniff"
            await opened.end_body()  # which does not end the watch
            for number in range(2, 5):
                await node.ok("kv/put", key=b"a", value=b"%d" % number)
                message = await opened.message()
                assert revision(message) == number
                assert message["events"] == [put(b"a", b"%d" % number, 2, number, number - 1)]
            await node.ok("kv/put", key=b"b", value=b"v")
            await node.ok("kv/deleterange", key=b"a")
            message = await opened.message()
            assert revision(message) == 6
            assert message["events"] == [gone(b"a", 6)]

    on_node(tmp_path, test)


def test_no_head_before_the_first_message(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for silent in (b" ", b"{}", b" \n null ", b'{"create_request":null}', b'{"unknown":{}}'):
            async with stream(node.address, "watch", silent) as opened:
                await node.ok("kv/put", key=b"a", value=b"v")
                await opened.nothing_yet()
                await opened.say(create(b"a"))
                assert await opened.result() == {"created": True}

    on_node(tmp_path, test)


def test_a_body_of_known_length_and_the_older_prefix(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        reader, writer = await asyncio.open_connection(*node.address)
        body = b'{"create_request":{"key":"YQ=="}}'
        writer.write(b"POST /v3beta/watch?x=1 HTTP/1.1\r\nHost: x\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        opened = Stream(reader, writer)
        assert await opened.result() == {"created": True}
        await node.ok("kv/put", key=b"a", value=b"v")
        assert (await opened.result())["events"] == [put(b"a", b"v", 2, 2, 1)]
        writer.close()

    on_node(tmp_path, test)


def test_expect_continue(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        reader, writer = await asyncio.open_connection(*node.address)
        body = b'{"create_request":{"key":"YQ=="}}'
        writer.write(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert await Stream(reader, writer).result() == {"created": True}
        writer.close()

    on_node(tmp_path, test)


def test_several_watches_on_one_stream(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        # Ids as etcd 3.5 gives them: chosen ones are kept, free ones count from 0.
        async with stream(
            node.address,
            "watch",
            create(b"a", watch_id=1),
            create(b"a"),
            create(b"b"),
            create(b"b", watch_id="7"),
            create(b"c"),
            create(b"c", watch_id=-5),
        ) as opened:
            ids = [(await opened.result()).get("watch_id", "0") for _ in range(6)]
            assert ids == ["1", "0", "2", "7", "3", "-5"]
            await node.ok("kv/put", key=b"a", value=b"v")
            both = [await opened.result() for _ in range(2)]
            events = [put(b"a", b"v", 2, 2, 1)]
            assert {"watch_id": "1", "events": events} in both
            assert {"events": events} in both
            await node.ok("kv/put", key=b"c", value=b"v")
            assert {(await opened.result())["watch_id"] for _ in range(2)} == {"3", "-5"}
            await quiet(opened)

    on_node(tmp_path, test)


def test_an_id_that_is_taken_and_one_that_is_free_again(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        taken = {
            "watch_id": "-1",
            "created": True,
            "canceled": True,
            "cancel_reason": "mvcc: duplicate watch ID provided on the WatchStream",
        }
        requests = [create(b"a", watch_id=1)] * 2 + [cancel(1), create(b"b", watch_id=1)]
        async with stream(node.address, "watch", *requests) as opened:
            assert await opened.result() == {"watch_id": "1", "created": True}
            assert await opened.result() == taken
            assert await opened.result() == {"watch_id": "1", "canceled": True}
            assert await opened.result() == {"watch_id": "1", "created": True}
            await node.ok("kv/put", key=b"a", value=b"v")
            await node.ok("kv/put", key=b"b", value=b"v")
            assert (await opened.result())["events"] == [put(b"b", b"v", 3, 3, 1)]

    on_node(tmp_path, test)


def test_cancel(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a"), create(b"a")) as opened:
            assert await opened.result() == {"created": True}
            assert await opened.result() == {"watch_id": "1", "created": True}
            await opened.say(cancel(44), cancel(0))
            assert await opened.result() == {"canceled": True}
            assert node.replica.feed.watchers == 1
            await node.ok("kv/put", key=b"a", value=b"v")
            assert (await opened.result())["watch_id"] == "1"
            await opened.say(cancel(1))
            assert await opened.result() == {"watch_id": "1", "canceled": True}
            assert node.replica.feed.watchers == 0
            await quiet(opened)  # the stream stays open

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("key", "end", "seen"),
    [
        (b"b", b"", [b"b"]),
        (b"b", b"d", [b"b", b"c"]),
        (b"b", b"\0", [b"b", b"c", b"d"]),
        (b"", b"", []),
        (b"", b"b", [b"a"]),
        (b"\0", b"\0", [b"a", b"b", b"c", b"d"]),
    ],
)
def test_ranges(tmp_path: Path, key: bytes, end: bytes, seen: list[bytes]) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(key, range_end=end)) as opened:
            assert await opened.result() == {"created": True}
            for each in (b"a", b"b", b"c", b"d"):
                await node.ok("kv/put", key=each, value=b"v")
            for each in seen:
                assert (await opened.result())["events"][0]["kv"]["key"] == b64(each)
            await quiet(opened)

    on_node(tmp_path, test)


def test_ranges_that_hold_nothing(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        refused = {
            "watch_id": "-1",
            "created": True,
            "canceled": True,
            "cancel_reason": "mvcc: watcher range is empty",
        }
        bad = [create(b"b", range_end=end, watch_id=3) for end in (b"a", b"b")]
        async with stream(node.address, "watch", *bad, create(b"b")) as opened:
            assert await opened.result() == refused
            assert await opened.result() == refused
            assert await opened.result() == {"created": True}

    on_node(tmp_path, test)


def test_previous_values_and_filters(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(
            node.address,
            "watch",
            create(b"a", prev_kv=True, watch_id=1),
            create(b"a", filters=["NOPUT"], watch_id=2),
            create(b"a", filters=[1], watch_id=3),
            create(b"a", filters=["NOPUT", "NODELETE"], watch_id=4),
            create(b"a", filters=[], watch_id=5),
        ) as opened:
            for _ in range(5):
                assert (await opened.result())["created"]
            found: dict[str, list[Any]] = {}
            await node.ok("kv/put", key=b"a", value=b"1")
            await node.ok("kv/put", key=b"a", value=b"2")
            await node.ok("kv/deleterange", key=b"a")
            for _ in range(3 + 1 + 2 + 3):
                result = await opened.result()
                found.setdefault(result["watch_id"], []).extend(result["events"])
            one, two, deleted = put(b"a", b"1", 2, 2, 1), put(b"a", b"2", 2, 3, 2), gone(b"a", 4)
            assert found == {
                "1": [one, {**two, "prev_kv": one["kv"]}, {**deleted, "prev_kv": two["kv"]}],
                "2": [deleted],
                "3": [one, two],
                "5": [one, two, deleted],
            }
            await quiet(opened)

    on_node(tmp_path, test)


def test_a_transaction_is_one_message_in_its_order(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"c", value=b"0")
        everything = create(b"\0", range_end=b"\0")
        async with stream(node.address, "watch", everything) as opened:
            assert await opened.result() == {"created": True}
            operations = [
                {"request_put": {"key": b"b", "value": b"1"}},
                {"request_delete_range": {"key": b"c"}},
                {"request_put": {"key": b"a", "value": b"2"}},
            ]
            await node.ok("kv/txn", success=operations)
            events = [put(b"b", b"1", 3, 3, 1), gone(b"c", 3), put(b"a", b"2", 3, 3, 1)]
            assert (await opened.result())["events"] == events
            await node.ok("lease/grant", TTL=60, ID=77)
            for key in (b"x", b"y"):
                await node.ok("kv/put", key=key, value=b"v", lease=77)
                assert (await opened.result())["events"][0]["kv"]["lease"] == "77"
            await node.ok("lease/revoke", ID=77)
            assert (await opened.result())["events"] == [gone(b"x", 6), gone(b"y", 6)]

    on_node(tmp_path, test)


def test_both_spellings_of_names(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"b", value=b"1")
        await node.ok("kv/put", key=b"b", value=b"2")
        fields = {
            "key": b"a",
            "rangeEnd": b"z",
            "startRevision": "3",
            "prevKv": True,
            "watchId": "5",
            "progressNotify": True,
        }
        async with stream(
            node.address, "watch", {"createRequest": fields}, {"cancelRequest": {"watchId": 5}}
        ) as opened:
            assert await opened.result() == {"watch_id": "5", "created": True}
            events = []
            while not (result := await opened.result()).get("canceled"):
                events += result["events"]
            two = {**put(b"b", b"2", 2, 3, 2), "prev_kv": kv(b"b", b"1", 2, 2, 1)}
            assert events in ([], [two])

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"garbage", "invalid character 'g' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array"),
        (b'{"create_request":{"key":"***"}}', "illegal base64 data at input byte 0"),
        (b'{"create_request":{"key":"YQ==","filters":["X"]}}', 'unknown value "\\"X\\""'),
        (b'{"create_request"', "unexpected EOF"),
    ],
)
def test_a_first_document_that_cannot_be_read(tmp_path: Path, body: bytes, text: str) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", body) as opened:
            await opened.end_body()
            status, code, found = error_of(await opened.reply())
            assert (status, code) == (500, 2)
            assert found.startswith(text)

    on_node(tmp_path, test)


def test_a_later_document_that_cannot_be_read_ends_the_requests_only(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a"), b"garbage", create(b"b")) as opened:
            assert await opened.result() == {"created": True}
            await node.ok("kv/put", key=b"b", value=b"v")
            await node.ok("kv/put", key=b"a", value=b"v")
            assert (await opened.result())["events"] == [put(b"a", b"v", 3, 3, 1)]

    on_node(tmp_path, test)


def test_a_document_over_the_limit(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", b'{"x":"' + b"y" * (2 << 20)) as opened:
            assert (await opened.reply()).status == 500

    on_node(tmp_path, test)


def test_watchers_end_with_their_client(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        feed = node.replica.feed
        for ended in (True, False):
            async with stream(node.address, "watch", *[create(b"a")] * 5) as opened:
                for _ in range(5):
                    assert (await opened.result())["created"]
                if ended:
                    await opened.end_body()
                assert feed.watchers == 5
                opened.hang_up()
                await until(lambda: feed.watchers == 0)
        before = len(asyncio.all_tasks())
        for _ in range(20):
            async with stream(node.address, "watch", create(b"a", progress_notify=True)) as opened:
                assert (await opened.result())["created"]
        await until(lambda: feed.watchers == 0 and len(asyncio.all_tasks()) <= before)

    on_node(tmp_path, test)


def test_a_half_closed_connection_is_a_hangup(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a")) as opened:
            assert (await opened.result())["created"]
            await opened.end_body()
            opened.writer.write_eof()
            await opened.closed()
            await until(lambda: node.replica.feed.watchers == 0)

    on_node(tmp_path, test)
