"""Certificates that a node makes by itself: they are good for both ports, private, and renewed."""

import ssl
import stat
from pathlib import Path

import pytest

from kvstore.certificates.authority import Authority
from kvstore.certificates.facts import facts_of, first_of, read_certificates
from kvstore.certificates.join_tokens import split_token, with_fingerprint
from kvstore.certificates.node_names import NodeName
from kvstore.certificates.own import OwnCertificate
from kvstore.certificates.peer_contexts import PeerTls
from kvstore.errors import InvalidArgument
from tests.support.certificates import odd_certificate

NODE = NodeName(1, "c53c44caef93273a", "one")
HOSTS = ["127.0.0.1", "n1.example"]


@pytest.fixture
def own(tmp_path: Path) -> OwnCertificate:
    """Of a node whose authority is made."""
    made = OwnCertificate(tmp_path / "tls", tmp_path / "authority", 90)
    assert made.found() and not made.found(), "once"
    return made


def test_a_node_makes_what_it_needs(own: OwnCertificate, tmp_path: Path) -> None:
    assert not own.fits(NODE, HOSTS) and own.held() is None
    own.sign_own(NODE, HOSTS)
    assert own.fits(NODE, HOSTS)
    tls = PeerTls(own.cert_file, own.key_file, own.authority_file)
    assert tls.names == (NODE,) and set(tls.facts.hosts) == set(HOSTS)
    assert 89 <= tls.facts.left().days <= 90
    for private in (own.key_file, tmp_path / "authority" / "ca.key"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    assert first_of(own.authority_file.read_bytes())[0] == own.fingerprint()


def test_what_it_says_must_still_be_so(own: OwnCertificate) -> None:
    own.sign_own(NODE, HOSTS)
    assert not own.fits(NodeName(2, NODE.cluster, "one"), HOSTS)
    assert not own.fits(NODE, [*HOSTS, "elsewhere.example"])
    assert own.fits(NODE, HOSTS[:1])
    own.key_file.write_text("no key")
    assert not own.fits(NODE, HOSTS)


@pytest.mark.parametrize(("left_days", "fits"), [(40, True), (29, False), (-1, False)])
def test_it_is_renewed_before_the_last_third(
    own: OwnCertificate, tmp_path: Path, left_days: int, fits: bool
) -> None:
    own.sign_own(NODE, HOSTS)
    place = tmp_path / "authority"
    odd_certificate(place, "old", begins_days=left_days - 90, ends_days=left_days, node=NODE)
    for suffix, file in ((".crt", own.cert_file), (".key", own.key_file)):
        file.write_bytes((place / f"old{suffix}").read_bytes())
    assert own.fits(NODE, []) is fits
    assert (own.held() is not None) is (left_days > 0)


def test_another_node_asks_for_one(own: OwnCertificate, tmp_path: Path) -> None:
    other = OwnCertificate(tmp_path / "other", tmp_path / "nothing", 90)
    assert not other.signs
    name = NodeName(2, NODE.cluster, "two")
    asked = other.request()
    assert other.request() != b"" and other.key_file.exists()
    own.sign_own(NODE, HOSTS)
    other.install(own.sign(asked, name, HOSTS), own.authority_file.read_bytes())
    assert other.fits(name, HOSTS) and other.fingerprint() == own.fingerprint()
    with pytest.raises(InvalidArgument, match="no certificate request"):
        own.sign(b"nothing", name, HOSTS)
    with pytest.raises(InvalidArgument, match="is no name and no address"):
        own.sign(asked, name, ["\N{SNOWMAN}"])


def test_a_fingerprint_vouches_for_one_certificate(own: OwnCertificate, tmp_path: Path) -> None:
    """Else who is on the way would send the true authority, and its own after it."""
    stranger = Authority(tmp_path / "stranger")
    stranger.create("stranger")
    own.sign_own(NODE, HOSTS)
    both = own.authority_file.read_bytes() + stranger.certificate_file.read_bytes()
    fingerprint, alone = first_of(both)
    assert fingerprint == own.fingerprint() and alone == own.authority_file.read_bytes()
    known = ssl.create_default_context(cadata=alone.decode()).get_ca_certs()
    assert len(known) == 1
    with pytest.raises(ValueError, match="PEM"):
        first_of(b"nothing")


def test_a_token_says_whom_to_believe() -> None:
    assert split_token(with_fingerprint("secret-_", "AB12")) == ("secret-_", "ab12")
    assert split_token("secret") == ("secret", "")


def test_the_authority_keeps_its_certificates_within_its_own_time(own: OwnCertificate) -> None:
    long = OwnCertificate(own.cert_file.parent, own._ca_dir, 100_000)
    long.sign_own(NODE, HOSTS)
    ends = facts_of(read_certificates(own.authority_file, "x")[0]).ends
    held = long.held()
    assert held is not None and held.ends == ends
