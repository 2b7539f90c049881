"""Leases: granted, kept alive, looked at, ended; and what happens to their keys."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from http_api.server import HttpServer
from kvstore.commands.commands import Grant, Put
from kvstore.config import Config
from kvstore.errors import NoQuorum
from kvstore.replica.open import open_replica
from tests.support.event_source import watch
from tests.support.raw_http import connect


async def post(c, path, document=None, headers=None):
    body = b"" if document is None else json.dumps(document).encode()
    return await c.call("POST", f"/v1/leases{path}", headers, body)


def test_life_of_a_lease(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            reply = await post(c, "", {"ttl_s": 60, "id": "123"})
            assert (reply.status, reply.json()) == (201, {"id": "123", "ttl_s": 60})
            await c.call("PUT", "/v1/kv/a?lease=123", body=b"v")
            await c.call("PUT", "/v1/kv/%ff?lease=123", body=b"v")
            assert (await c.call("GET", "/v1/kv/a")).headers["x-lease"] == "123"
            assert (await c.call("GET", "/v1/kv/a?revision=2")).headers["x-lease"] == "123"
            served.replica.leasing.advance(20)
            found = (await c.call("GET", "/v1/leases/123")).json()
            keys = [{"key": "a"}, {"key_base64": "/w=="}]
            assert found == {
                "id": "123", "ttl_s": 60, "left_s": 40.0, "keys": keys, "more": False,
            }  # fmt: skip
            reply = await post(c, "/123/keep-alive")
            assert (reply.status, reply.json()) == (200, {"id": "123", "ttl_s": 60})
            assert (await c.call("GET", "/v1/leases/123")).json()["left_s"] == 60.0
            assert (await c.call("GET", "/v1/kv")).json()["items"][0]["lease"] == "123"
            reply = await c.call("DELETE", "/v1/leases/123")
            assert reply.json() == {"revision": 4, "deleted": 2}
            assert served.replica.keys == []
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/keep-alive")):
                reply = await c.call(method, f"/v1/leases/123{path}")
                assert (reply.status, reply.json()["type"]) == (404, "/problems/lease-not-found")

    asyncio.run(run())


def test_expiry_deletes_the_keys(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            put = (await c.call("PUT", "/v1/kv/k?ttl=10", body=b"v")).json()
            lease = put.pop("lease")
            assert put == {"revision": 2, "version": 1}
            assert (await c.call("GET", "/v1/kv/k")).headers["x-lease"] == lease
            served.replica.leasing.advance(9.9)
            assert (await c.call("GET", "/v1/kv/k")).status == 200
            served.replica.leasing.advance(0.1)
            assert (await c.call("GET", "/v1/kv/k")).status == 404
            assert (await c.call("GET", f"/v1/leases/{lease}")).status == 404

    asyncio.run(run())


def test_the_fast_lane_names_the_lease_too(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Grant(7, 60), Put(b"k", b"v", lease=7), Put(b"l", b"v"))
            assert (await c.call("GET", "/v1/kv/k")).headers["x-lease"] == "7"
            assert "x-lease" not in (await c.call("GET", "/v1/kv/l")).headers
            assert len(served.http._lanes.open) == 1

    asyncio.run(run())


def test_a_put_without_a_lease_gives_it_up(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            await c.call("PUT", "/v1/kv/k?ttl=10", body=b"v")
            assert "lease" not in (await c.call("PUT", "/v1/kv/k", body=b"w")).json()
            assert "x-lease" not in (await c.call("GET", "/v1/kv/k")).headers
            served.replica.leasing.advance(11)
            assert (await c.call("GET", "/v1/kv/k")).body == b"w"

    asyncio.run(run())


def test_ids_are_chosen_and_short_times_are_lengthened(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            granted = [(await post(c, "", {"ttl_s": 1})).json() for _ in range(20)]
            assert {lease["ttl_s"] for lease in granted} == {2}
            ids = {int(lease["id"]) for lease in granted}
            assert len(ids) == 20
            assert all(0 < number < 1 << 63 for number in ids)
            listed = (await c.call("GET", "/v1/leases")).json()
            assert {int(lease["id"]) for lease in listed["leases"]} == ids
            assert listed["cursor"] is None
            assert served.replica.state.revision == 1, "a grant takes no revision"

    asyncio.run(run())


def test_taken_ids_are_not_chosen_again(server, monkeypatch):
    drawn = iter([6, 6, 7, 7, 7, 8])
    monkeypatch.setattr("http_api.v1.documents.secrets.randbelow", lambda _: next(drawn))

    async def run():
        async with server() as served, connect(served.address) as c:
            found = [(await post(c, "", {"ttl_s": 9})).json()["id"] for _ in range(2)]
            assert found == ["7", "8"]
            assert (await c.call("PUT", "/v1/kv/k?ttl=9", body=b"")).json()["lease"] == "9"
            assert served.replica.state.get(b"k").lease == 9

    asyncio.run(run())


def test_listing_in_pages(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            ids = [5, -3, 9, 1 << 62, -(1 << 62), 1]
            served.replica.apply(*(Grant(lease, 60) for lease in ids))
            seen, cursor = [], ""
            while cursor is not None:
                more = f"&cursor={cursor}" if cursor else ""
                page = (await c.call("GET", f"/v1/leases?limit=2{more}")).json()
                assert len(page["leases"]) == 2
                seen += [int(lease["id"]) for lease in page["leases"]]
                cursor = page["cursor"]
            assert sorted(seen) == sorted(ids)

    asyncio.run(run())


def test_idempotency_key(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            headers = {"Idempotency-Key": "grant"}
            first = await post(c, "", {"ttl_s": 60}, headers)
            again = await post(c, "", {"ttl_s": 60}, headers)
            assert first.json() == again.json()
            assert (await post(c, "", {"ttl_s": 61}, headers)).status == 422
            headers = {"Idempotency-Key": "put"}
            first = await c.call("PUT", "/v1/kv/k?ttl=60", headers, b"v")
            again = await c.call("PUT", "/v1/kv/k?ttl=60", headers, b"v")
            assert first.json() == again.json()
            assert len(list(served.replica.state.leases.all())) == 2

    asyncio.run(run())


LEASE, KEY = "/v1/leases", "/v1/kv/k"
BAD = [
    ("POST", LEASE, b"", 400, "malformed", "JSON"),
    ("POST", LEASE, b"{}", 400, "invalid-argument", "ttl_s"),
    ("POST", LEASE, b'{"ttl_s":0}', 400, "invalid-argument", "ttl_s"),
    ("POST", LEASE, b'{"ttl_s":9000000001}', 400, "invalid-argument", "ttl_s"),
    ("POST", LEASE, b'{"ttl_s":1.5}', 400, "invalid-argument", "ttl_s"),
    ("POST", LEASE, b'{"ttl_s":9,"id":"x"}', 400, "invalid-argument", "id"),
    ("POST", LEASE, b'{"ttl_s":9,"id":0}', 400, "invalid-argument", "id"),
    ("POST", LEASE, b'{"ttl_s":9,"id":"9223372036854775808"}', 400, "invalid-argument", "id"),
    ("POST", LEASE, b'{"ttl_s":9,"ttl":9}', 400, "invalid-argument", "ttl"),
    ("POST", LEASE, b'{"ttl_s":9,"id":"7"}', 409, "lease-exists", "lease 7"),
    ("POST", LEASE, b" " * 5000, 413, "too-large", "4096"),
    ("GET", f"{LEASE}/x", b"", 400, "invalid-argument", "id"),
    ("GET", f"{LEASE}/", b"", 400, "invalid-argument", "id"),
    ("GET", f"{LEASE}/7/8", b"", 400, "invalid-argument", "id"),
    ("GET", f"{LEASE}/%ff", b"", 400, "invalid-argument", "id"),
    ("GET", f"{LEASE}/8", b"", 404, "lease-not-found", "lease 8"),
    ("GET", f"{LEASE}/7/keep-alive", b"", 405, "method-not-allowed", "POST"),
    ("GET", f"{LEASE}?cursor=x", b"", 400, "invalid-argument", "cursor"),
    ("GET", f"{LEASE}?limit=0", b"", 400, "invalid-argument", "limit"),
    ("PUT", f"{KEY}?ttl=0", b"", 400, "invalid-argument", "ttl"),
    ("PUT", f"{KEY}?ttl=x", b"", 400, "invalid-argument", "ttl"),
    ("PUT", f"{KEY}?lease=x", b"", 400, "invalid-argument", "lease"),
    ("PUT", f"{KEY}?lease=8", b"", 404, "lease-not-found", "lease 8"),
    ("PUT", f"{KEY}?lease=7&ttl=9", b"", 400, "contradiction", "without lease"),
    ("GET", f"{KEY}?ttl=9", b"", 400, "invalid-argument", "unknown"),
    ("DELETE", f"{KEY}?lease=7", b"", 400, "invalid-argument", "unknown"),
]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "slug", "says"),
    BAD,
    ids=[f"{bad[1]} {bad[2]}"[:40] for bad in BAD],
)
def test_bad_requests(method, target, body, status, slug, says, server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Grant(7, 60))
            reply = await c.call(method, target, body=body)
            assert (reply.status, reply.json()["type"]) == (status, f"/problems/{slug}"), reply
            assert says in reply.json()["detail"]
            assert served.replica.state.revision == 1
            assert len(list(served.replica.state.leases.all())) == 1

    asyncio.run(run())


def test_without_a_quorum(server):
    async def run():
        async with server() as served, connect(served.address) as c:
            served.replica.apply(Grant(7, 60), Put(b"k", b"v", lease=7))
            served.replica.fails_with = NoQuorum("cut off")
            for method, path in (("GET", "/7"), ("DELETE", "/7"), ("POST", "/7/keep-alive")):
                reply = await c.call(method, f"/v1/leases{path}")
                assert (reply.status, reply.json()["outcome"]) == (503, "not-applied")
            assert (await post(c, "", {"ttl_s": 9})).status == 503
            local = await c.call("GET", "/v1/leases?consistency=serializable")
            assert local.json()["leases"] == [{"id": "7", "ttl_s": 60}]

    asyncio.run(run())


@asynccontextmanager
async def one_node(directory):
    """A real replica that is its whole cluster, and its server."""
    config = Config(
        node_id=1,
        members={1: ("127.0.0.1", 0)},
        listen_peer=("127.0.0.1", 0),
        listen_client=("127.0.0.1", 0),
        data_dir=directory,
    )
    replica = await open_replica(config)
    http = HttpServer(replica, config)
    await http.start()
    try:
        async with asyncio.timeout(60):
            while not replica.status().ready:
                await asyncio.sleep(0.01)
        yield http
    finally:
        await http.stop()
        await replica.stop()


def test_a_real_lease_ends_in_time_and_not_early(tmp_path):
    async def run():
        async with one_node(tmp_path / "node") as http, connect(http.address) as c:
            loop = asyncio.get_running_loop()
            async with watch(http.address, "prefix=t&puts=false") as source:
                await source.next()
                lease = (await c.call("PUT", "/v1/kv/ta?ttl=2", body=b"v")).json()["lease"]
                await c.call("PUT", "/v1/kv/tb?ttl=2", body=b"v")
                while (await post(c, f"/{lease}/keep-alive")).status == 200:
                    began = loop.time()
                    found = (await c.call("GET", "/v1/kv")).json()["items"]
                    if len(found) == 1:
                        break
                    await asyncio.sleep(0.05)
                first, second = await source.changes(2)
                lasted_s = loop.time() - began
                assert first["events"][0]["key"] == "tb", "the one that nobody kept alive"
                assert second["events"][0]["key"] == "ta"
                assert 1.99 <= lasted_s <= 3
            assert (await post(c, f"/{lease}/keep-alive")).status == 404
            assert (await c.call("GET", "/v1/leases")).json()["leases"] == []

    asyncio.run(run())
