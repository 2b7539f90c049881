"""Certificates that cannot be used are refused in one line that says why."""

from pathlib import Path

import pytest

from kvstore.certificates.authority import Authority
from kvstore.certificates.contexts import ServerTls
from kvstore.certificates.facts import check_authority, is_issued_by, read_certificates
from kvstore.errors import InvalidArgument
from tests.support.certificates import authority, odd_certificate


def use(cert: Path, key: Path, ca: Path | None = None) -> str:
    """Why they cannot be used."""
    with pytest.raises(InvalidArgument) as caught:
        ServerTls(cert, key, ca, lambda: 0.0)
    return str(caught.value)


def test_what_cannot_be_used(tmp_path: Path) -> None:
    authority(tmp_path)
    odd_certificate(tmp_path, "ended", begins_days=-9, ends_days=-1)
    odd_certificate(tmp_path, "early", begins_days=1)
    odd_certificate(tmp_path, "weak", bits=1024)

    def files(name: str, key: str = "") -> tuple[Path, Path]:
        return tmp_path / f"{name}.crt", tmp_path / f"{key or name}.key"

    assert "cannot read" in use(*files("none"))
    assert f"{tmp_path}/ended.crt ended at" in use(*files("ended"))
    assert "is not valid before" in use(*files("early"))
    assert "is weak: 1024 bits" in use(*files("weak"))
    assert "is no server's: client" in use(*files("u"))
    assert "is not the key of" in use(*files("n1", "u"))
    assert "holds no private key" in use(tmp_path / "n1.crt", tmp_path / "n1.crt")
    assert "holds no certificate" in use(tmp_path / "n1.key", tmp_path / "n1.key")
    assert "no authority" in use(*files("n1"), tmp_path / "u.crt")
    assert ServerTls(*files("n1"), tmp_path / "ca.crt", lambda: 0.0).facts.subject == "n1"


def test_an_authority_makes_what_it_says(tmp_path: Path) -> None:
    made = authority(tmp_path / "a")
    stranger = authority(tmp_path / "b")
    check_authority(made.certificate_file, "ca")
    own = read_certificates(made.certificate_file, "ca")[0]
    node = read_certificates(tmp_path / "a" / "n1.crt", "n1")[0]
    assert is_issued_by(node, own)
    assert not is_issued_by(node, read_certificates(stranger.certificate_file, "ca")[0])
    kinds = {file.stem: (facts.kind, facts.hosts) for file, facts in made.issued()}
    assert kinds == {
        "ca": ("authority", ()),
        "n1": ("server and client", ("localhost", "127.0.0.1")),
        "u": ("client", ()),
    }
    for file in (tmp_path / "a").glob("*.key"):
        assert file.stat().st_mode & 0o777 == 0o600, file
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_renewal_keeps_the_key_and_all_that_it_is_for(tmp_path: Path) -> None:
    made = authority(tmp_path)
    before = {file.stem: facts for file, facts in made.issued()}
    key = (tmp_path / "n1.key").read_bytes()
    renewed = made.renew("n1", 90)
    assert (tmp_path / "n1.key").read_bytes() == key
    assert renewed.hosts == before["n1"].hosts and renewed.kind == before["n1"].kind
    assert renewed.ends > before["n1"].ends and renewed.serial != before["n1"].serial
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize("name", ["", "../x", ".x", "ca", "n1", "x" * 65])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    made = authority(tmp_path)
    with pytest.raises(InvalidArgument):
        made.issue_client(name, 30)
    with pytest.raises(InvalidArgument):
        made.create("again")
    with pytest.raises(InvalidArgument):
        made.issue_server("n9", ["not a host é", ""], 30)
    with pytest.raises(InvalidArgument):
        Authority(tmp_path / "elsewhere").renew("n1", 30)
