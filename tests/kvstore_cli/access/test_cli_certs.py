"""`kvstore certs`, and a node that refuses to be reached without TLS."""

import json
from pathlib import Path

import pytest

from kvstore.errors import InvalidArgument
from kvstore_cli.main import main
from kvstore_cli.node.settings import load

Capture = pytest.CaptureFixture[str]


def certs(capsys: Capture, directory: Path, action: str, *words: str) -> str:
    assert main(["certs", action, "--dir", str(directory), *words]) == 0
    return capsys.readouterr().out


def test_an_authority_a_node_and_a_user(capsys: Capture, tmp_path: Path) -> None:
    where = tmp_path / "certs"
    assert "authority" in certs(capsys, where, "init")
    assert "n1.example,10.0.0.1" in certs(
        capsys, where, "issue", "n1", "--hosts", "n1.example,10.0.0.1"
    )
    assert "client" in certs(capsys, where, "client", "alice", "--days", "3")
    shown = certs(capsys, where, "show").splitlines()
    assert [line.split()[0].rpartition("/")[2] for line in shown] == [
        "FILE", "ca.crt", "alice.crt", "n1.crt",
    ]  # fmt: skip
    assert "nothing to renew" in certs(capsys, where, "renew")
    renewed = json.loads(certs(capsys, where, "renew", "alice", "--json"))
    assert renewed["subject"] == "alice" and renewed["kind"] == "client"
    assert main(["certs", "init", "--dir", str(where)]) == 2
    assert "already" in capsys.readouterr().err
    assert main(["certs", "show", "--dir", str(tmp_path / "none")]) == 2
    assert "kvstore certs init" in capsys.readouterr().err


CLUSTER = {"id": "1", "initial-cluster": "1=a:1"}


def test_other_machines_are_served_by_tls_only() -> None:
    for host in ("0.0.0.0", "[::]", "10.0.0.1", "n1.example"):
        listen = {**CLUSTER, "listen-client": f"{host}:2379"}
        with pytest.raises(InvalidArgument, match="--insecure"):
            load(listen, {})
        assert load({**listen, "insecure": "true"}, {}).config.insecure
        assert load(listen, {"KVSTORE_INSECURE": "true"}).config.insecure
        files = {"cert-file": "c", "key-file": "k"}
        assert load({**listen, **files}, {}).config.cert_file == Path("c")
    for host in ("127.0.0.1", "127.9.9.9", "[::1]", "localhost"):
        assert not load({**CLUSTER, "listen-client": f"{host}:2379"}, {}).config.insecure


@pytest.mark.parametrize(
    "flags", [{"cert-file": "c"}, {"key-file": "k"}, {"client-ca": "a"}, {"insecure": "perhaps"}]
)
def test_settings_of_tls_that_contradict(flags: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        load({**CLUSTER, **flags}, {})


def test_a_peer_port_that_others_reach_needs_tls(tmp_path: Path) -> None:
    files = {"peer-cert-file": "c", "peer-key-file": "k", "peer-ca": "a"}
    listen = {**CLUSTER, "listen-peer": "0.0.0.0:2380"}
    for flags in (listen, {**listen, **files, "peer-tls": "prefer"}):
        with pytest.raises(InvalidArgument, match=r"listen-peer.*--insecure"):
            load(flags, {})
        assert load({**flags, "insecure": "true"}, {}).config.insecure
    assert load({**listen, **files}, {}).config.peer_tls_spoken == "require"
    assert load({**CLUSTER, **files, "peer-tls": "off"}, {}).config.peer_tls_spoken == "off"
    for wrong in ({"peer-ca": "a"}, {"peer-tls": "require"}, {"peer-tls": "prefer"}):
        with pytest.raises(InvalidArgument, match="peer-"):
            load({**CLUSTER, **wrong}, {})


def test_a_certificate_for_peers_names_its_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--dir", str(tmp_path / "certs"))
    assert main(["certs", "init", *where]) == 0
    assert main(["certs", "issue", "n2", "--node", "2", "--cluster", "c1", *where]) == 0
    assert main(["certs", "renew", "n2", *where, "--json"]) == 0
    renewed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert renewed["uris"] == ["kvstore://c1/2"]


def test_a_node_that_makes_its_own_needs_no_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    base = {**CLUSTER, "listen-client": "0.0.0.0:2379", "listen-peer": "0.0.0.0:2380",
            "data-dir": str(data)}  # fmt: skip
    token = {"join": "a:1", "token": "secret." + "a" * 64}
    joins = {name: value for name, value in base.items() if name not in CLUSTER}
    for more in ({"tls": "auto"}, {"ca-dir": str(tmp_path)}, token):
        config = load({**(joins if more is token else base), **more}, {}).config
        place = data / "tls"
        files = (place / "node.crt", place / "node.key", place / "ca.crt")
        assert (config.cert_file, config.key_file, config.client_ca) == files
        assert (config.peer_cert_file, config.peer_key_file, config.peer_ca) == files
        assert config.peer_tls_spoken == "require"
        assert config.ca_dir == (tmp_path if "ca-dir" in more else data / "authority")
    with pytest.raises(InvalidArgument, match="listen-client"):
        load(base, {})
    files = {"cert-file": "c", "key-file": "k"}
    config = load({**base, "tls": "auto", **files}, {}).config
    assert (config.cert_file, config.client_ca) == (Path("c"), None), "files come first"
    assert config.peer_cert_file == data / "tls" / "node.crt"
    (data / "tls").mkdir(parents=True)
    (data / "tls" / "node.crt").touch()
    assert load(base, {}).config.ca_dir is not None, "it goes on so"
    with pytest.raises(InvalidArgument, match="ca-dir: is of no use with tls files"):
        load({**base, "tls": "files", "ca-dir": "x"}, {})
