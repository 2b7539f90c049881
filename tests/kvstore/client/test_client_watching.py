"""Watches against scripted nodes: every event once and in order, whatever breaks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from kvstore.client import BlockingClient, Client
from kvstore.client.watching import EventStreamParser, ServerSentEvent
from kvstore.errors import RevisionCompacted, Unavailable
from tests.support.flaky_node import FlakyNode, Step, no_quorum, problem


def sse(name: str, data: dict[str, Any], revision: int | None) -> bytes:
    head = b"" if revision is None else b"id: %d\n" % revision
    return head + f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def ready(revision: int) -> bytes:
    return sse("ready", {"revision": revision}, revision)


def change(revision: int, *keys: str) -> bytes:
    events = [
        {"type": "put", "key": key, "value": "v", "create_revision": 1, "mod_revision": revision,
         "version": 1}
        for key in keys
    ]  # fmt: skip
    return sse("change", {"revision": revision, "events": events}, revision)


def stream(*pieces: bytes) -> Step:
    """A step that sends these bytes, and ends the stream."""
    body = b"".join(pieces)
    return lambda _: web.Response(body=body, content_type="text/event-stream")


def first_revisions(node: FlakyNode) -> list[str | None]:
    return [parse_qs(seen.query).get("from_revision", [None])[0] for seen in node.seen]


def test_pieces_of_any_size_make_the_same_events() -> None:
    data = b"id: 7\r\nevent: change\r\ndata: a\ndata:b\n\n: keep-alive\n\ndata: c\n\nevent: x\n\n"
    expected = [ServerSentEvent("change", b"a\nb", "7"), ServerSentEvent("message", b"c", None)]
    for size in range(1, len(data) + 1):
        parser = EventStreamParser()
        found = [
            event
            for begin in range(0, len(data), size)
            for event in parser.feed(data[begin : begin + size])
        ]
        assert found == expected


def watching(
    scripts: list[list[Step]], body: Callable[[list[FlakyNode], Client], Any], **settings: Any
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            nodes = [FlakyNode(*script) for script in scripts]
            for node in nodes:
                await node.__aenter__()
            try:
                async with Client([node.url for node in nodes], **settings) as client:
                    await body(nodes, client)
            finally:
                for node in nodes:
                    await node.__aexit__(None, None, None)

    asyncio.run(run())


def test_it_goes_on_at_another_node_after_the_last_whole_change() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        found = []
        async for event in client.watch(prefix="a"):
            found.append((event.revision, event.key))
            if event.revision == 9:
                break
        # The first node breaks off in the middle of 5; the second repeats 4, which is not asked.
        assert found == [(3, b"a"), (4, b"a"), (4, b"b"), (5, b"a"), (5, b"b"), (9, b"a")]
        assert first_revisions(nodes[0]) == [None] and first_revisions(nodes[1]) == ["5"]

    first = stream(ready(2), change(3, "a"), change(4, "a", "b"), change(5, "a", "b")[:-1])
    second = stream(ready(4), change(4, "a", "b"), change(5, "a", "b"), change(9, "a"))
    watching([[first], [second]], body)


def test_ready_and_progress_move_the_position() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        async with client.watch() as watch:
            assert watch.seen_revision == 20
            assert (await anext(watch)).revision == 30
        assert first_revisions(nodes[0]) == [None, "21"]
        assert "prefix=" in nodes[0].seen[0].query

    progress = sse("progress", {"revision": 20}, 20)
    watching([[stream(ready(2), progress), stream(change(30, "a"))]], body)


def test_a_transaction_that_was_given_out_in_part_is_not_seen() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        watch = client.watch(from_revision=4)
        await anext(watch)
        assert watch.seen_revision == 3
        await anext(watch)
        assert watch.seen_revision == 5  # the next one is 6
        found = await anext(aiter(watch.changes()))
        assert [event.key for event in found.events] == [b"c", b"d"]
        await watch.aclose()
        assert [event async for event in watch] == []

    watching([[stream(ready(3), change(4, "a", "b"), change(6, "c", "d")), "hang"]], body)


@pytest.mark.parametrize(
    "step",
    [
        problem(410, "revision-compacted", compacted_revision=7),
        stream(ready(3), sse("compacted", {"compacted_revision": 7, "from_revision": 4}, None)),
    ],
)
def test_what_is_compacted_cannot_be_resumed(step: Step) -> None:
    async def body(_: list[FlakyNode], client: Client) -> None:
        with pytest.raises(RevisionCompacted) as caught:
            await anext(client.watch("k", from_revision=4))
        assert caught.value.compacted_revision == 7

    watching([[step]], body)


def silent(*pieces: bytes) -> Step:
    """A step that sends these bytes, and nothing more while the stream stays open."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        await asyncio.sleep(60)

    return lambda _: web.Response(body=body(), content_type="text/event-stream")


def alive_every(keep_alive_s: float, revision: int) -> bytes:
    data = {"revision": revision, "keep_alive_s": keep_alive_s}
    return sse("ready", data, revision)


def test_a_node_that_falls_silent_is_left() -> None:
    """It is frozen, or cut off without a word: the connection stays."""

    async def body(nodes: list[FlakyNode], client: Client) -> None:
        begun_s = time.monotonic()
        async with client.watch("k", from_revision=5) as watch:
            assert [(await anext(watch)).revision for _ in range(2)] == [5, 6]
        assert time.monotonic() - begun_s < 5.0
        assert nodes[0].seen[0].headers["X-Keep-Alive-S"] == "0.5"
        assert first_revisions(nodes[1]) == ["6"]

    first = silent(alive_every(0.1, 4), change(5, "k"))
    watching([[first], [stream(ready(5), change(6, "k"))]], body)


def test_a_node_that_takes_the_request_and_says_nothing_is_left() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        begun_s = time.monotonic()
        async with client.watch("k") as watch:
            assert (await anext(watch)).revision == 6
        assert time.monotonic() - begun_s < 5.0

    watching([["hang"], [stream(ready(5), change(6, "k"))]], body, timeout_s=15)


def test_a_node_of_an_earlier_release_may_be_silent_for_long() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        async with client.watch("k") as watch:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.0):
                    await anext(watch)
        assert not nodes[1].seen

    watching([[silent(ready(5))], [stream(ready(5), change(6, "k"))]], body)


def test_a_node_without_a_leader_is_left_for_the_next() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        async with client.watch("k") as watch:
            assert [(await anext(watch)).revision for _ in range(2)] == [5, 7]
        assert first_revisions(nodes[1]) == ["6"]
        assert first_revisions(nodes[2]) == ["6"]

    no_leader = sse("no-leader", {"detail": "this node has known no leader for 1.2 s"}, None)
    # The second is without one from the start, and so says nothing else.
    scripts: list[list[Step]] = [
        [stream(ready(4), change(5, "k"), no_leader)],
        [stream(no_leader)],
        [stream(ready(5), change(7, "k"))],
    ]
    watching(scripts, body)


def test_a_cluster_without_a_leader_is_given_up_in_time() -> None:
    no_leader = sse("no-leader", {"detail": "known no leader for 9 s"}, None)

    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(Unavailable, match="no leader for 9 s"):
            await anext(client.watch("k", resume_s=0.5))
        assert 2 <= len(nodes[0].seen) <= 20

    watching([[stream(no_leader)], [stream(no_leader)]], body, timeout_s=0.5)


def test_it_gives_up_when_no_node_serves_it() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(Unavailable, match="no node serves"):
            await anext(client.watch("k"))
        assert all(node.seen for node in nodes)

    watching([[no_quorum], ["drop"]], body, timeout_s=0.3)


def test_nodes_that_end_the_stream_at_once_are_not_asked_in_a_frenzy() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(Unavailable):
            await anext(client.watch("k"))
        assert 2 <= len(nodes[0].seen) < 12

    watching([[stream()]], body, timeout_s=0.5)


def test_an_outage_is_sat_out() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        watch = client.watch("k", resume_s=10)
        assert [(await anext(watch)).revision for _ in range(2)] == [3, 5]

    script = [stream(ready(2), change(3, "k")), *([no_quorum] * 5), stream(change(5, "k"))]
    watching([script], body, timeout_s=0.1, attempt_timeout_s=5)


def test_events_say_what_changed() -> None:
    lease = {"type": "put", "key": "k", "value_base64": "/w==", "create_revision": 3,
             "mod_revision": 3, "version": 1, "lease": "4611686018427387905"}  # fmt: skip
    old = {"key": "k", "value": "old", "create_revision": 1, "mod_revision": 2, "version": 2}
    gone = {"type": "delete", "key_base64": "/g==", "mod_revision": 3, "previous": old}

    async def body(nodes: list[FlakyNode], client: Client) -> None:
        watch = client.watch("k", previous=True, puts=False)
        put, delete = await anext(watch), await anext(watch)
        assert put.value == b"\xff" and put.entry.lease == (1 << 62) + 1 and not put.deleted
        assert (delete.key, delete.deleted, delete.value) == (b"\xfe", True, b"")
        assert delete.previous is not None and delete.previous.value == b"old"
        query = parse_qs(nodes[0].seen[0].query)
        assert query["previous"] == ["true"] and query["puts"] == ["false"]
        assert "deletes" not in query

    watching([[stream(sse("change", {"revision": 3, "events": [lease, gone]}, 3))]], body)


def test_the_blocking_watch_is_the_same() -> None:
    async def run() -> None:
        script = stream(ready(2), change(3, "a", "b"), change(4, "c")), "hang"
        async with asyncio.timeout(20), FlakyNode(*script) as node:

            def calls() -> None:
                with BlockingClient(node.url) as client:
                    with client.watch(prefix="") as watch:
                        assert next(watch).key == b"a" and watch.seen_revision == 2
                        assert next(watch).key == b"b" and watch.seen_revision == 3
                        assert [e.key for e in next(watch.changes()).events] == [b"c"]
                    assert list(watch) == []

            await asyncio.to_thread(calls)

    asyncio.run(run())
