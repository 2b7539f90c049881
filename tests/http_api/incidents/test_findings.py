"""Each usual trouble is named, with what to do; a healthy cluster has none."""

from copy import deepcopy
from typing import Any

import pytest

from http_api.incidents.findings import Finding, findings
from http_api.incidents.neighbours import Heard

NODES = (1, 2, 3)


def report(node: int) -> dict[str, Any]:
    members = [
        {
            "id": other,
            "role": "leader" if other == 1 else "follower",
            "connected": True,
            "link": "up",
            "silent_s": None if other == node else 0.02,
        }
        for other in NODES
    ]
    return {
        "at_ms": 1_000_000,
        "version": "0.2.0",
        "quorum": 2,
        "voters": list(NODES),
        "connections_max": 1000,
        "log_lines_dropped": 0,
        "cluster": {
            "node": {"id": node, "ready": True, "reason": "", "warnings": []},
            "leader": {"id": 1},
            "lag": 0,
            "applied_through": 10 * node,
            "members": members,
        },
        "load": {
            "commit_ms": 1.0,
            "connections": 10.0,
            "disk_free_share": 0.5,
            "cpu_share": 0.2,
        },
        "round_trips_ms": {"2": 0.4, "3": 0.5} if node == 1 else {},
        "leaders": [{"at_ms": 900_000, "leader": 1, "ballot": "1.1", "reason": "first"}],
    }


class Staged:
    """A cluster of three in which something can be made wrong."""

    def __init__(self) -> None:
        self.heard = [Heard(node, deepcopy(report(node))) for node in NODES]

    def __getitem__(self, node: int) -> dict[str, Any]:
        document = self.heard[node - 1].document
        assert document is not None
        return document

    def lose(self, node: int, silent_s: float | None = 40.0) -> None:
        self.heard[node - 1] = Heard(node, None, "Connection refused")
        for one in self.heard:
            if one.document is not None:
                member = one.document["cluster"]["members"][node - 1]
                member |= {"connected": False, "silent_s": silent_s, "link": "down"}

    def kinds(self) -> dict[str, Finding]:
        return {one.kind: one for one in findings(self.heard)}


@pytest.fixture
def staged() -> Staged:
    return Staged()


def test_a_healthy_cluster_has_none(staged: Staged) -> None:
    assert staged.kinds() == {}


def test_a_lost_node_is_the_last_that_may_be_lost(staged: Staged) -> None:
    staged.lose(3)
    found = staged.kinds()
    assert found["node-silent"].text == "node 3 has not been heard for 40 s: Connection refused"
    assert "nothing listens there: start node 3" in found["node-silent"].advice
    assert "one more loss ends the quorum" in found["last-quorum"].text
    assert set(found) == {"node-silent", "last-quorum"}, "a lost node is told of once"


def test_two_lost_nodes_are_no_quorum(staged: Staged) -> None:
    staged.lose(2, 300.0)
    staged.lose(3, None)
    found = staged.kinds()
    assert "1 of 3 nodes answer, 2 are needed" in found["no-quorum"].text
    assert "node 2, node 3" in found["no-quorum"].advice
    assert findings(staged.heard)[0].severity == "bad", "the worst comes first"
    assert "no other node has heard it" in found["node-silent"].text or "5 min" in str(found)


def test_a_learner_makes_no_quorum(staged: Staged) -> None:
    for node in NODES:
        staged[node]["voters"] = [1, 2]
    staged.lose(3)
    assert set(staged.kinds()) == {"node-silent"}


def test_a_frozen_process_still_has_its_links(staged: Staged) -> None:
    staged.lose(3, 1.0)
    assert "talks to its peers, but does not answer here" in staged.kinds()["node-silent"].text


def change(staged: Staged, node: int, path: str, value: Any) -> None:
    *folders, name = path.split(".")
    place = staged[node]
    for folder in folders:
        place = place[folder]
    place[name] = value


@pytest.mark.parametrize(
    ("path", "value", "kind", "words", "advice"),
    [
        ("load.commit_ms", 80.0, "slow-disk", "a commit of its log takes 80 ms", "failing drive"),
        ("load.disk_free_share", 0.05, "disk-full", "5.0% are free", "Make room"),
        ("load.cpu_share", 0.99, "cpu", "uses a whole core", "Spread the clients"),
        ("load.connections", 950.0, "connections", "950 connections of at most 1000", "ulimit"),
        ("version", "0.1.9", "old-version", "runs version 0.1.9, another one 0.2.0", "rolling"),
        ("log_lines_dropped", 7, "log-dropped", "dropped 7 lines", "stderr"),
        ("cluster.lag", 5000, "lag", "lags 5,000 slots behind", "catches up"),
        ("cluster.node.warnings", ["clocks differ by 9 s"], "warning", "clocks differ", "NTP"),
        ("cluster.node.warnings", ["checkpoints fail for 9 s"], "warning", "checkpoints", "room"),
    ],
)
def test_trouble_of_one_node(
    staged: Staged, path: str, value: Any, kind: str, words: str, advice: str
) -> None:
    change(staged, 2, path, value)
    found = staged.kinds()[kind]
    assert found.node == 2
    assert words in found.text and advice in found.advice


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("the disk hangs: a commit of the log is under way for 9 s", "disk of that machine"),
        ("the cluster has not formed yet: waiting for node 3", "start the ones it names"),
        ("no link to the leader, node 1", "network"),
        ("failed: something", "Its log says more"),
    ],
)
def test_a_node_that_is_not_ready_says_why(staged: Staged, reason: str, advice: str) -> None:
    staged[2]["cluster"]["node"] |= {"ready": False, "reason": reason}
    found = staged.kinds()["not-ready"]
    assert reason in found.text and advice in found.advice


def test_a_silent_machine_is_told_from_an_ended_process(staged: Staged) -> None:
    staged.lose(3)
    for trouble, advice in (
        ("no answer within 1.5 s", "stands still"),
        ("No route to host", "its machine up"),
    ):
        staged.heard[2] = Heard(3, None, trouble)
        found = staged.kinds()["node-silent"]
        assert trouble in found.text and advice in found.advice


def test_no_space_is_told_once(staged: Staged) -> None:
    full = "15 of 16 bytes used"
    staged[2]["cluster"]["node"] |= {"warnings": [full], "out_of_space": ""}
    assert "space-quota-bytes" in staged.kinds()["warning"].advice
    staged[2]["cluster"]["node"]["out_of_space"] = f"as large as may be: {full}; refused"
    found = staged.kinds()
    assert set(found) == {"out-of-space"} and found["out-of-space"].severity == "bad"
    assert full in found["out-of-space"].text and "Delete keys" in found["out-of-space"].advice
    staged[2]["cluster"]["node"] |= {"warnings": ["8 bytes of room, of which 9 are kept"]}
    assert "disk-reserve-bytes" in staged.kinds()["warning"].advice


def test_a_link_that_one_side_does_not_hear(staged: Staged) -> None:
    staged[2]["cluster"]["members"][2] |= {"connected": False, "link": "down for 5 s"}
    found = staged.kinds()["link-cut"]
    assert found.text == "node 2 does not hear node 3, which answers here: down for 5 s"


def test_a_slow_network_is_told_from_a_slow_disk(staged: Staged) -> None:
    staged[1]["round_trips_ms"]["3"] = 120.0
    assert "node 1 to node 3 and back takes 120 ms" in staged.kinds()["slow-network"].text
    staged[3]["load"]["commit_ms"] = 110.0
    assert set(staged.kinds()) == {"slow-disk"}


def test_nobody_leads(staged: Staged) -> None:
    for node in NODES:
        staged[node]["cluster"]["leader"] = None
    assert staged.kinds()["no-leader"].severity == "bad"


def test_many_elections_are_told_but_not_those_of_yesterday(staged: Staged) -> None:
    many = [{"at_ms": 990_000, "leader": n % 3 + 1, "ballot": "", "reason": ""} for n in range(9)]
    staged[3]["leaders"] = [{**one, "at_ms": -9e9} for one in many]
    assert staged.kinds() == {}
    staged[3]["leaders"] = many
    assert "9 times" in staged.kinds()["many-elections"].text


def test_clients_on_one_node_only(staged: Staged) -> None:
    staged[1]["load"]["connections"] = 500.0
    assert "500 of 520 clients are connected to node 1" in staged.kinds()["uneven-clients"].text


def test_a_late_backup_and_a_failed_drill(staged: Staged) -> None:
    shop = {"name": "shop", "age_s": 7300.0, "late": True, "fresh_s": 900.0, "drill_ok": None}
    for node in NODES:
        staged[node]["backups"] = [shop]
    late = staged.kinds()["backup-late"]
    assert late.text == "the backup shop is 2 h old, and should be no older than 15 min"
    assert "backup forget" in late.advice and len(findings(staged.heard)) == 1
    staged[3]["backups"] = [shop | {"late": False, "drill_ok": False}]
    assert set(staged.kinds()) == {"drill-failed"}, "who has applied most knows best"
    staged[3]["backups"] = [shop | {"late": False, "drill_ok": True}]
    assert staged.kinds() == {}
