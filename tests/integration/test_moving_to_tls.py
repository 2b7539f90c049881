"""A plain cluster moves to TLS, one node after the other, while a client writes."""

import re
from pathlib import Path

import pytest

from kvstore.certificates.authority import Authority
from kvstore.certificates.node_names import NodeName
from tests.support.real_cluster import Cluster, eventually, running_cluster
from tests.support.steady_writer import SteadyWriter

pytestmark = [pytest.mark.integration, pytest.mark.proof]


def restarted(cluster: Cluster, writer: SteadyWriter, **settings: object) -> None:
    """Each node, with these settings more; the next one once this one serves and is met again."""
    for number in cluster.numbers:
        assert cluster.stop(number) == [0]
        for name, value in settings.items():
            words = f"--{name.replace('_', '-')}", str(value).format(number)
            cluster.nodes[number].command += words
        cluster.start(number)
        eventually(lambda: all_connected(cluster), "all links are there", 60.0)
        writer.more(10)


def all_connected(cluster: Cluster) -> bool:
    views = [cluster.status(number) for number in cluster.numbers]
    return all(one["connected"] for view in views for one in view.get("members", ())) and all(views)


def plain_links(cluster: Cluster) -> list[int]:
    found = []
    for number in cluster.numbers:
        text = cluster.call(number, "GET", "/metrics").body.decode()
        shown = re.search(r"^kvstore_peer_links_plain (\d+)", text, re.M)
        found.append(-1 if shown is None else int(shown[1]))
    return found


def test_peers_move_from_plain_to_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.create("tests")
    for number in (1, 2, 3):
        authority.issue_server(f"n{number}", ["127.0.0.1"], 30, NodeName(number))
    files = {
        "peer_cert_file": f"{tmp_path}/n{{}}.crt",
        "peer_key_file": f"{tmp_path}/n{{}}.key",
        "peer_ca": tmp_path / "ca.crt",
    }
    with running_cluster(3) as cluster:
        endpoints = ",".join(cluster.nodes[number].url for number in cluster.numbers)
        with SteadyWriter(endpoints) as writer:
            writer.more(10)
            assert plain_links(cluster) == [2, 2, 2]
            restarted(cluster, writer, **files, peer_tls="prefer")
            eventually(lambda: plain_links(cluster) == [0, 0, 0], "nobody is plain any more", 60.0)
            restarted(cluster, writer, peer_tls="require")
            assert plain_links(cluster) == [0, 0, 0]
        assert not writer.failures
        assert len(writer.acknowledged) > 70
        for number in cluster.numbers:
            log = cluster.nodes[number].log(whole=True)
            assert "it speaks no TLS" not in log and "not accepted" not in log
