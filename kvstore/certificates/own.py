"""The certificate that a node makes, or is given, by itself: its files, and whether it still fits.

`ca.crt`, `node.crt` and `node.key` are in a directory of the data directory, and good for clients
and for peers. The authority's key is where `ca_dir` says; of all nodes, one at least has it.
"""

import datetime as dt
import fcntl
import math
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kvstore.certificates.authority import (
    CLOCKS_DIFFER,
    Authority,
    make_name,
    write_file,
    write_key,
)
from kvstore.certificates.facts import CertificateFacts, facts_of, read_certificates, read_key
from kvstore.certificates.node_names import NodeName
from kvstore.errors import InvalidArgument

RENEW_SHARE = 3
"""What has less than this part of its time left is renewed."""
AUTHORITY_NAME = "kvstore cluster"


class OwnCertificate:
    """The files in `directory`, and those of the authority in `ca_dir`, if its key is here. Methods
    read and write files, and raise InvalidArgument that names the file."""

    def __init__(self, directory: Path, ca_dir: Path, days: float) -> None:
        self.authority_file = directory / "ca.crt"
        self.cert_file = directory / "node.crt"
        self.key_file = directory / "node.key"
        self._directory = directory
        self._authority = Authority(ca_dir)
        self._ca_dir = ca_dir
        self._days = days

    @property
    def signs(self) -> bool:
        """Whether the authority's key is here."""
        return self._authority.has_key

    def found(self) -> bool:
        """Make the authority, unless it is there; nodes that share it may ask at the same time.
        Whether it was made now."""
        _make_directory(self._ca_dir)
        descriptor = os.open(self._ca_dir, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self.signs:
                return False
            self._authority.create(AUTHORITY_NAME)
            return True
        finally:
            os.close(descriptor)

    def fingerprint(self) -> str:
        """Of the authority: SHA-256 in hexadecimal."""
        return facts_of(read_certificates(self.authority_file, "tls")[0]).fingerprint

    def fits(self, node: NodeName, hosts: list[str]) -> bool:
        """Whether it is there, says this, and has more than a third of its time left."""
        try:
            facts = facts_of(read_certificates(self.cert_file, "tls")[0])
            read_key(self.key_file, "tls"), read_certificates(self.authority_file, "tls")
        except InvalidArgument:
            return False
        life = facts.ends - facts.begins - CLOCKS_DIFFER
        fresh = facts.left() * RENEW_SHARE > life
        return fresh and node.uri in facts.uris and set(hosts) <= set(facts.hosts)

    def held(self) -> CertificateFacts | None:
        """What is there, if it has not ended."""
        try:
            facts = facts_of(read_certificates(self.cert_file, "tls")[0])
        except InvalidArgument:
            return None
        return facts if facts.left() > dt.timedelta(0) else None

    def request(self) -> bytes:
        """A request for its key, which is made if it is not there."""
        _make_directory(self._directory)
        if not self.key_file.exists():
            write_key(self.key_file, ec.generate_private_key(ec.SECP256R1()))
        key = read_key(self.key_file, "tls")
        builder = x509.CertificateSigningRequestBuilder().subject_name(make_name("node"))
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def sign(
        self, request: bytes, node: NodeName, hosts: list[str], days_max: float = math.inf
    ) -> bytes:
        """A certificate for somebody's request. The authority's key is here."""
        try:
            asked = x509.load_pem_x509_csr(request)
        except ValueError:
            raise InvalidArgument("request", "request: no certificate request in PEM") from None
        return self._authority.sign(
            asked, f"node{node.node}", hosts, node, min(self._days, days_max)
        )

    def sign_own(self, node: NodeName, hosts: list[str]) -> None:
        """A new one for this node. The authority's key is here."""
        signed = self.sign(self.request(), node, hosts)
        self.install(signed, self._authority.certificate_file.read_bytes())

    def install(self, chain: bytes, authority: bytes) -> None:
        """Use this from now on; who serves with the files sees that they have changed."""
        _make_directory(self._directory)
        if not self.authority_file.exists() or self.authority_file.read_bytes() != authority:
            write_file(self.authority_file, authority, 0o644)
        write_file(self.cert_file, chain, 0o644)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument("tls", f"tls: {directory}: {error.strerror}") from None
