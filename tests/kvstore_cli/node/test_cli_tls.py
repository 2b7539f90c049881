"""A node's process that speaks TLS, and commands that speak to it, as docs/tls.md has them."""

import json
import re
import shlex
import signal
import socket
import ssl
from pathlib import Path

import pytest

from kvstore.client import BlockingClient
from kvstore_cli.main import main
from tests.support.certificates import authority, settings
from tests.support.commands import run
from tests.support.growing_cluster import GrowingCluster
from tests.support.paths import ROOT
from tests.support.real_cluster import eventually, running_cluster

pytestmark = pytest.mark.integration


def lines(beginning: str) -> list[list[str]]:
    """The commands of the page that begin so, as words."""
    text = (ROOT / "docs" / "tls.md").read_text()
    found = re.findall(rf"^kvstore ({beginning} [^\n#]+)", text, re.M)
    assert found
    return [shlex.split(line) for line in found]


def serial(port: int, ca: str) -> str:
    context = ssl.create_default_context(cafile=ca)
    with (
        socket.create_connection(("127.0.0.1", port)) as opened,
        context.wrap_socket(opened, server_hostname="127.0.0.1") as shown,
    ):
        return str((shown.getpeercert() or {})["serialNumber"])


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in lines("certs"):
        assert main(words) == 0, words
    ca = "certs/ca.crt"
    files = {"cert_file": "n1.crt", "key_file": "n1.key", "client_ca": "ca.crt"}
    tls = {name: str(tmp_path / "certs" / file) for name, file in files.items()}
    with running_cluster(1, start=False, **tls) as cluster:
        cluster.start(1, wait=False)
        node = cluster.nodes[1]

        def command(words: list[str]) -> int:
            at = words.index("--endpoints") + 1
            return main([*words[:at], f"127.0.0.1:{node.client_port}", *words[at + 1 :]])

        (put,), (get,) = lines("put"), lines("get")
        eventually(lambda: command(put) == 0, "the node serves by TLS")
        capfd.readouterr()
        assert command(get) == 0 and capfd.readouterr().out == "hello"
        assert command([word for word in put if word not in ("--ca", ca)]) in (4, 5)
        before = serial(node.client_port, ca)
        assert main(["certs", "renew", "n1"]) == 0
        node.signal(signal.SIGHUP)
        eventually(lambda: serial(node.client_port, ca) != before, "the new one is shown", 3.0)
        assert node.running and command(get) == 0
        (tmp_path / "certs" / "n1.key").write_text("no key")
        node.signal(signal.SIGHUP)
        eventually(lambda: "holds no private key" in cluster.log(1), "the log says why")
        assert command(get) == 0
        assert cluster.stop(1) == [0]


@pytest.mark.proof
def test_a_node_joins_by_tls_and_each_hears_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certs = tmp_path / "certs"
    authority(certs)
    ca = str(certs / "ca.crt")
    made = GrowingCluster(2, tmp_path, **settings(certs))
    try:
        made.start(1)
        place = f"https://127.0.0.1:{made.nodes[1].client_port}"
        with BlockingClient(place, ca=ca, timeout_s=60) as client:
            client.put("k", "v")
            words = ("--endpoints", place, "--ca", ca, "--json")
            token = json.loads(run(capsys, "token", "create", *words))["token"]
            made.join(2, place, token)

            def voting() -> bool:
                return {m.id for m in client.status().members if m.kind == "voter"} == {1, 2}

            eventually(voting, "the node that joined votes")
            overview = json.loads(client.fetch("/v1/overview"))
        assert [one["trouble"] for one in overview["nodes"]] == ["", ""]
    finally:
        made.close()
