"""Watches: what is sent, from where, in what form, and how a stream ends."""

import asyncio
import random
import socket

import pytest

from http_api.core import streams
from http_api.v1 import watch as resource
from kvstore.commands.commands import Compact, Delete, Grant, Put, Revoke
from kvstore.commands.operations import Transaction, TxnDelete, TxnPut
from kvstore.replica.leader_absence import ELECTION_TIMEOUTS
from tests.support.event_source import watch
from tests.support.raw_http import connect


def test_events_of_every_kind(server):
    async def run():
        async with server() as served, watch(served.address, "prefix=a/") as source:
            assert source.headers["content-type"] == "text/event-stream"
            assert source.headers["cache-control"] == "no-store"
            ready = await source.next()
            assert (ready.kind, ready.id, ready.data) == ("ready", "1", {"revision": 1})
            served.replica.apply(Grant(7, 60), Put(b"a/1", b"v", lease=7))
            served.replica.apply(Put(b"b", b"elsewhere"), Delete(b"a/1"))
            served.replica.apply(Put(b"a/\xff", b"\xfe"))
            changes = await source.changes(3)
            revisions = {"create_revision": 2, "mod_revision": 2, "version": 1}
            put = {"type": "put", "key": "a/1", "value": "v", **revisions, "lease": "7"}
            assert changes[0] == {"revision": 2, "events": [put]}
            deleted = {"type": "delete", "key": "a/1", "mod_revision": 4}
            assert changes[1] == {"revision": 4, "events": [deleted]}
            assert changes[2]["events"][0]["key_base64"] == "YS//"
            assert changes[2]["events"][0]["value_base64"] == "/g=="

    asyncio.run(run())


def test_a_transaction_is_one_event(server):
    async def run():
        async with server() as served, watch(served.address, "start=b&end=d") as source:
            served.replica.apply(*(Put(key, b"old") for key in (b"a", b"b", b"c")))
            writes = (TxnPut(b"c", b"new"), TxnPut(b"a", b"new"), TxnDelete(b"b", b"b\0"))
            served.replica.apply(Transaction((), writes))
            changes = await source.changes(3)
            seen = [(event["type"], event["key"]) for event in changes[2]["events"]]
            assert seen == [("put", "c"), ("delete", "b")]
            served.replica.apply(Grant(1, 60), Put(b"b", b"", lease=1), Put(b"c", b"", lease=1))
            served.replica.apply(Revoke(1))
            ended = (await source.changes(3))[2]["events"]
            assert [(event["type"], event["key"]) for event in ended] == [
                ("delete", "b"), ("delete", "c"),
            ]  # fmt: skip

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("key=k", ["k1", "k2", "-k"]),
        ("key=k&deletes=false", ["k1", "k2"]),
        ("key=k&puts=false", ["-k"]),
        ("prefix=k", ["k1", "k2", "kk1", "-k"]),
        ("prefix=", ["k1", "k2", "kk1", "l1", "-k"]),
        ("start=kk", ["kk1", "l1"]),
        ("end=kk", ["k1", "k2", "-k"]),
        ("start=k&end=l", ["k1", "k2", "kk1", "-k"]),
    ],
)
@pytest.mark.parametrize("history", [True, False], ids=["from history", "live"])
def test_what_is_watched(query, seen, history, server):
    def write(served):
        for key, value in ((b"k", b"k1"), (b"k", b"k2"), (b"kk", b"kk1"), (b"l", b"l1")):
            served.replica.apply(Put(key, value))
        served.replica.apply(Delete(b"k"))

    async def run():
        async with server() as served:
            if history:
                write(served)
            async with watch(served.address, f"{query}&from_revision=2") as source:
                if not history:
                    await source.next()
                    write(served)
                served.replica.apply(Put(b"k", b"last"), Delete(b"k"))
                found = []
                for change in await source.changes(len(seen)):
                    for event in change["events"]:
                        deleted = event["type"] == "delete"
                        found.append("-" + event["key"] if deleted else event["value"])
                assert found == seen

    asyncio.run(run())


def test_previous_values(server):
    async def run():
        async with server() as served, watch(served.address, "key=k&previous=true") as source:
            served.replica.apply(Put(b"k", b"1"), Put(b"k", b"2"), Delete(b"k"))
            first, second, third = [each["events"][0] for each in await source.changes(3)]
            assert "previous" not in first
            before = {"key": "k", "value": "1", "create_revision": 2}
            assert second["previous"] == {**before, "mod_revision": 2, "version": 1}
            assert third["type"] == "delete"
            assert third["previous"]["value"] == "2"

    asyncio.run(run())


def test_a_watch_from_the_future_is_silent_until_then(server):
    async def run():
        async with server() as served, watch(served.address, "prefix=&from_revision=4") as source:
            assert (await source.next()).data == {"revision": 3}
            served.replica.apply(*(Put(b"k", b"%d" % n) for n in range(4)))
            assert [c["revision"] for c in await source.changes(2)] == [4, 5]

    asyncio.run(run())


def test_resuming_misses_nothing_and_repeats_nothing(server):
    """A client that is cut off again and again sees every revision once, in order."""
    rng = random.Random(4)

    async def write(replica, count):
        for number in range(count):
            replica.apply(Put(b"k%d" % rng.randrange(5), b"%d" % number))
            if number % 7 == 0:
                await asyncio.sleep(0)

    async def run():
        async with server() as served:
            writing = asyncio.create_task(write(served.replica, 900))
            seen: list[int] = []
            last_id, connections = "1", 0
            while len(seen) < 900:
                connections += 1
                async with watch(served.address, "prefix=k", last_id) as source:
                    for _ in range(rng.randrange(1, 60)):
                        if len(seen) == 900:
                            break
                        event = await source.next()
                        if event.kind == "change":
                            seen.append(event.data["revision"])
                        last_id = source.last_id
            await writing
            assert seen == list(range(2, 902))
            assert connections > 10

    asyncio.run(run())


def test_last_event_id_wins_over_from_revision(server):
    async def run():
        async with server() as served:
            served.replica.apply(*(Put(b"k", b"%d" % n) for n in range(5)))
            async with watch(served.address, "key=k&from_revision=2", last_id="4") as source:
                assert (await source.next()).id == "4"
                assert [c["revision"] for c in await source.changes(2)] == [5, 6]

    asyncio.run(run())


def test_a_compacted_beginning_is_refused(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(*(Put(b"k", b"%d" % n) for n in range(5)), Compact(4))
            reply = await c.call("GET", "/v1/watch?key=k&from_revision=3")
            assert (reply.status, reply.json()["compacted_revision"]) == (410, 4)
            reply = await c.call("GET", "/v1/watch?key=k", {"Last-Event-ID": "2"})
            assert reply.status == 410
            async with watch(served.address, "key=k&from_revision=4") as source:
                assert [c["revision"] for c in await source.changes(3)] == [4, 5, 6]

    asyncio.run(run())


def test_a_watcher_that_compaction_overtakes_is_told_and_cut_off(server):
    async def run():
        async with server() as served, watch(served.address, "prefix=") as source:
            await source.next()
            feed = served.replica.feed
            served.replica.apply(*(Put(b"k", b"%d" % n) for n in range(5)))
            feed.reset()  # a snapshot arrived: nothing recent is in memory
            served.replica.apply(Compact(5))
            event = await source.next()
            assert event.kind == "compacted"
            assert event.data == {"compacted_revision": 5, "from_revision": 2}
            assert event.id == "1", "it must not move where a client resumes"
            assert await source.next() is None

    asyncio.run(run())


def test_silence_is_filled_with_progress_or_comments(server, monkeypatch):
    monkeypatch.setattr(resource, "KEEP_ALIVE_S", 0.05)

    async def run():
        async with server() as served, watch(served.address, "key=k") as source:
            await source.next()
            while len(source.comments) < 2:
                with pytest.raises(TimeoutError):
                    await source.next(0.2)
            assert set(source.comments) == {"keep-alive"}
            served.replica.apply(Put(b"other", b"v"))
            event = await source.next()
            assert (event.kind, event.id, event.data) == ("progress", "2", {"revision": 2})
            served.replica.apply(Put(b"k", b"v"))
            assert (await source.next()).data["revision"] == 3

    asyncio.run(run())


def test_streams_end_properly_when_the_server_stops(server):
    async def run():
        async with server() as served, watch(served.address, "prefix=") as source:
            await source.next()
            loop = asyncio.get_running_loop()
            began = loop.time()
            await served.http.stop()
            assert await source.next() is None
            assert loop.time() - began < 3
            assert served.replica.feed.watchers == 0

    asyncio.run(run())


async def gone(served):
    """Wait until nobody watches."""
    async with asyncio.timeout(60):
        while served.replica.feed.watchers:
            await asyncio.sleep(0.02)


def test_a_client_that_goes_away_is_forgotten(server):
    async def run():
        async with server() as served:
            async with watch(served.address, "prefix=") as source:
                await source.next()
                assert served.replica.feed.watchers == 1
            await gone(served)

    asyncio.run(run())


def test_a_client_that_does_not_read_is_cut_off(server, monkeypatch, caplog):
    monkeypatch.setattr(streams, "STUCK_S", 0.3)

    async def run():
        async with server() as served:
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(raw, served.address)
            await loop.sock_sendall(raw, b"GET /v1/watch?prefix= HTTP/1.1\r\nHost: t\r\n\r\n")
            async with asyncio.timeout(60):
                while not served.replica.feed.watchers:
                    await asyncio.sleep(0.01)
            for number in range(64):
                served.replica.apply(Put(b"k", b"%d" % number * (1 << 18)))
            await gone(served)
            async with asyncio.timeout(60):
                while served.http._server.connections or len(served.http.facilities.streams):
                    await asyncio.sleep(0.01)
            raw.close()

    asyncio.run(run())
    assert not caplog.text, "it is the client's doing, not a defect"


def test_watchers_are_bounded(server, monkeypatch):
    monkeypatch.setattr(streams, "STREAMS_MAX", 1)

    async def run():
        async with server() as served, connect(served.address) as c:
            async with watch(served.address, "prefix=") as source:
                await source.next()
                reply = await c.call("GET", "/v1/watch?prefix=")
                assert (reply.status, reply.json()["type"]) == (503, "/problems/overloaded")
            await gone(served)
            async with watch(served.address, "prefix=") as source:
                assert (await source.next()).kind == "ready"

    asyncio.run(run())


def test_many_watchers_are_told_the_same(server):
    """Also those that share an encoding with others that want other forms of it."""

    async def run():
        async with server() as served:
            queries = ["prefix=", "prefix=&previous=true", "key=k", "key=k&puts=false"] * 5
            opened = [watch(served.address, query) for query in queries]
            sources = [await each.__aenter__() for each in opened]
            for source in sources:
                await source.next()
            served.replica.apply(Put(b"k", b"1"), Put(b"k", b"2"), Put(b"l", b"3"), Delete(b"k"))
            counts = [4, 4, 3, 1] * 5
            for source, query, count in zip(sources, queries, counts, strict=True):
                changes = await source.changes(count)
                assert changes[-1]["revision"] == 5
                has = ["previous" in change["events"][0] for change in changes]
                wanted = [False, True, False, True] if "previous" in query else [False] * count
                assert has == wanted
            for each in opened:
                await each.__aexit__(None, None, None)

    asyncio.run(run())


def test_head(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await c.call("HEAD", "/v1/watch?key=k")
            assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
            assert (await c.call("GET", "/healthz")).status == 200, "the connection goes on"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "one of"),
        ("key=a&prefix=a", "one of"),
        ("key=", "empty"),
        ("key=" + "k" * 961, "961"),
        ("start=b&end=a", "greater than start"),
        ("key=k&from_revision=0", "from 1 to"),
        ("key=k&from_revision=x", "from 1 to"),
        ("key=k&puts=false&deletes=false", "nothing is left"),
        ("key=k&previous=perhaps", "true or false"),
        ("key=k&color=red", "unknown"),
    ],
)
def test_bad_queries(query, says, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await c.call("GET", f"/v1/watch?{query}")
            assert reply.status == 400
            assert says in reply.json()["detail"]
            reply = await c.call("GET", "/v1/watch?key=k", {"Last-Event-ID": "x"})
            assert (reply.status, reply.json()["parameter"]) == (400, "Last-Event-ID")

    asyncio.run(run())


def lose_the_leader(replica):
    """For as long as makes streams end."""
    replica.leads = None
    for _ in range(ELECTION_TIMEOUTS * 4):
        replica.leader_absence.tick()


def test_a_node_without_a_leader_ends_its_watches_with_a_reason(server):
    async def run():
        async with server() as served:
            async with watch(served.address, "prefix=") as source:
                served.replica.apply(Put(b"k", b"v"))
                await source.changes(1)
                lose_the_leader(served.replica)
                told = await source.next()
                assert (told.kind, told.id) == ("no-leader", "2")  # where to go on, elsewhere
                assert "no leader" in told.data["detail"]
                assert await source.next() is None
            async with watch(served.address, "prefix=", "2") as source:
                # Answered, so that a browser's EventSource comes back.
                assert source.status == 200
                assert (await source.next()).kind == "no-leader"
                assert await source.next() is None
            served.replica.leads = 2
            served.replica.leader_absence.tick()
            async with watch(served.address, "prefix=", "2") as source:
                assert (await source.next()).kind == "ready"

    asyncio.run(run())


def test_a_client_that_reads_nothing_is_cut_off_when_the_leader_is_gone(server):
    async def run():
        async with server() as served:
            with socket.create_connection(served.address) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(b"GET /v1/watch?prefix= HTTP/1.1\r\nHost: x\r\n\r\n")
                async with asyncio.timeout(10):
                    while not served.replica.feed.watchers:
                        await asyncio.sleep(0.005)
                for _ in range(20):
                    served.replica.apply(Put(b"k", b"v" * 500_000))
                    await asyncio.sleep(0.005)
                lose_the_leader(served.replica)
                async with asyncio.timeout(10):
                    while served.replica.feed.watchers or len(served.http.facilities.streams):
                        await asyncio.sleep(0.005)

    asyncio.run(run())


def test_a_stream_says_that_it_is_alive_as_often_as_its_client_asks(server):
    async def run():
        async with server() as served:
            asked = {"X-Keep-Alive-S": "0.1"}
            async with watch(served.address, "prefix=", headers=asked) as source:
                assert (await source.next()).data == {"revision": 1, "keep_alive_s": 0.1}
                with pytest.raises(TimeoutError):
                    await source.next(1.0)
                assert 3 <= len(source.comments) <= 10
            for wrong in ("0", "nan", "16", "x", "-1"):
                headers = {"X-Keep-Alive-S": wrong}
                async with watch(served.address, "prefix=", headers=headers) as source:
                    assert source.status == 400

    asyncio.run(run())
