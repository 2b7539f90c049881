"""A cluster that makes its certificates by itself: it grows by tokens, takes back a node that has
lost its disk, refuses who is none of its own, and renews everything while clients write."""

import http.client
import json
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kvstore.certificates.facts import facts_of, read_certificates
from kvstore.certificates.own import OwnCertificate
from proof.processes.waiting import eventually
from tests.support.commands import run
from tests.support.growing_cluster import GrowingCluster, growing_cluster
from tests.support.real_cluster import HOST
from tests.support.steady_writer import SteadyWriter

pytestmark = [pytest.mark.integration, pytest.mark.proof]

NAMES = "node1", "node2", "node3"
Command = Callable[..., str]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command by TLS, at node 1."""

    def does(cluster: GrowingCluster, *words: str) -> str:
        monkeypatch.setenv("KVSTORE_CA", str(cluster.authority))
        monkeypatch.setenv("KVSTORE_ENDPOINTS", cluster.nodes[1].client_address)
        return run(capsys, *words).strip()

    return does


@pytest.fixture
def grown() -> Iterator[GrowingCluster]:
    with growing_cluster(4, tls="auto") as cluster:
        yield cluster


def joined(cluster: GrowingCluster, command: Command) -> str:
    """All three vote. The token, which is used up."""
    token = command(cluster, "token", "create", "--uses", "2")
    for number in (2, 3):
        cluster.join(number, cluster.nodes[1].client_address, token)
    cluster.wait_voters(1, *NAMES)
    return token


def test_it_grows_and_loses_nodes(grown: GrowingCluster, command: Command) -> None:
    token = joined(grown, command)
    for number in (2, 3):
        grown.wait_ready(number)
        assert "kvstore_peer_links_plain 0.0" in grown.call(number, "GET", "/metrics")[1].decode()
    stranger_is_not_trusted(grown, command)
    disk_is_lost(grown, token)
    removed_one_is_refused(grown, command)


def stranger_is_not_trusted(grown: GrowingCluster, command: Command) -> None:
    """Another cluster's token is not shown to this one; one that names no authority, to nobody."""
    secret = command(grown, "token", "create").partition(".")[0]
    grown.join(4, grown.nodes[1].client_address, f"{secret}.{'0' * 64}")
    assert grown.wait_exit(4) == 74
    assert "belongs to another authority than the one of the token" in grown.nodes[4].log()
    grown.join(4, grown.nodes[1].client_address, secret)
    assert grown.wait_exit(4) == 74
    assert "the token has no fingerprint" in grown.nodes[4].log()
    left = [line.split()[-1] for line in command(grown, "token", "list").splitlines()[1:]]
    assert left.count("1") == 1, "it is still good"


def disk_is_lost(grown: GrowingCluster, token: str) -> None:
    """All but its certificate: that shows who it was, so the token may be used up."""
    before = {one["name"]: one["id"] for one in grown.status(1)["members"]}
    grown.kill(2)
    for entry in list(grown.nodes[2].data_dir.iterdir()):
        if entry.name != "tls":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    grown.join(2, grown.nodes[1].client_address, token)

    def back() -> bool:
        now = {one["name"]: one["id"] for one in grown.status(1)["members"]}
        return now["node2"] > max(before.values()) and grown.voters(1) == sorted(NAMES)

    eventually(back, "it is a member again, as another one", 40.0)
    grown.wait_ready(2)
    own = grown.status(2)
    uri = f"kvstore://{own['cluster_id']}/{own['node']['id']}/{own['node']['incarnation']}"
    file = grown.nodes[2].data_dir / "tls" / "node.crt"
    eventually(lambda: facts_of(read_certificates(file, "x")[0]).uris == (uri,), "it says so")


def removed_one_is_refused(grown: GrowingCluster, command: Command) -> None:
    """Its certificate is as good as before, but for a node that is none any more."""
    held = grown.nodes[3].data_dir / "tls"
    eventually(lambda: all(m["connected"] for m in grown.status(1)["members"]), "all are there")
    assert renewal(grown, held)[0] == 200
    command(grown, "member", "remove", "node3")
    assert grown.wait_exit(3) == 77
    status, answer = renewal(grown, held)
    assert status == 403 and "no certificate of a member" in answer["detail"]
    grown.start(3)
    assert grown.wait_exit(3) == 77
    assert "link refused" in grown.nodes[1].log() and "was removed from" in grown.nodes[1].log()


def renewal(grown: GrowingCluster, held: Path) -> tuple[int, dict[str, str]]:
    """Status and answer, asked of node 1 by showing the certificate that is there."""
    own = OwnCertificate(held, held / "nothing", 1)
    trust = ssl.create_default_context(cafile=own.authority_file)
    trust.load_cert_chain(own.cert_file, own.key_file)
    body = json.dumps({"request": own.request().decode(), "hosts": ["localhost"]})
    port = grown.nodes[1].client_port
    made = http.client.HTTPSConnection(HOST, port, timeout=20, context=trust)
    with closing(made) as connection:
        connection.request("POST", "/v1/cluster/certificates", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


LIFE_S = 24.0


def test_all_are_renewed_while_clients_write(command: Command) -> None:
    with growing_cluster(3, tls="auto", cert_days=LIFE_S / 86_400) as grown:
        joined(grown, command)
        endpoints = ",".join(node.client_address for node in grown.nodes.values())
        with SteadyWriter(endpoints, str(grown.authority)) as writer:
            writer.more(5)
            for _ in range(2):
                others_than(serials(grown), grown)
                writer.more(5)
            assert all(one["connected"] for one in grown.status(1)["members"])
            grown.kill(3)
            writer.more(5)
            grown.start(3)
            grown.wait_ready(3)
            eventually(
                lambda: all(one["connected"] for one in grown.status(1)["members"]),
                "it meets the others with the new one",
            )
            writer.more(5)
        assert not writer.failures and len(writer.acknowledged) > 200
        for node in grown.nodes.values():
            assert "certificate has expired" not in node.log(whole=True)


def others_than(before: list[str], grown: GrowingCluster) -> None:
    """Wait until each node shows another certificate than it did."""

    def new() -> bool:
        return all(a != b for a, b in zip(serials(grown), before, strict=True))

    eventually(new, "all show new ones", 3 * LIFE_S, 0.5)


def serials(grown: GrowingCluster) -> list[str]:
    """Of what the nodes show to clients."""
    found = []
    for node in grown.nodes.values():
        made = http.client.HTTPSConnection(
            HOST, node.client_port, timeout=20,
            context=ssl.create_default_context(cafile=grown.authority),
        )  # fmt: skip
        with closing(made) as connection:
            connection.connect()
            shown = connection.sock.getpeercert()
            found.append(str((shown or {})["serialNumber"]))
    return found
