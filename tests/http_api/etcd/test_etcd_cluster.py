"""cluster/... and maintenance/... of etcd's API on real replicas."""

import asyncio
import base64
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import lmdb
import orjson
import pytest

from http_api.core import streams
from http_api.etcd.cluster import client_url
from http_api.etcd.snapshot import COPIES_MAX
from http_api.server import HttpServer
from kvstore.config import Config
from kvstore.event_log import EventLog
from kvstore.replica.open import open_replica
from kvstore.storage.state import StateStore
from tests.support.etcd_node import (
    EtcdNode,
    delete_op,
    encoded,
    error_of,
    etcd_node,
    on_node,
    put_op,
    revision,
)
from tests.support.ports import free_ports
from tests.support.raw_http import connect, request

NOT_FOUND = (404, 5, "etcdserver: member not found")
BAD_URLS = (400, 3, "etcdserver: given member URLs are invalid")

# -- members --------------------------------------------------------------------------------


def test_member_list(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        listed = await node.ok("cluster/member/list")
        assert listed["header"].keys() == {"cluster_id", "member_id", "raft_term"}
        (member,) = listed["members"]
        assert member["ID"] == listed["header"]["member_id"]
        assert member["name"] == "node1"
        assert member["peerURLs"] == ["http://127.0.0.1:0"]
        assert len(member["clientURLs"]) == 1
        assert (await node.ok("cluster/member/list", linearizable=True)) == listed

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("listening", "url"),
    [
        ("http://10.0.0.5:2379", "http://10.0.0.5:2379"),
        ("http://0.0.0.0:2379", "http://peer.example:2379"),
        ("http://[::]:2379", "http://peer.example:2379"),
        ("http://[::1]:2379", "http://[::1]:2379"),
        ("http://:::2379", "http://peer.example:2379"),
    ],
)
def test_client_urls_are_reachable(listening: str, url: str) -> None:
    """A wildcard sends a client that fails over to itself."""
    assert client_url(listening, "peer.example") == url


ADD, REMOVE, UPDATE, PROMOTE = (
    f"cluster/member/{each}" for each in ("add", "remove", "update", "promote")
)
TAKEN = (400, 9, "etcdserver: Peer URLs already exists")
VOTES = (400, 9, "etcdserver: can only promote a learner member")
BEHIND = (
    400, 9, "etcdserver: can only promote a learner member which is in sync with leader",
)  # fmt: skip
TOO_FEW = (500, 2, "etcdserver: re-configuration failed due to not enough started members")


def test_refused_changes_of_members(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        own = (await node.ok("cluster/member/list"))["header"]["member_id"]
        bad = ([], ["bad"], ["ftp://x:1"], ["http://x"], ["http://x:1/path"], ["http://x:y"],
               ["http://x:1?q=1"], ["http://:1"], ["http://x y:1"])  # fmt: skip
        for urls in bad:
            assert await node.refused(ADD, peerURLs=urls) == BAD_URLS
        several = await node.refused(ADD, peerURLs=["http://x:1", "http://x:2"])
        assert several == (400, 3, "etcdserver: a member has one peer URL here")
        assert await node.refused(ADD, peerURLs=["http://127.0.0.1:0"]) == TAKEN
        for call in (REMOVE, UPDATE, PROMOTE):
            for member in ({"ID": "5"}, {}, {"ID": "18446744073709551615"}):
                fields = {**member, "peerURLs": ["bad"]}
                assert await node.refused(call, **fields) == NOT_FOUND
        assert await node.refused(REMOVE, ID=own) == TOO_FEW
        assert await node.refused(PROMOTE, ID=own) == VOTES
        assert await node.refused(UPDATE, ID=own, peerURLs=["bad"]) == BAD_URLS
        same = await node.ok(UPDATE, ID=own, peerURLs=["http://127.0.0.1:0"])
        assert len(same["members"]) == 1
        reply = await node.post("cluster/member/remove", {"ID": "-1"})
        assert error_of(reply)[:2] == (400, 3)  # ids have no sign

    on_node(tmp_path, test)


def test_members_come_and_go(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        listed = await node.ok("cluster/member/list")
        own = listed["members"][0]["ID"]
        added = await node.ok(ADD, peerURLs=["http://127.0.0.1:1"], isLearner=True)
        learner = added["member"]
        assert learner == {
            "ID": learner["ID"], "peerURLs": ["http://127.0.0.1:1"], "isLearner": True,
        }  # fmt: skip
        ids = [int(each["ID"]) for each in added["members"]]
        assert ids == sorted(map(int, (own, learner["ID"])))
        assert await node.refused(ADD, peerURLs=["http://127.0.0.1:1"], isLearner=True) == TAKEN
        many = (400, 9, "etcdserver: too many learner members in cluster")
        assert await node.refused(ADD, peerURLs=["http://127.0.0.1:4"], isLearner=True) == many
        voter = (await node.ok(ADD, peerURLs=["http://127.0.0.1:2"]))["member"]
        assert voter == {"ID": voter["ID"], "peerURLs": ["http://127.0.0.1:2"]}
        assert await node.refused(PROMOTE, ID=learner["ID"]) == BEHIND
        url = "http://127.0.0.1:3"
        changed = await node.ok(UPDATE, ID=learner["ID"], peerURLs=[url])
        assert {"ID": learner["ID"], "peerURLs": [url], "isLearner": True} in changed["members"]
        for gone in (learner, voter):
            left = (await node.ok(REMOVE, ID=gone["ID"]))["members"]
            assert gone["ID"] not in [each["ID"] for each in left]
            assert await node.refused(REMOVE, ID=gone["ID"]) == NOT_FOUND
        assert (await node.ok("cluster/member/list")) == listed

    on_node(tmp_path, test)


def test_three_nodes_say_the_same(tmp_path: Path) -> None:
    """One cluster id, the same members with their client URLs, and the leader can be moved."""

    async def run() -> None:
        ports = free_ports(6)
        members = {n: ("127.0.0.1", ports[n - 1]) for n in (1, 2, 3)}
        replicas, servers = [], []
        try:
            for n, address in members.items():
                config = Config(
                    node_id=n,
                    members=members,
                    listen_peer=address,
                    listen_client=("127.0.0.1", ports[n + 2]),
                    data_dir=tmp_path / str(n),
                )
                replicas.append(await open_replica(config, EventLog(n)))
                servers.append(HttpServer(replicas[-1], config))
                await servers[-1].start()
            async with asyncio.timeout(20):
                while not all(replica.status().ready for replica in replicas):
                    await asyncio.sleep(0.01)
            await _compare_and_move([server.address for server in servers], ports)
        finally:
            await asyncio.gather(*(server.stop() for server in servers))
            await asyncio.gather(*(replica.stop() for replica in replicas))

    asyncio.run(run())


async def _post(address: tuple[str, int], path: str, **fields: Any) -> Any:
    async with connect(address) as connection:
        body = orjson.dumps(encoded(fields))
        return await connection.call("POST", f"/v3/{path}", None, body)


async def _compare_and_move(addresses: list[tuple[str, int]], ports: list[int]) -> None:
    written = (await _post(addresses[0], "kv/put", key=b"k")).json()
    lists = [(await _post(each, "cluster/member/list")).json() for each in addresses]
    found = [(await _post(each, "kv/range", key=b"k")).json() for each in addresses]
    headers = [each["header"] for each in found]
    assert len({each["cluster_id"] for each in headers}) == 1
    assert {each["raft_term"] for each in headers} == {"2"}
    assert {each["revision"] for each in headers} == {written["header"]["revision"]}
    ids = [each["member_id"] for each in headers]
    assert len(set(ids)) == 3
    assert lists[0]["members"] == lists[1]["members"] == lists[2]["members"]
    urls = [url for member in lists[0]["members"] for url in member["clientURLs"]]
    assert sorted(urls) == sorted(f"http://127.0.0.1:{port}" for port in ports[3:])
    statuses = [(await _post(each, "maintenance/status")).json() for each in addresses]
    (leader,) = {status["leader"] for status in statuses}
    at = ids.index(leader)
    move = "maintenance/transfer-leadership"
    refused = await _post(addresses[at - 1], move, targetID=ids[at - 2])
    assert error_of(refused) == (400, 9, "etcdserver: not leader")
    refused = await _post(addresses[at], move, targetID="5")
    assert error_of(refused) == (400, 9, "etcdserver: bad leader transferee")
    assert (await _post(addresses[at], move, targetID=leader)).json() == {}
    assert (await _post(addresses[at], move, targetID=ids[at - 1])).json() == {}
    after = (await _post(addresses[at - 1], "maintenance/status")).json()
    assert after["leader"] == ids[at - 1]


# -- maintenance ----------------------------------------------------------------------------


def test_status_hash_alarm(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"k", value=b"v")
        status = await node.ok("maintenance/status")
        assert status["version"] == "3.5.1" and status["raftTerm"] == "2"
        assert status["leader"] == status["header"]["member_id"] and revision(status) == 2
        assert 0 < int(status["raftAppliedIndex"]) <= int(status["raftIndex"])
        assert 0 < int(status["dbSizeInUse"]) <= int(status["dbSize"])
        before = (await node.ok("maintenance/hash"))["hash"]
        assert type(before) is int and 0 < before < 1 << 32
        assert (await node.ok("maintenance/hash"))["hash"] == before
        await node.ok("kv/put", key=b"k", value=b"v")
        assert (await node.ok("maintenance/hash"))["hash"] != before
        alarm = "maintenance/alarm"
        for action in ({}, {"action": "GET"}, {"action": 2, "alarm": "NOSPACE", "memberID": "7"}):
            assert (await node.ok(alarm, **action)).keys() == {"header"}
        raised = await node.refused(alarm, action="ACTIVATE", alarm="CORRUPT")
        assert raised[:2] == (501, 12)
        reply = await node.post("maintenance/defragment", {})
        assert (reply.status, reply.body) == (200, b"{}")
        assert (await node.raw("/v3/maintenance/hashkv", b"{}")).status == 404

    on_node(tmp_path, test)


def test_out_of_space_is_an_alarm(tmp_path: Path) -> None:
    """As etcd tells it, but that it ends by itself."""

    async def full(node: EtcdNode) -> bool:
        reply = await node.post("kv/put", encoded({"key": b"k%d" % node.replica.state.revision,
                                                   "value": bytes(10_000)}))  # fmt: skip
        if reply.status == 200:
            return False
        assert error_of(reply) == (429, 8, "etcdserver: mvcc: database space exceeded")
        return True

    async def test(node: EtcdNode) -> None:
        await node.ok("kv/put", key=b"last", value=b"")
        async with asyncio.timeout(10):
            while not await full(node):
                pass
        status = await node.ok("maintenance/status")
        me = status["header"]["member_id"]
        assert status["errors"] == [f"memberID:{me} alarm:NOSPACE "]
        raised = [{"memberID": me, "alarm": "NOSPACE"}]
        assert (await node.ok("maintenance/alarm"))["alarms"] == raised
        assert (await node.ok("maintenance/alarm", memberID=me, alarm=1))["alarms"] == raised
        for other in ({"alarm": "CORRUPT"}, {"memberID": "7"}, {"action": 2, "alarm": "NOSPACE"}):
            assert (await node.ok("maintenance/alarm", **other)).keys() == {"header"}
        refused = (429, 8, "etcdserver: mvcc: database space exceeded")
        assert await node.refused("lease/grant", TTL=10) == refused
        assert await node.refused("kv/txn", success=[put_op(b"k")]) == refused
        await node.ok("kv/txn", success=[delete_op(b"k1")])
        await node.ok("kv/deleterange", key=b"k", range_end=b"l")
        # Of the last revision the history is kept: the smallest quota that may be set leaves room
        # for it, and this one does not.
        await node.ok("kv/deleterange", key=b"last")
        async with asyncio.timeout(10):
            while "alarms" in await node.ok("maintenance/alarm"):
                await asyncio.sleep(0.02)
        await node.ok("kv/put", key=b"k", value=b"v")

    on_node(tmp_path, test, space_quota_bytes=300_000, checkpoint_interval_s=0.05)


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({}, 3, "wrong downgrade target version format"),
        ({"version": "x"}, 3, "wrong downgrade target version format"),
        ({"version": "3.5"}, 3, "invalid downgrade target version"),
        ({"action": "ENABLE", "version": "3.5.0"}, 3, "invalid downgrade target version"),
        ({"action": "CANCEL"}, 9, "no inflight downgrade job"),
    ],
)
def test_downgrade(tmp_path: Path, fields: dict[str, Any], code: int, text: str) -> None:
    async def test(node: EtcdNode) -> None:
        refused = await node.refused("maintenance/downgrade", **fields)
        assert refused == (400, code, f"etcdserver: {text}")

    on_node(tmp_path, test)


def test_snapshot(tmp_path: Path) -> None:
    """The blobs are the state's file with every acknowledged write in it, and its SHA-256."""

    async def run() -> None:
        async with etcd_node(tmp_path, checkpoint_interval_s=0.3) as node:
            for number in range(50):
                await node.ok("kv/put", key=b"k%d" % number, value=b"v" * 2000)
            async with connect(node.address) as connection:
                await connection.send(
                    request("POST", "/v3/maintenance/snapshot", {"Connection": "close"}, b"{}")
                )
                answer = await connection.ended()
            bad = await node.raw("/v3/maintenance/snapshot", b"x")
            assert error_of(bad)[:2] == (400, 3)
            left = list((tmp_path / "node").glob("snapshot.*"))
            assert not left, "a copy was left behind"
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"200 OK" in head and b"chunked" in head.lower()
        lines = [line for line in body.splitlines() if line.startswith(b"{")]
        results = [orjson.loads(line)["result"] for line in lines]
        *blobs, digest = [base64.b64decode(result["blob"]) for result in results]
        data = b"".join(blobs)
        assert hashlib.sha256(data).digest() == digest
        remaining = [int(result.get("remaining_bytes", 0)) for result in results]
        sent = [sum(map(len, blobs[: at + 1])) for at in range(len(blobs))]
        assert remaining == [*(len(data) - each for each in sent), 0] and len(blobs) > 1
        (tmp_path / "copy.mdb").write_bytes(data)
        store = StateStore(tmp_path / "copy.mdb")
        assert len(list(store.tables["keys"].scan(b"", None))) == 50
        store.close()

    asyncio.run(run())


def test_who_reads_nothing_holds_up_no_other_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off after a while, and no copy of it is left on the disk meanwhile."""
    # Long enough that a busy machine has made all copies before the first is given up.
    monkeypatch.setattr(streams, "STUCK_S", 3.0)

    async def run() -> None:
        async with etcd_node(tmp_path, checkpoint_interval_s=0.1) as node:
            for number in range(30):
                await node.ok("kv/put", key=b"k%d" % number, value=bytes(1 << 20))
            ask = request("POST", "/v3/maintenance/snapshot", {"Connection": "close"}, b"{}")
            async with AsyncExitStack() as stuck:
                for _ in range(COPIES_MAX):
                    end = await stuck.enter_async_context(connect(node.address))
                    await end.send(ask)
                    await end.until(b'"blob"')
                    assert not list((tmp_path / "node").glob("snapshot.*"))
                refused = await node.post("maintenance/snapshot", {})
                assert error_of(refused)[0] in (429, 503)
                async with asyncio.timeout(30):
                    while (reply := await status_of_snapshot(node, ask)) != 200:
                        assert reply in (429, 503)
                        await asyncio.sleep(0.1)

    asyncio.run(run())


async def status_of_snapshot(node: EtcdNode, ask: bytes) -> int:
    async with connect(node.address) as connection:
        await connection.send(ask)
        return await connection.status()


def test_a_copy_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with etcd_node(tmp_path) as node:

            async def fails(path: Path) -> int:
                raise lmdb.Error("no space")

            monkeypatch.setattr(node.replica, "copy_state", fails)
            reply = await node.post("maintenance/snapshot", {})
            assert error_of(reply) == (500, 2, "the copy failed: no space")

    asyncio.run(run())
