"""Incidents of real processes: saved by the command, told, and judged. A planted fault is found."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kvstore_cli.launcher.node_cluster import NodeCluster
from kvstore_cli.main import main
from proof.incidents.alignment import offsets_s, passages
from proof.incidents.checks import check
from proof.incidents.picture import picture
from proof.incidents.recordings import Incident, load
from proof.incidents.story import story
from proof.processes.network import HeldPlaces
from tests.support.real_cluster import Cluster, Load, eventually

pytestmark = [pytest.mark.integration, pytest.mark.proof]


def saved(cluster: Cluster, folder: Path, *among: int) -> Incident:
    file = folder / "an.incident"
    ports = (cluster.nodes[n].client_port for n in among or cluster.numbers)
    endpoints = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    assert main(["incident", "save", str(file), "--endpoints", endpoints]) == 0
    return load(file)


def told(incident: Incident) -> str:
    known = passages(incident)
    offsets = offsets_s(incident, known)
    lines = story(incident, offsets)
    drawn = picture(incident, offsets, known, lines, [], "test")
    assert drawn.events and len(known) > 10
    return "\n".join(map(str, lines))


def test_a_killed_leader(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leader = cluster.leader()
    others = cluster.followers()
    with Load(cluster, others) as load_:
        load_.more(20)
        cluster.kill9(leader)
        load_.more(20)
        incident = saved(cluster, tmp_path, *others)
    assert f"node {leader} is not in it" in capsys.readouterr().out
    assert set(incident.nodes) == set(others) and leader in incident.missing
    text = told(incident)
    assert f"its link from node {leader} is down" in text
    assert "stands for election" in text and "has a quorum of promises and leads" in text
    assert check(incident) == []


def test_nodes_keep_a_killed_leader_by_themselves(
    new_cluster: Callable[..., Cluster], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = new_cluster()  # of others they may have kept an incident less than ten seconds ago
    leader, others = cluster.leader(), cluster.followers()
    endpoints = ["--endpoints", f"http://127.0.0.1:{cluster.nodes[others[0]].client_port}"]

    def kept() -> Any:
        assert main(["incident", "list", "--json", *endpoints]) == 0
        incidents = json.loads(capsys.readouterr().out)["incidents"]
        told = [one for one in incidents if set(others) <= set(one["nodes"])]
        return told[-1] if told and "leads: " in str(told[-1]["kept"]) else None

    with Load(cluster, others) as load_:
        load_.more(20)
        before = kept()
        cluster.kill9(leader)
        load_.more(20)
        found = eventually(lambda: (now := kept()) != before and now, "both kept it")
    moment = datetime.fromtimestamp(found["at_ms"] / 1000, UTC).isoformat()
    file = tmp_path / "kept.incident"
    assert main(["incident", "get", moment, str(file), *endpoints]) == 0
    incident = load(file)
    assert set(incident.nodes) == set(others)
    text = told(incident)
    assert f"its link from node {leader} is down" in text
    assert "has a quorum of promises and leads" in text, "what came next is in it"
    assert check(incident) == []
    page = cluster.call(others[0], "GET", f"/v1/incidents/{found['at_ms']}").body
    (tmp_path / "page.incident").write_bytes(page)
    assert set(load(tmp_path / "page.incident").nodes) == set(others), "as a browser saves it"
    assert cluster.call(others[0], "GET", "/v1/incidents/5").status == 404
    cluster.start(leader)
    by_one = kept_by(cluster, others[0])
    cluster.kill9(others[0])
    cluster.start(others[0])
    eventually(lambda: kept_by(cluster, others[0])[: len(by_one)] == by_one, "they stay")


def kept_by(cluster: Cluster, node: int) -> list[int]:
    body = cluster.call(node, "GET", "/v1/node/incidents").body
    return [one["at_ms"] for one in json.loads(body)["incidents"]]


def test_a_partition(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = new_cluster(proxied=True)
    leader = cluster.leader()
    others = cluster.followers()
    with Load(cluster, others) as load_:
        load_.more(20)
        cluster.isolate(leader, silent=True)
        eventually(lambda: cluster.leader(others), "another leader")
        load_.more(20)
        eventually(lambda: cluster.status(leader)["node"]["role"] != "leader", "it steps down")
        cluster.heal()
        cluster.wait_ready(leader)
        incident = saved(cluster, tmp_path)
    text = told(incident)
    assert f"node {leader} could not reach a quorum" in text or "no quorum answered" in text
    assert "has a quorum of promises and leads" in text
    assert check(incident) == []


def test_a_node_that_stands_still(cluster: Cluster, tmp_path: Path) -> None:
    leader = cluster.leader()
    with Load(cluster, cluster.followers()) as load_:
        load_.more(10)
        with cluster.frozen(leader):
            others = [number for number in cluster.numbers if number != leader]
            cluster.leader(others)
            load_.more(10)
        cluster.wait_ready()
        incident = saved(cluster, tmp_path)
    assert "leads no longer" in told(incident)
    assert check(incident) == []


BROKEN_QUORUM = """
import sys
from paxos.quorum import QuorumSystem
QuorumSystem.is_phase2 = lambda self, nodes: len(set(nodes)) >= 1
from kvstore_cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def patched(tmp_path: Path, text: str) -> Iterator[Cluster]:
    """Three nodes whose process begins with this script."""
    script = tmp_path / "patched.py"
    script.write_text(text)
    places = HeldPlaces([1, 2, 3])
    cluster = Cluster.__new__(Cluster)
    cluster.numbers = [1, 2, 3]
    cluster._held = places
    cluster._processes = NodeCluster(
        [1, 2, 3], places, tmp_path, program=(sys.executable, str(script))
    )
    cluster.nodes = cluster._processes.nodes
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def test_a_planted_fault_is_found_in_what_real_processes_recorded(tmp_path: Path) -> None:
    """A leader for whom its own vote is a quorum: every answer looks right until a disk is lost."""
    with patched(tmp_path, BROKEN_QUORUM) as cluster:
        leader = cluster.leader()
        for number in range(50):
            cluster.must_put(leader, f"k{number}", b"v")
        broken = check(saved(cluster, tmp_path))
    assert {one.invariant for one in broken} == {"quorum"}
    assert "when 1 of the 2 nodes needed had accepted it" in str(broken[0])


SLOW_DISK = """
import sys, time
from kvstore.storage import disk
opened, written = disk._SystemFile.__init__, disk._SystemFile.write_synced_at

def init(self, path, flags):
    self.slow = [folder / "slow" for folder in path.parents[:2]]
    opened(self, path, flags)

def write(self, offset, parts):
    if any(mark.exists() for mark in self.slow):
        time.sleep(3)
    written(self, offset, parts)

disk._SystemFile.__init__, disk._SystemFile.write_synced_at = init, write
from kvstore_cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_slow_disk(tmp_path: Path) -> None:
    """Writes of the leader's log take three seconds: it says so and another one leads."""
    with patched(tmp_path, SLOW_DISK) as cluster:
        leader = cluster.leader()
        others = cluster.followers()
        with Load(cluster, others) as load_:
            load_.more(20)
            (tmp_path / f"node-{leader}" / "slow").touch()
            eventually(lambda: cluster.leader(others), "another leader")
            load_.more(20)
            incident = saved(cluster, tmp_path)
    text = told(incident)
    assert "disk slow: reason=" in text
    assert "has a quorum of promises and leads" in text
    assert check(incident) == []


def test_doctor_names_a_lost_node(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = ["--endpoints", f"http://127.0.0.1:{cluster.nodes[1].client_port}"]
    eventually(lambda: main(["doctor", *endpoints]) == 0, "nothing is wrong any more")
    assert "All 3 nodes answer, and nothing is wrong." in capsys.readouterr().out
    victim = next(node for node in cluster.followers() if node != 1)
    cluster.kill9(victim)
    eventually(lambda: main(["doctor", *endpoints]) == 1, "the doctor sees it")
    capsys.readouterr()
    assert main(["doctor", "--json", *endpoints]) == 1
    kinds = {one["kind"] for one in json.loads(capsys.readouterr().out)}
    assert {"node-silent", "last-quorum"} <= kinds
