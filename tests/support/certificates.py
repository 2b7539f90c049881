"""An authority for tests, and certificates with any fault one wants."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kvstore.certificates.authority import Authority, write_key
from kvstore.certificates.facts import read_certificates, read_key
from kvstore.certificates.node_names import NodeName

HOSTS = ["localhost", "127.0.0.1"]


def authority(directory: Path) -> Authority:
    """One with a node's certificate `n1` and a user's `u`."""
    made = Authority(directory)
    made.create("tests")
    made.issue_server("n1", HOSTS, 30)
    made.issue_client("u", 30)
    return made


def settings(directory: Path, name: str = "n1") -> dict[str, Path]:
    """Of a node that serves with them."""
    return {
        "cert_file": directory / f"{name}.crt",
        "key_file": directory / f"{name}.key",
        "client_ca": directory / "ca.crt",
    }


def odd_certificate(
    directory: Path,
    name: str,
    *,
    begins_days: float = -1,
    ends_days: float = 30,
    bits: int = 2048,
    node: NodeName | None = None,
) -> None:
    """`NAME.crt` and `NAME.key` by the authority there, with this time and an RSA key, perhaps of
    a node."""
    signer, own = read_key(directory / "ca.key", "x"), read_certificates(directory / "ca.crt", "x")
    key = rsa.generate_private_key(65537, bits)
    now = dt.datetime.now(dt.UTC)
    names = [] if node is None else [x509.UniformResourceIdentifier(node.uri)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(own[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begins_days))
        .not_valid_after(now + dt.timedelta(days=ends_days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    certificate = builder.sign(signer, hashes.SHA256())
    write_key(directory / f"{name}.key", key)
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
