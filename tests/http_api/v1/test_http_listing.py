"""Pages of keys: ranges, forms of bytes, and one revision over all pages."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.commands.commands import Compact, Delete, Put
from kvstore.commands.operations import prefix_end
from kvstore.state.mvcc import PAGE_BYTES_MAX
from tests.support.raw_http import connect

KEYS = [b"a", b"a/1", b"a/2", b"a0", b"b", b"\xff", b"\xff\xff"]


def fill(served):
    for key in KEYS:
        served.replica.apply(Put(key, b"v" + key))


async def pages(c, query):
    """All items of a listing, page by page."""
    items, cursor = [], ""
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        reply = await c.call("GET", f"/v1/kv?{query}{more}")
        assert reply.status == 200, reply
        page = reply.json()
        items.append(page)
        cursor = page["cursor"]
        if cursor is None:
            return items


def keys_of(found):
    return [item.get("key", item.get("key_base64")) for page in found for item in page["items"]]


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", ["a", "a/1", "a/2", "a0", "b", "/w==", "//8="]),
        ("prefix=a/", ["a/1", "a/2"]),
        ("prefix=a%2F", ["a/1", "a/2"]),
        ("prefix=%ff", ["/w==", "//8="]),
        ("prefix=", ["a", "a/1", "a/2", "a0", "b", "/w==", "//8="]),
        ("start=a/2&end=b", ["a/2", "a0"]),
        ("start=b", ["b", "/w==", "//8="]),
        ("end=a/1", ["a"]),
        ("prefix=a&order=desc", ["a0", "a/2", "a/1", "a"]),
        ("prefix=none", []),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("keys_only", ["", "&keys_only=true"])
def test_ranges(query, keys, limit, keys_only, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            fill(served)
            found = await pages(c, f"{query}&limit={limit}{keys_only}")
            assert keys_of(found) == keys
            assert all(len(page["items"]) <= limit for page in found)
            values = [item.get("value") for page in found for item in page["items"]]
            assert all(value is None for value in values) or not keys_only

    asyncio.run(run())


def test_form_of_bytes(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Put(b"\0text", "naïve".encode()))
            served.replica.apply(Put(b"\xff", b"\xfe\0"))
            reply = await c.call("GET", "/v1/kv")
            revisions = {"create_revision": 2, "mod_revision": 2, "version": 1}
            text, binary = reply.json()["items"]
            assert text == {"key": "\0text", "value": "naïve", **revisions}
            assert (binary["key_base64"], binary["value_base64"]) == ("/w==", "/gA=")
            assert "key" not in binary and "value" not in binary

    asyncio.run(run())


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_are_one_snapshot(order, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            fill(served)
            replica = served.replica
            query = f"prefix=a&limit=2&order={order}"
            first = (await c.call("GET", f"/v1/kv?{query}")).json()
            replica.apply(Delete(b"a0"))
            replica.apply(Put(b"a/2", b"new"))
            replica.apply(Put(b"a/3", b"new"))
            target = f"/v1/kv?{query}&cursor={first['cursor']}"
            second = (await c.call("GET", target)).json()
            assert len(keys_of([first, second])) == 4
            assert set(keys_of([first, second])) == {"a", "a/1", "a/2", "a0"}
            assert first["revision"] == second["revision"]
            other = await c.call("GET", f"/v1/kv?prefix=b&cursor={first['cursor']}")
            assert (other.status, other.json()["parameter"]) == (400, "cursor")
            assert (await c.call("GET", f"{target}&revision=2")).status == 400
            replica.apply(Compact(replica.state.revision))
            assert (await c.call("GET", target)).status == 410

    asyncio.run(run())


def test_page_of_large_values_ends_early(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            for number in range(24):
                served.replica.apply(Put(b"%02d" % number, b"x" * (1 << 20)))
            found = await pages(c, "limit=1000")
            assert keys_of(found) == [f"{number:02}" for number in range(24)]
            assert len(found) > 1
            assert len(await pages(c, "limit=1000&keys_only")) == 1
            assert PAGE_BYTES_MAX < 24 << 20

    asyncio.run(run())


@given(st.binary(max_size=4), st.binary(max_size=5))
def test_after_prefix(prefix, key):
    end = prefix_end(prefix)
    assert key.startswith(prefix) == (prefix <= key and (end is None or key < end))
