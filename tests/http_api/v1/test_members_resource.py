"""`/v1/cluster/members`, `configuration` and `tokens`, on a real node that is its whole cluster."""

import json
from pathlib import Path
from typing import Any

import pytest

from http_api.core.problems import membership_refusal, problem_document, refusal
from kvstore.commands.members import MembershipRefusal
from kvstore.commands.results import MembershipRefused
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import Guarded, guarded
from tests.support.ports import free_base

JOIN = "/v1/cluster/members/join"
TOKENS = "/v1/cluster/tokens"
MEMBERS = "/v1/cluster/members"
CONFIGURATION = "/v1/cluster/configuration"


async def call(node: EtcdNode, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    body = b"" if document is None else json.dumps(document).encode()
    reply = await node.raw(path, body, method)
    return reply.status, reply.json()


def free_address() -> str:
    return f"127.0.0.1:{free_base(0)}"


def member(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "peer_address": f"{name}.example:2380", **fields}


def joining(token: str, incarnation: str, **fields: Any) -> dict[str, Any]:
    return {
        "token": token,
        "peer_address": f"{incarnation}.example:2380",
        "client_address": f"http://{incarnation}.example:2379",
        "incarnation": incarnation,
        **fields,
    }


def test_the_members_of_a_new_cluster(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        status, found = await call(node, "GET", MEMBERS)
        (own,) = found["members"]
        assert status == 200
        assert (own["id"], own["name"], own["kind"], own["role"]) == (1, "node1", "voter", "leader")
        assert own["incarnation"] and own["replaces"] == own["since_ms"] == 0
        assert found["configuration"] == {
            "number": 0, "voters": [1], "learners": [], "phase1": 1, "phase2": 1,
            "distance": found["configuration"]["distance"], "under_way": "",
        }  # fmt: skip
        assert (await call(node, "GET", CONFIGURATION))[1] == found["configuration"]
        _, cluster = await call(node, "GET", "/v1/cluster")
        assert cluster["configuration"] == found["configuration"]
        assert cluster["node"]["name"] == "node1" and cluster["members"] == found["members"]

    on_node(tmp_path, test)


def test_a_member_is_added_changed_and_removed(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        status, done = await call(node, "POST", MEMBERS, member("n2", learner=True))
        assert status == 201
        assert (done["member"]["id"], done["member"]["kind"]) == (2, "expected")
        assert done["configuration"]["voters"] == [1] and done["configuration"]["learners"] == [2]
        status, done = await call(
            node, "PATCH", f"{MEMBERS}/n2", {"name": "two", "client_address": "two.example:80"}
        )
        assert (status, done["member"]["name"]) == (200, "two")
        assert done["member"]["client_address"] == "http://two.example:80"
        assert done["member"]["peer_address"] == "n2.example:2380"
        assert (await call(node, "DELETE", f"{MEMBERS}/n2"))[0] == 404
        status, done = await call(node, "DELETE", f"{MEMBERS}/two")
        assert (status, done["member"], done["configuration"]["learners"]) == (200, None, [])
        status, done = await call(node, "POST", MEMBERS, member("n2"))
        assert done["member"]["id"] == 3, "an id was used twice"

    on_node(tmp_path, test)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("DELETE", f"{MEMBERS}/1", None, 409, "last-voter"),
        ("DELETE", f"{MEMBERS}/9", None, 404, None),
        ("PATCH", f"{MEMBERS}/1", {"voter": True}, 409, "not-learner"),
        ("PATCH", f"{MEMBERS}/1", {"name": "n2"}, 409, "name-taken"),
        ("PATCH", f"{MEMBERS}/1", {"peer_address": "n2.example:2380"}, 409, "address-taken"),
        ("POST", MEMBERS, member("n2"), 409, "name-taken"),
        ("POST", MEMBERS, member("n3", replaces=9), 404, None),
        ("POST", f"{MEMBERS}?expected=0", member("n3"), 409, "changed-meanwhile"),
        ("POST", MEMBERS, member("3"), 400, None),
        ("POST", MEMBERS, member("n3", peer_address="n3"), 400, None),
        ("POST", MEMBERS, member("n3", peer_address="n 3:1"), 400, None),
        ("POST", MEMBERS, member("n3", client_address="ftp://n3:1"), 400, None),
        ("PUT", CONFIGURATION, {"voters": [2]}, 409, "not-there-yet"),
        ("PUT", CONFIGURATION, {"voters": []}, 400, None),
        ("PUT", CONFIGURATION, {"voters": [7]}, 404, None),
        ("PUT", CONFIGURATION, {"voters": [1], "phase1": 2}, 409, "bad-sizes"),
        ("PUT", CONFIGURATION, {"voters": [1]}, 409, "nothing-to-do"),
        ("DELETE", f"{TOKENS}/0123456789abcdef", None, 404, None),
    ],
)
def test_what_is_refused(
    method: str, path: str, body: Any, status: int, reason: str | None, tmp_path: Path
) -> None:
    async def test(node: EtcdNode) -> None:
        await call(node, "POST", MEMBERS, member("n2", learner=True))
        _, before = await call(node, "GET", MEMBERS)
        got, problem = await call(node, method, path, body)
        assert (got, problem.get("reason")) == (status, reason), problem
        assert problem["outcome"] == "not-applied"
        query = "&" if "?" in path else "?"
        if method != "DELETE" or path.startswith(MEMBERS):
            dry = await call(node, method, f"{path}{query}dry_run=true", body)
            assert dry[0] == status, "the rehearsal says otherwise"
        now = (await call(node, "GET", MEMBERS))[1]
        assert now["configuration"] == before["configuration"]

    on_node(tmp_path, test)


def test_a_rehearsal_changes_nothing(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        status, found = await call(node, "POST", f"{MEMBERS}?dry_run=true", member("n2"))
        assert (status, found["steps"], found["dry_run"]) == (200, [], True)
        assert (await call(node, "GET", CONFIGURATION))[1]["number"] == 0
        _, joined = await joined_by_token(node, "abc")
        path = f"{MEMBERS}/{joined['id']}?dry_run=true"
        _, found = await call(node, "PATCH", path, {"voter": True})
        assert found["reason"] == "minority", "nobody runs there"
        assert (await call(node, "GET", CONFIGURATION))[1]["voters"] == [1]

    on_node(tmp_path, test)


async def joined_by_token(node: EtcdNode, incarnation: str, **fields: Any) -> tuple[int, Any]:
    _, made = await call(node, "POST", TOKENS, {"ttl_s": 60, "uses": 1})
    fields = {"learner": True, "peer_address": free_address(), **fields}
    return await call(node, "POST", JOIN, joining(made["token"], incarnation, **fields))


def test_joining_with_a_token(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        status, made = await call(node, "POST", TOKENS, {"ttl_s": 60, "uses": 2})
        assert status == 201 and len(made["token"]) == 43 and len(made["id"]) == 16
        assert made["uses"] == 2 and 55 < made["left_s"] <= 61
        status, joined = await call(node, "POST", JOIN, joining(made["token"], "aa", name="n2"))
        assert (status, joined["id"]) == (201, 2)
        _, found = await call(node, "GET", MEMBERS)
        assert joined["cluster_id"] == (await call(node, "GET", "/v1/cluster"))[1]["cluster_id"]
        names = {one[0]: (one[1], one[2], one[5]) for one in joined["roster"][3]}
        assert names[2] == ("aa", "n2", False) and names[1][2] is True
        assert found["members"][1]["kind"] == "learner"
        again = await call(node, "POST", JOIN, joining(made["token"], "aa", name="n2"))
        assert (again[0], again[1]["id"]) == (201, 2), "asking twice does no harm"
        _, listed = await call(node, "GET", TOKENS)
        assert [(one["id"], one["uses"]) for one in listed["tokens"]] == [(made["id"], 1)]
        assert made["token"] not in json.dumps(listed)
        await call(node, "POST", JOIN, joining(made["token"], "bb"))
        status, problem = await call(node, "POST", JOIN, joining(made["token"], "cc"))
        assert (status, problem["type"]) == (403, "/problems/join-denied"), "used up"
        assert (await call(node, "POST", JOIN, joining("wrong", "cc")))[0] == 403

    on_node(tmp_path, test)


def test_a_token_that_was_revoked_or_has_expired(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        _, made = await call(node, "POST", TOKENS)
        status, ended = await call(node, "DELETE", f"{TOKENS}/{made['id']}")
        assert (status, ended) == (200, {"id": made["id"]})
        assert (await call(node, "GET", TOKENS))[1] == {"tokens": []}
        assert (await call(node, "POST", JOIN, joining(made["token"], "aa")))[0] == 403
        _, made = await call(node, "POST", TOKENS, {"ttl_s": 1})
        later_ms = node.replica.state.clock_ms + 1500
        while node.replica.state.clock_ms < later_ms:
            await node.ok("kv/put", key=b"k")
        assert (await call(node, "POST", JOIN, joining(made["token"], "aa")))[0] == 403

    on_node(tmp_path, test)


def test_who_joins_under_the_name_of_a_member_is_told_where_the_members_are(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        address = free_address()
        status, _ = await joined_by_token(node, "aa", name="n2", peer_address=address)
        assert status == 201
        status, problem = await joined_by_token(node, "bb", name="n2")
        assert (status, problem["type"]) == (409, "/problems/member-lost")
        assert problem["places"] == {"1": "127.0.0.1:0", "2": address}
        _, problem = await joined_by_token(node, "bb", peer_address=address)
        assert problem["type"] == "/problems/member-lost"

    on_node(tmp_path, test)


def test_a_refusal_says_what_is_under_way() -> None:
    refused = MembershipRefused(MembershipRefusal.UNDER_WAY, 7)
    error = membership_refusal(refused, "to voters 1, 2 with quorums of 2 and 2")
    assert problem_document(error) | {"title": ""} == {
        "type": "/problems/membership-conflict", "title": "", "status": 409,
        "detail": "another change of the members is under way: to voters 1, 2 with quorums of 2 "
        "and 2",
        "outcome": "not-applied", "reason": "under-way", "number": 7,
    }  # fmt: skip


@pytest.mark.parametrize("reason", MembershipRefusal)
def test_every_refusal_is_an_answer_of_its_own(reason: MembershipRefusal) -> None:
    error = refusal(MembershipRefused(reason, 7))
    assert str(error) == reason.value and 400 <= error.kind.status < 500


def test_with_authentication_only_root_changes_members(tmp_path: Path) -> None:
    async def test(on: Guarded) -> None:
        body = json.dumps(member("n2", learner=True)).encode()
        for token, status in (("", 401), (on.user, 403), (on.root, 201)):
            assert (await on.native("POST", MEMBERS, token, body)).status == status
        made = (await on.native("POST", TOKENS, on.root)).json()
        assert (await on.native("GET", TOKENS, on.user)).status == 403
        joined = json.dumps(joining(made["token"], "aa", learner=True)).encode()
        assert (await on.native("POST", JOIN, "", joined)).status == 201
        assert (await on.native("POST", JOIN, "", joined.replace(b"aa", b"bb"))).status == 403
        assert (await on.native("DELETE", f"{MEMBERS}/2", on.user)).status == 403
        assert (await on.native("DELETE", f"{MEMBERS}/2", on.root)).status == 200

    guarded(tmp_path, test)
