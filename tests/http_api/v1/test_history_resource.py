"""The history of one key: writes and deletions, newest first, as far as compaction left it."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.commands import Compact, Delete, Grant, Put, Revoke
from kvstore.errors import RevisionCompacted
from tests.support.memory_replica import MemoryReplica
from tests.support.raw_http import connect


def test_writes_deletions_and_leases(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            apply = served.replica.apply
            apply(Put(b"k", b"one"), Put(b"other", b"x"), Put(b"k", b"\xff"), Delete(b"k"))
            apply(Grant(7, 60), Put(b"k", b"three", lease=7), Revoke(7), Put(b"k", b"four"))
            found = (await c.call("GET", "/v1/kv/k?history")).json()
            assert (found["key"], found["more"], found["compacted_revision"]) == ("k", False, 0)
            assert found["items"] == [
                {"type": "put", "value": "four", "create_revision": 8, "mod_revision": 8,
                 "version": 1},
                {"type": "delete", "mod_revision": 7},
                {"type": "put", "value": "three", "create_revision": 6, "mod_revision": 6,
                 "version": 1, "lease": "7"},
                {"type": "delete", "mod_revision": 5},
                {"type": "put", "value_base64": "/w==", "create_revision": 2, "mod_revision": 4,
                 "version": 2},
                {"type": "put", "value": "one", "create_revision": 2, "mod_revision": 2,
                 "version": 1},
            ]  # fmt: skip
            assert (await c.call("GET", "/v1/kv/k?history=false")).body == b"four"
            head = await c.call("HEAD", "/v1/kv/k?history")
            assert (head.status, head.headers["content-type"]) == (200, "application/json")

    asyncio.run(run())


def test_pages(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(*(Put(b"k", b"%d" % n) for n in range(5)), Delete(b"k"))
            seen, revision = [], 7
            while True:
                target = f"/v1/kv/k?history&limit=2&revision={revision}"
                page = (await c.call("GET", target)).json()
                seen += [item["mod_revision"] for item in page["items"]]
                if not page["more"]:
                    break
                revision = seen[-1] - 1
            assert seen == [7, 6, 5, 4, 3, 2]
            large = b"x" * (1 << 20)
            served.replica.apply(*(Put(b"large", large) for _ in range(8)))
            page = (await c.call("GET", "/v1/kv/large?history")).json()
            assert page["more"] is True
            assert len(page["items"]) < 8

    asyncio.run(run())


def test_keys_without_history(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Put(b"k\0", b"v"), Put(b"j", b"v"), Put(b"k", b"v"), Delete(b"k"))
            found = await c.call("GET", "/v1/kv/none?history")
            assert (found.status, found.json()["items"]) == (200, [])
            before = (await c.call("GET", "/v1/kv/k?history&revision=3")).json()
            assert before["items"] == []
            served.replica.apply(Compact(5))
            found = (await c.call("GET", "/v1/kv/k?history")).json()
            assert (found["items"], found["compacted_revision"]) == ([], 5)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("history=perhaps", 400, "true or false"),
        ("history&limit=0", 400, "from 1 to"),
        ("history&limit=1001", 400, "from 1 to"),
        ("limit=5", 400, "for history"),
        ("history&revision=99", 400, "future"),
        ("history&revision=2", 410, "compacted"),
    ],
)
def test_bad_queries(query, status, says, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Put(b"k", b"1"), Put(b"k", b"2"), Put(b"k", b"3"), Compact(3))
            reply = await c.call("GET", f"/v1/kv/k?{query}")
            assert reply.status == status
            assert says in reply.json()["detail"]

    asyncio.run(run())


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["put", "delete", "other", "checkpoint"]), max_size=25),
    st.integers(0, 25),
    st.integers(0, 25),
)
def test_agrees_with_the_change_feed(steps, compacted, revision):
    """Whatever happened, checkpointed or not, compacted or not."""
    replica = MemoryReplica()
    state = replica.state
    try:
        for number, step in enumerate(steps):
            if step == "checkpoint":
                if (frozen := state.freeze()) is not None:
                    replica._store.write_frozen(frozen[1])
                    state.checkpointed(frozen[0])
            elif step == "delete":
                replica.apply(Delete(b"k"))
            else:
                replica.apply(Put(b"k" if step == "put" else b"k\0", b"%d" % number))
        everything = state.changes(0, 100)
        compacted, revision = min(compacted, state.revision), min(revision, state.revision)
        replica.apply(Compact(compacted))
        compacted = state.compacted_revision
        if 0 < revision < compacted:
            with pytest.raises(RevisionCompacted):
                state.history(b"k", 100, revision)
            return
        expected = []
        for at, events in reversed(everything):
            if (revision and at > revision) or events[0].item.key != b"k":
                continue
            if at <= compacted and (at < compacted or events[0].deleted):
                # Of what is older, only the value that stood at the compacted revision is left.
                if not events[0].deleted and state.get(b"k", max(compacted, 1)) == events[0].item:
                    expected.append(events[0])
                break
            expected.append(events[0])
            if at == compacted:
                break
        found = state.history(b"k", 100, revision).events
        assert [(e.item, e.deleted) for e in found] == [(e.item, e.deleted) for e in expected]
    finally:
        replica.close()
