"""What one server beside one etcd cannot show: three nodes of ours, with and without a quorum."""

import base64
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.etcd.exchange import Exchange
from tests.etcd.steps import b
from tests.support.real_cluster import Cluster, eventually

pytestmark = pytest.mark.integration

NO_QUORUM_S = 10.0
"""Requests that need a quorum are refused within this; the node gives up after 5 s."""


@pytest.fixture
def minority(cluster: Cluster) -> tuple[Cluster, int]:
    """A cluster of which one node is left, and that node."""
    left = cluster.followers()[0]
    ok(cluster, left, "kv/put", {"key": b("left"), "value": b("1")})
    cluster.kill9(*(number for number in cluster.numbers if number != left))
    return cluster, left


def post(cluster: Cluster, number: int, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and document of one RPC."""
    with closing(Exchange(cluster.nodes[number].client_port)) as exchange:
        exchange.send("POST", f"/v3/{path}", json.dumps(body or {}).encode())
        status = exchange.head(NO_QUORUM_S).status
        return status, json.loads(exchange.rest(NO_QUORUM_S))


def ok(cluster: Cluster, number: int, path: str, body: Any = None) -> Any:
    """The document of an RPC that must work."""
    status, document = post(cluster, number, path, body)
    assert status == 200, document
    return document


# -- one cluster, whichever node answers -----------------------------------------------------------


def test_nodes_agree_on_who_is_who(cluster: Cluster) -> None:
    lists = [ok(cluster, number, "cluster/member/list") for number in cluster.numbers]
    statuses = [ok(cluster, number, "maintenance/status") for number in cluster.numbers]
    members = [sorted(each["members"], key=lambda member: member["ID"]) for each in lists]
    assert members[0] == members[1] == members[2]
    own = [each["header"]["member_id"] for each in statuses]
    assert sorted(own) == [member["ID"] for member in members[0]]
    assert all(0 < int(member) < 1 << 64 for member in own)
    assert len({each["leader"] for each in statuses}) == 1
    for field in ("cluster_id", "raft_term"):
        assert len({each["header"][field] for each in (*lists, *statuses)}) == 1
    for number, each in zip(cluster.numbers, statuses, strict=True):
        (mine,) = (m for m in members[0] if m["ID"] == each["header"]["member_id"])
        assert mine["clientURLs"] == [f"http://127.0.0.1:{cluster.nodes[number].client_port}"]


def test_a_write_is_seen_on_every_node(cluster: Cluster) -> None:
    for writer in cluster.numbers:
        written = ok(cluster, writer, "kv/put", {"key": b("seen"), "value": b(str(writer))})
        for reader in cluster.numbers:
            found = ok(cluster, reader, "kv/range", {"key": b("seen")})
            assert found["kvs"][0]["value"] == b(str(writer))
            assert found["kvs"][0]["mod_revision"] == written["header"]["revision"]


def test_leases_are_served_by_every_node(cluster: Cluster) -> None:
    lease = ok(cluster, 1, "lease/grant", {"TTL": 60})["ID"]
    for number in cluster.numbers:
        assert ok(cluster, number, "lease/keepalive", {"ID": lease})["result"]["TTL"] == "60"
        left = ok(cluster, number, "lease/timetolive", {"ID": lease})
        assert 55 <= int(left["TTL"]) <= 60 and left["grantedTTL"] == "60"
    ok(cluster, 3, "lease/revoke", {"ID": lease})
    for number in cluster.numbers:
        assert "TTL" not in ok(cluster, number, "lease/keepalive", {"ID": lease})["result"]


def test_a_watch_resumes_on_another_node(cluster: Cluster) -> None:
    first = int(
        ok(cluster, 1, "kv/put", {"key": b("watched"), "value": b("0")})["header"]["revision"]
    )
    for number in range(1, 6):
        ok(cluster, 1, "kv/put", {"key": b("watched"), "value": b(str(number))})
    for number in cluster.numbers:
        with closing(
            watch(cluster, number, {"key": b("watched"), "start_revision": first + 2})
        ) as stream:
            values, shown = [], 0
            while len(values) < 4:
                result = document(stream)
                values += [event["kv"]["value"] for event in result["events"]]
                # What a client resumes after: no event that is sent later may be before it.
                assert int(result["events"][0]["kv"]["mod_revision"]) > shown
                shown = int(result["header"]["revision"])
                assert int(result["events"][-1]["kv"]["mod_revision"]) <= shown
            assert values == [b(str(value)) for value in (2, 3, 4, 5)]


def test_a_lock_is_handed_over_between_nodes(cluster: Cluster) -> None:
    leases = [ok(cluster, number, "lease/grant", {"TTL": 60})["ID"] for number in (1, 2)]
    held = ok(cluster, 1, "lock/lock", {"name": b("m"), "lease": leases[0]})["key"]
    with closing(Exchange(cluster.nodes[2].client_port)) as waiting:
        waiting.send(
            "POST", "/v3/lock/lock", json.dumps({"name": b("m"), "lease": leases[1]}).encode()
        )
        span = {"key": b("m/"), "range_end": b("m0"), "count_only": True}
        eventually(lambda: ok(cluster, 3, "kv/range", span)["count"] == "2", "the second waits")
        ok(cluster, 3, "lock/unlock", {"key": held})
        assert waiting.head().status == 200
        assert json.loads(waiting.rest())["key"] != held


def test_the_sort_target_that_ends_an_etcd_process(cluster: Cluster) -> None:
    status, found = post(cluster, 1, "kv/range", {"key": b("a"), "sort_target": 9})
    assert (status, found["code"]) == (400, 3)
    assert ok(cluster, 1, "maintenance/status")


def test_what_is_not_supported_says_so(cluster: Cluster) -> None:
    members = ok(cluster, 1, "cluster/member/list")["members"]
    for path, body in (("maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE"}),):
        status, found = post(cluster, 1, path, body)
        assert (status, found["code"]) == (501, 12), f"{path}: {found}"
    assert ok(cluster, 1, "cluster/member/list")["members"] == members


def test_members_are_changed_at_any_node(cluster: Cluster) -> None:
    before = ok(cluster, 1, "cluster/member/list")["members"]
    follower, leader = cluster.followers()[0], cluster.leader()
    add = {"peerURLs": ["http://127.0.0.1:1"], "isLearner": True}
    member = ok(cluster, follower, "cluster/member/add", add)["member"]["ID"]
    linearizable = {"linearizable": True}
    for number in cluster.numbers:
        found = ok(cluster, number, "cluster/member/list", linearizable)["members"]
        assert len(found) == 4 and {each["ID"] for each in found} > {each["ID"] for each in before}
    for number in (leader, follower):
        status, refused = post(cluster, number, "cluster/member/promote", {"ID": member})
        assert (status, refused["code"]) == (400, 9) and "in sync" in refused["message"]
    ok(cluster, leader, "cluster/member/remove", {"ID": member})
    status, refused = post(cluster, follower, "cluster/member/remove", {"ID": member})
    assert (status, refused["code"]) == (404, 5)
    assert ok(cluster, follower, "cluster/member/list", linearizable)["members"] == before


def test_a_snapshot_is_a_state_with_its_sum(cluster: Cluster) -> None:
    with closing(Exchange(cluster.nodes[1].client_port)) as exchange:
        reply = exchange.call("POST", "/v3/maintenance/snapshot", b"{}")
    results = [json.loads(line)["result"] for line in reply.body.splitlines()]
    *blobs, digest = [base64.b64decode(result["blob"]) for result in results]
    assert hashlib.sha256(b"".join(blobs)).digest() == digest
    assert [int(result.get("remaining_bytes", 0)) for result in results][-2:] == [0, 0]


# -- without a quorum ------------------------------------------------------------------------------


def test_without_a_quorum(minority: tuple[Cluster, int]) -> None:
    cluster, left = minority
    eventually(
        lambda: "leader" not in ok(cluster, left, "maintenance/status"), "no leader is known"
    )
    key = {"key": b("left")}
    calls = (
        ("kv/put", {**key, "value": b("2")}), ("kv/deleterange", key),
        ("kv/txn", {"success": [{"request_put": key}]}), ("kv/range", key),
        ("lease/grant", {"TTL": 60}), ("lease/timetolive", {"ID": 5}),
        ("lease/keepalive", {"ID": 5}),
    )  # fmt: skip
    begin = time.monotonic()
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(lambda call: post(cluster, left, *call), calls))
    assert time.monotonic() - begin < NO_QUORUM_S
    for (path, _), (status, answer) in zip(calls, answers, strict=True):
        error = answer.get("error")
        code = error["grpc_code"] if isinstance(error, dict) else answer.get("code")
        assert (status, code) == (503, 14), f"{path}: {status} {answer}"
    found = ok(cluster, left, "kv/range", {**key, "serializable": True})
    assert found["kvs"][0]["value"] == b("1")
    assert ok(cluster, left, "maintenance/status")["errors"] == ["etcdserver: no leader"]
    assert len(ok(cluster, left, "cluster/member/list")["members"]) == 3
    assert ok(cluster, left, "lease/leases")
    health = cluster.call(left, "GET", "/health")
    assert health.status == 503 and json.loads(health.body)["health"] == "false"
    with closing(watch(cluster, left, {**key, "start_revision": 2})) as stream:
        assert document(stream)["events"][0]["kv"]["value"] == b("1")


# -- streams ---------------------------------------------------------------------------------------


def watch(cluster: Cluster, number: int, create: dict[str, Any]) -> Exchange:
    """A stream whose first message said `created`."""
    stream = Exchange(cluster.nodes[number].client_port)
    stream.send("POST", "/v3/watch", json.dumps({"create_request": create}).encode())
    assert document(stream)["created"] is True
    return stream


def document(stream: Exchange) -> Any:
    """The next message of a stream."""
    line = stream.line()
    assert line is not None, "the stream ended"
    return json.loads(line)["result"]
