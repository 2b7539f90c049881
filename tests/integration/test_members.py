"""One cluster of real processes that grows from one node, and changes all of its members, while a
client that was told of the first node only goes on writing."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvstore.client import BlockingClient
from kvstore_cli.main import main
from proof.processes.waiting import eventually
from tests.support.growing_cluster import GrowingCluster, growing_cluster
from tests.support.steady_writer import SteadyWriter

pytestmark = pytest.mark.integration


class Operator:
    """Runs commands, in this process, against the nodes that it is told."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.endpoints = ""

    def does(self, *words: str, code: int = 0) -> str:
        """What a command prints that must end so."""
        at = 2 if words[0] in ("member", "token") else 1
        flags = ("--endpoints", self.endpoints, "--timeout", "20")
        self._capfd.readouterr()
        got = main([*words[:at], *flags, *words[at:]])
        out, err = self._capfd.readouterr()
        assert got == code, (words, got, out, err)
        return out + err


@pytest.fixture
def operator(capfd: pytest.CaptureFixture[str]) -> Operator:
    return Operator(capfd)


@pytest.fixture
def grown() -> Iterator[GrowingCluster]:
    with growing_cluster(4) as cluster:
        yield cluster


def test_a_cluster_changes_all_of_its_members(grown: GrowingCluster, operator: Operator) -> None:
    operator.endpoints = grown.url(1)
    with SteadyWriter(grown.url(1)) as writer:
        joins_by_token(grown, operator)
        learner_becomes_a_voter(grown, operator)
        writer.look()
        eventually(lambda: len(writer.endpoints) == 3, "the client knows all three")
        writer.more(5)
        leader_is_removed(grown, operator)
        writer.more(5)
        operator.endpoints = grown.url(2, 3)
        member_is_replaced(grown, operator)
        writer.more(5)
        writer.look()
        known = {grown.nodes[number].url for number in (1, 3, 4)}
        eventually(lambda: set(writer.endpoints) == known, "the client knows who is there now")
    assert not writer.failures
    assert len(writer.acknowledged) > 20
    with BlockingClient(grown.url(4)) as client:
        found = {entry.key.decode() for entry in client.list()}
    assert set(writer.acknowledged) <= found


def joins_by_token(grown: GrowingCluster, operator: Operator) -> None:
    token = operator.does("token", "create", "--ttl", "60").strip()
    assert "1" in operator.does("token", "list").splitlines()[1].split()
    grown.join(2, grown.url(1), token)
    grown.wait_voters(1, "node1", "node2")
    grown.wait_ready(2)
    assert operator.does("token", "list").splitlines()[1].split()[-1] == "0"


def learner_becomes_a_voter(grown: GrowingCluster, operator: Operator) -> None:
    address = grown.nodes[3].peer_address
    said = operator.does("member", "add", "node3", address, "--learner")
    assert said == "member 3 (node3) is expected: start it\n"
    listed = operator.does("member", "list").splitlines()
    assert listed[3].split()[:4] == ["3", "node3", "expected", "-"]
    with ThreadPoolExecutor(1) as pool:
        promoted = pool.submit(operator.does, "member", "promote", "3", "--wait", "60")
        grown.start(3)
        assert "member 3 (node3) votes" in promoted.result()
    rows = [line.split() for line in operator.does("member", "list").splitlines()[1:]]
    assert [row[:3] for row in rows] == [[str(n), f"node{n}", "voter"] for n in (1, 2, 3)]
    assert {row[3] for row in rows} == {"leader", "follower"}
    assert "node3" in operator.does("status")
    told = operator.does("quorum", "--phase1", "3", "--phase2", "1", "--dry-run").splitlines()
    assert [line.partition(":")[0] for line in told] == ["step 1", "step 2"]
    assert told[-1] == "step 2: voters 1, 2, 3; a leader needs 3, a write 1"
    assert operator.does("quorum") == "voters 1, 2, 3; a leader needs 2 of them, a write 2\n"
    refused = operator.does("quorum", "--phase1", "1", "--phase2", "1", code=3)
    assert "do not meet" in refused


def leader_is_removed(grown: GrowingCluster, operator: Operator) -> None:
    leader = grown.leader(1, 2, 3)
    if leader != 1:
        assert "node 1 leads" in operator_of(grown, operator, leader).does("handover", "1")
    operator.endpoints = grown.url(1)  # it is asked itself
    told = operator.does("member", "remove", "node1", "--dry-run")
    assert told == "step 1: voters 2, 3; a leader needs 2, a write 2\n"
    # It may be gone before it has heard that it is no member any more.
    assert operator.does("member", "remove", "node1").startswith("node1 was removed")
    assert grown.wait_exit(1) != 0
    assert "was removed from cluster" in grown.nodes[1].log()
    assert grown.leader(2, 3) in (2, 3)
    grown.wait_voters(2, "node2", "node3")


def operator_of(grown: GrowingCluster, operator: Operator, number: int) -> Operator:
    operator.endpoints = grown.url(number)
    return operator


def member_is_replaced(grown: GrowingCluster, operator: Operator) -> None:
    """By HTTP, while it is gone: no vote of it is needed."""
    address = grown.nodes[4].peer_address
    body = {"name": "node4", "peer_address": address, "replaces": 2}
    assert grown.call(3, "POST", "/v1/cluster/members?expected=1", body)[0] == 409
    status, added = grown.call(3, "POST", "/v1/cluster/members", body)
    assert status == 201 and added["member"]["replaces"] == 2
    member = json.loads(operator.does("member", "list", "--json"))["members"][-1]
    assert (member["name"], member["kind"]) == ("node4", "expected")
    token = operator.does("token", "create").strip()
    grown.join(4, grown.url(3), token)
    grown.wait_voters(3, "node3", "node4")
    assert grown.wait_exit(2) != 0
    grown.wait_ready(4)
    assert operator.does("member", "remove", "node2", code=1)
