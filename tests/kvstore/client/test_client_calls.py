"""What each call sends and how it reads the answer, async and blocking."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

import pytest

from kvstore.client import BlockingClient, Client, Entry
from kvstore.errors import InvalidArgument, Unavailable
from tests.support.flaky_node import FlakyNode, Seen, Step, answers, problem, value, written

not_found = problem(404, "key-not-found")


def one_call(step: Step, method: str, *args: Any, **kwargs: Any) -> tuple[Any, Seen]:
    """Call `method` of a client against one node; the result, and the request it saw."""

    async def run() -> tuple[Any, Seen]:
        async with FlakyNode(step) as node, Client(node.url) as client:
            return await getattr(client, method)(*args, **kwargs), node.seen[0]

    return asyncio.run(run())


@pytest.mark.parametrize(
    "key", [b"a", b"a/b", b".", b"..", b"%2F", b"\x00\xff", "grüße".encode(), b"a b+c?d#e"]
)
def test_any_key_arrives_as_it_is(key: bytes) -> None:
    entry, seen = one_call(value(b"\x00v"), "get", key)
    prefix, _, encoded = seen.path.rpartition("/")
    assert prefix == "/v1/kv" and unquote_to_bytes(encoded) == key
    assert entry == Entry(key, b"\x00v", 5, 7, 2)


def test_get_of_what_is_not_there() -> None:
    assert one_call(not_found, "get", "k")[0] is None


def test_get_looks_back_and_reads_locally() -> None:
    query = one_call(value(b""), "get", "k", revision=3, serializable=True)[1].query
    assert parse_qs(query)["revision"] == ["3"]
    assert parse_qs(query)["consistency"] == ["serializable"]


@pytest.mark.parametrize(
    ("condition", "header", "content"),
    [
        ({"if_revision": 4}, "If-Match", '"4"'),
        ({"if_exists": True}, "If-Match", "*"),
        ({"if_absent": True}, "If-None-Match", "*"),
    ],
)
def test_conditions_become_headers(condition: dict[str, Any], header: str, content: str) -> None:
    result, seen = one_call(written, "put", "k", b"v", **condition)
    assert (result.revision, result.version) == (8, 3)
    assert seen.headers[header] == content


@pytest.mark.parametrize(
    ("key", "condition"),
    [
        ("", {}),
        ("k", {"if_revision": 1, "if_absent": True}),
        ("k", {"if_revision": 0}),
    ],
)
def test_contradictions_are_refused_before_sending(key: str, condition: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        one_call(written, "put", key, b"v", **condition)


def test_delete() -> None:
    result, seen = one_call(answers({"revision": 9, "deleted": 1}), "delete", "k", if_revision=2)
    assert (result.revision, result.deleted) == (9, 1)
    assert seen.method == "DELETE" and seen.headers["If-Match"] == '"2"'


def item(key: str, **fields: str) -> dict[str, Any]:
    return {"key": key, **fields, "create_revision": 1, "mod_revision": 1, "version": 1}


pages = (
    answers({"items": [item("a", value="1")], "cursor": "x/+", "revision": 5}),
    answers({"items": [item("b", value_base64="/w==")], "cursor": None, "revision": 5}),
)


def test_list_follows_cursors() -> None:
    async def run() -> None:
        async with FlakyNode(*pages) as node, Client(node.url) as client:
            found = [entry async for entry in client.list(prefix=b"\xfe", descending=True)]
            assert [(entry.key, entry.value) for entry in found] == [(b"a", b"1"), (b"b", b"\xff")]
            first, second = (parse_qs(seen.query) for seen in node.seen)
            assert first["order"] == ["desc"] and "cursor" not in first
            assert second["cursor"] == ["x/+"]
            assert "prefix=%FE" in node.seen[1].query

    asyncio.run(run())


def test_a_listing_that_cannot_go_on_is_not_taken_for_whole() -> None:
    with pytest.raises(Unavailable, match="more"):
        one_call(answers({"items": [], "more": True, "revision": 5}), "page")


def test_list_ends_at_its_limit() -> None:
    async def run() -> None:
        async with FlakyNode(*pages) as node, Client(node.url) as client:
            assert len([entry async for entry in client.list(limit=1)]) == 1
            assert len(node.seen) == 1 and parse_qs(node.seen[0].query)["limit"] == ["1"]

    asyncio.run(run())


def test_status() -> None:
    body = {
        "node": {"id": 2, "role": "follower"}, "leader": {"id": 1}, "ballot": "3.1",
        "chosen_through": 9, "applied_through": 8,
        "members": [{"id": 1, "role": "leader", "connected": True, "lag": 0}],
    }  # fmt: skip
    status, _ = one_call(answers(body), "status")
    assert status.node.id == 2 and status.leader.id == 1 and status.members[0].connected


def test_the_blocking_client_is_the_same() -> None:
    async def run() -> None:
        async with FlakyNode(written, value(b"v"), not_found, *pages) as node:

            def calls() -> None:
                with BlockingClient(node.url) as client:
                    assert client.put("k", "v").revision == 8
                    assert (entry := client.get("k")) is not None and entry.value == b"v"
                    assert client.get("k") is None
                    assert [entry.key for entry in client.list(page_items=1)] == [b"a", b"b"]
                    client.close()
                with pytest.raises(RuntimeError, match="closed"):
                    client.get("k")

            await asyncio.to_thread(calls)

    asyncio.run(run())


@pytest.mark.parametrize("endpoints", ["", " , ", "ftp://a:1", "http://", "http://a:99999", "a:0"])
def test_bad_endpoints_are_refused(endpoints: str) -> None:
    with pytest.raises(InvalidArgument, match="endpoints"):
        Client(endpoints)


def test_endpoints_are_normalised() -> None:
    assert Client("a:1, http://b:2/ ,a:1").endpoints == ("http://a:1", "http://b:2")


def test_compact_and_hand_over() -> None:
    compacted, seen = one_call(answers({"compacted_revision": 4}), "compact", 4)
    assert compacted.compacted_revision == 4 and seen.body == b'{"revision":4}'
    moved, seen = one_call(answers({"leader": 2}), "hand_over")
    assert moved.leader == 2 and (seen.path, seen.body) == ("/v1/cluster/handover", b"{}")


def test_hand_over_asks_who_leads_first() -> None:
    view = {
        "node": {"id": 1, "role": "leader"}, "leader": {"id": 1}, "ballot": "3.1",
        "chosen_through": 9, "applied_through": 8,
    }  # fmt: skip

    async def run() -> None:
        async with FlakyNode(answers(view)) as node, Client(node.url) as client:
            assert (await client.hand_over(1)).leader == 1
            assert [seen.method for seen in node.seen] == ["GET"]
        async with FlakyNode(answers(view), answers({"leader": 2})) as node:
            async with Client(node.url) as client:
                assert (await client.hand_over(2)).leader == 2
            assert node.seen[1].body == b'{"to":2}'

    asyncio.run(run())
