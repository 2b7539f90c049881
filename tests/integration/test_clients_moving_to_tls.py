"""The client port moves from http to https, one node after the other, while clients that know
both kinds of addresses write."""

import http.client
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvstore.certificates.authority import Authority
from kvstore.client import BlockingClient, Unavailable
from tests.support.real_cluster import HOST, READY_S, Cluster, eventually, running_cluster
from tests.support.steady_writer import SteadyWriter

pytestmark = [pytest.mark.integration, pytest.mark.proof]


def is_ready(cluster: Cluster, number: int, trust: ssl.SSLContext) -> bool:
    """By https."""
    port = cluster.nodes[number].client_port
    connection = http.client.HTTPSConnection(HOST, port, timeout=3.0, context=trust)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def more(writers: list[SteadyWriter]) -> None:
    for writer in writers:
        writer.more(30)


def test_clients_move_from_http_to_https(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.create("tests")
    ca = str(tmp_path / "ca.crt")
    trust = ssl.create_default_context(cafile=ca)
    with running_cluster(3) as cluster:
        plain = [cluster.nodes[number].url for number in cluster.numbers]
        secure = [url.replace("http://", "https://") for url in plain]
        # One meets https that is not there yet, and the other http that is there no more.
        orders = {"a": secure + plain, "b": [plain[1], plain[0], plain[2], *secure]}
        with ExitStack() as stack:
            writers = [
                stack.enter_context(SteadyWriter(order, ca, prefix=prefix))
                for prefix, order in orders.items()
            ]
            more(writers)
            for number in cluster.numbers:
                authority.issue_server(f"n{number}", [HOST], 30)
                assert cluster.stop(number) == [0]
                files = "--cert-file", f"{tmp_path}/n{number}.crt", "--key-file"
                cluster.nodes[number].command += (*files, f"{tmp_path}/n{number}.key")
                cluster.start(number, wait=False)
                eventually(
                    lambda number=number: is_ready(cluster, number, trust),
                    f"node {number} serves by https",
                    READY_S,
                )
                more(writers)
        assert [writer.failures for writer in writers] == [[], []]
        refused = [cluster.log(number) for number in cluster.numbers]
        assert any("it speaks HTTP without TLS" in log for log in refused)
        with BlockingClient(secure, ca=ca) as client:
            found = {entry.key.decode(): entry.version for entry in client.list()}
            told = [one.client_address for one in client.members().members]
        for writer in writers:
            assert set(writer.acknowledged) <= found.keys()
        assert set(found.values()) == {1}, "each is written once, however often it was sent"
        assert sorted(map(str, told)) == sorted(secure)
        with BlockingClient(plain, timeout_s=2.0) as client, pytest.raises(Unavailable):
            client.get("a1")
