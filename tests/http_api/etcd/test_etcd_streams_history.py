"""etcd's watch from older revisions, and which revision its messages show."""

import asyncio
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET

import pytest

from http_api.etcd import watch, watch_events
from kvstore.commands.commands import Put
from tests.support.etcd_node import EtcdNode, on_node, revision
from tests.support.etcd_stream import PROGRESS, create, gone, put, quiet, stream, until


def test_history_from_a_start_revision(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"a", value=b"1")
        await node.ok("kv/put", key=b"a", value=b"2")
        await node.ok("kv/deleterange", key=b"a")
        await node.ok("kv/put", key=b"b", value=b"1")
        first = [put(b"a", b"1", 2, 2, 1), put(b"a", b"2", 2, 3, 2), gone(b"a", 4)]
        for start, events in ((1, first), (2, first), (3, first[1:]), (4, first[2:])):
            async with stream(node.address, "watch", create(b"a", start_revision=start)) as opened:
                created, message = await opened.message(), await opened.message()
                assert (revision(created), created["created"]) == (5, True)
                assert message["events"] == events
                assert revision(message) == 5  # all of it has been looked at
                await quiet(opened)
        async with stream(node.address, "watch", create(b"a", start_revision=5)) as opened:
            assert await opened.result() == {"created": True}
            await quiet(opened)
            await node.ok("kv/put", key=b"c", value=b"1")
            await quiet(opened)

    on_node(tmp_path, test)


def test_an_empty_store_watched_from_its_first_revision(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a", start_revision=1)) as opened:
            assert await opened.result() == {"created": True}
            await quiet(opened)
            feed = node.replica.feed
            await until(lambda: [watcher.woken for watcher in feed._watchers] != [None])
            await node.ok("kv/put", key=b"a", value=b"1")
            assert (await opened.result())["events"] == [put(b"a", b"1", 2, 2, 1)]

    on_node(tmp_path, test)


def test_a_future_revision_is_waited_for(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a", start_revision="4")) as opened:
            assert await opened.result() == {"created": True}
            for _ in range(2):
                await node.ok("kv/put", key=b"a", value=b"v")
                await quiet(opened)
            await node.ok("kv/put", key=b"a", value=b"v")
            assert (await opened.result())["events"] == [put(b"a", b"v", 2, 4, 3)]

    on_node(tmp_path, test)


def test_compacted_revisions(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        for _ in range(5):
            await node.ok("kv/put", key=b"a", value=b"v")
        async with stream(node.address, "watch", create(b"a", start_revision=-3)) as opened:
            assert await opened.result() == {"created": True}
            assert await opened.result() == {"canceled": True, "compact_revision": "-1"}
        await node.ok("kv/compaction", revision=4)
        for start in (3, -1):
            below = create(b"a", start_revision=start, watch_id=9)
            async with stream(node.address, "watch", below, create(b"a")) as opened:
                assert await opened.result() == {"watch_id": "9", "created": True}
                message = await opened.message()
                assert "revision" not in message.pop("header")
                assert message == {"watch_id": "9", "canceled": True, "compact_revision": "4"}
                assert await opened.result() == {"created": True}
        async with stream(node.address, "watch", create(b"a", start_revision=4)) as opened:
            assert await opened.result() == {"created": True}
            events = (await opened.result())["events"]
            assert [event["kv"]["mod_revision"] for event in events] == ["4", "5", "6"]

    on_node(tmp_path, test)


def test_headers_never_run_ahead_of_what_was_sent(tmp_path: Path) -> None:
    """A client goes on from header.revision + 1, so history in several messages must not show the
    current revision in its first ones."""
    count, size = 80, 100_000

    async def test(node: EtcdNode) -> None:
        for number in range(count):
            await node.ok("kv/put", key=b"a%d" % (number % 3), value=b"%d" % number * 1)
            await node.ok("kv/put", key=b"big", value=bytes(size))
        everything = create(b"\0", range_end=b"\0", start_revision=1)
        async with stream(node.address, "watch", everything, PROGRESS, limit=1 << 14) as opened:
            # More than the buffers between hold, so that notes come in the midst of the history.
            opened.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 16)
            assert revision(await opened.message()) == 2 * count + 1
            seen: list[int] = []
            messages = notes = 0
            while len(seen) < 2 * count:
                message = await opened.message()
                if "events" not in message:
                    assert revision(message) == (seen[-1] if seen else 1)
                    notes += 1
                    continue
                messages += 1
                await opened.say(PROGRESS)
                seen += [int(event["kv"]["mod_revision"]) for event in message["events"]]
                assert revision(message) == seen[-1]
            assert seen == list(range(2, 2 * count + 2))
            assert notes > 1
            assert messages >= size * count // (2 * watch.MESSAGE_BYTES_MAX)

    on_node(tmp_path, test)


def test_what_happens_is_one_message_per_revision(tmp_path: Path) -> None:
    """Also if many writes are applied at once."""

    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", create(b"a")) as opened:
            assert await opened.result() == {"created": True}
            writes = (node.replica.execute(Put(b"a", b"v"), 5) for _ in range(50))
            await asyncio.gather(*writes)
            for number in range(2, 52):
                message = await opened.message()
                assert revision(message) == number
                assert [each["kv"]["mod_revision"] for each in message["events"]] == [str(number)]

    on_node(tmp_path, test)


def test_fragments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_events, "FRAGMENT_BYTES_MAX", 2000)

    async def test(node: EtcdNode) -> None:
        whole, cut = [create(b"\0", range_end=b"\0", fragment=flag) for flag in (False, True)]
        async with (
            stream(node.address, "watch", whole) as first,
            stream(node.address, "watch", cut) as second,
        ):
            for opened in (first, second):
                assert await opened.result() == {"created": True}
            put_all = [{"request_put": {"key": b"%d" % n, "value": bytes(600)}} for n in range(7)]
            await node.ok("kv/txn", success=put_all)
            message = await first.result()
            assert message.keys() == {"events"}
            pieces = [await second.message() for _ in range(4)]
            assert [len(piece["events"]) for piece in pieces] == [2, 2, 2, 1]
            assert [piece.get("fragment") for piece in pieces] == [True, True, True, None]
            assert {revision(piece) for piece in pieces} == {2}
            assert [event for piece in pieces for event in piece["events"]] == message["events"]

    on_node(tmp_path, test)


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PROGRESS_INTERVAL_S", 0.02)

    async def test(node: EtcdNode) -> None:
        async with stream(node.address, "watch", PROGRESS, create(b"a")) as opened:
            message = await opened.message()
            assert revision(message) == 1 and message["watch_id"] == "-1"
            assert await opened.result() == {"created": True}
            await node.ok("kv/put", key=b"b", value=b"v")
            await opened.say(PROGRESS)
            message = await opened.message()
            assert revision(message) == 2 and message["watch_id"] == "-1"
            await opened.say(create(b"a", progress_notify=True, watch_id=5))
            assert (await opened.result())["created"]
            message = await opened.message()
            assert revision(message) == 2 and message.keys() == {"header", "watch_id"}
            assert message["watch_id"] == "5"
            await node.ok("kv/put", key=b"b", value=b"v")
            while revision(message) < 3:
                message = await opened.message()
            assert message.keys() == {"header", "watch_id"}

    on_node(tmp_path, test)
