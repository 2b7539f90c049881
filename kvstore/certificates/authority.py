"""An authority of one's own: makes the certificates of servers and users, and renews them.

Its key signs everything, and stays where the operator keeps it; no node needs it.
"""

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvstore.certificates.facts import (
    CertificateFacts,
    check_strength,
    check_time,
    facts_of,
    read_certificates,
    read_key,
)
from kvstore.certificates.node_names import NodeName
from kvstore.errors import InvalidArgument

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
CLOCKS_DIFFER = dt.timedelta(minutes=5)
"""Certificates begin so long ago, for machines whose clocks are late."""
NAME_CHARACTERS_MAX = 64
"""Of a common name (RFC 5280)."""

_SERVER = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Authority:
    """The authority whose files `ca.crt` and `ca.key` are in `directory`.

    Its methods raise InvalidArgument, which names the file, where one cannot be read or written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate_file = directory / "ca.crt"
        self._key_file = directory / "ca.key"

    @property
    def has_key(self) -> bool:
        """Whether it can sign here."""
        return self._key_file.exists() and self.certificate_file.exists()

    def create(self, name: str) -> CertificateFacts:
        """Make it. Raises InvalidArgument if it is there already."""
        if self._key_file.exists() or self.certificate_file.exists():
            raise InvalidArgument("dir", f"dir: there is an authority in {self.directory} already")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = make_name(name)
        builder = _begun(subject, subject, key.public_key(), AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        usage = _usage(signs_certificates=True)
        certificate = builder.add_extension(usage, True).sign(key, hashes.SHA256())
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgument("dir", f"dir: {self.directory}: {error.strerror}") from None
        write_key(self._key_file, key)
        write_file(self.certificate_file, _pem(certificate), 0o644)
        return facts_of(certificate)

    def issue_server(
        self, name: str, hosts: list[str], days: int, node: NodeName | None = None
    ) -> CertificateFacts:
        """A node's certificate, `NAME.crt` and `NAME.key`, good for these names and addresses, and
        if it names `node`, for its peers."""
        return self._issue(name, _SERVER, _alternative(hosts, node), days)

    def sign(
        self,
        request: x509.CertificateSigningRequest,
        name: str,
        hosts: list[str],
        node: NodeName,
        days: float,
    ) -> bytes:
        """A node's certificate for the key of its request, in PEM, with the authority's own after
        it. What else the request says does not count. Raises InvalidArgument for a request that
        its key has not signed, and for a weak key."""
        key = request.public_key()
        if not request.is_signature_valid or not isinstance(
            key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey
        ):
            raise InvalidArgument("request", "request: it is not signed by its own EC or RSA key")
        extensions = [x509.ExtendedKeyUsage(_SERVER), _alternative(hosts, node)]
        certificate = self._signed(make_name(name), key, extensions, days)
        check_strength(certificate, Path("request"), "request")
        return _pem(certificate) + self.certificate_file.read_bytes()

    def issue_client(self, user: str, days: int) -> CertificateFacts:
        """A user's certificate: its common name is the user."""
        return self._issue(user, _CLIENT, None, days)

    def renew(self, name: str, days: int) -> CertificateFacts:
        """The same certificate with a later end, for the same key."""
        file, key_file = self._files(name)
        old = read_certificates(file, "name")[0]
        key = read_key(key_file, "name")
        extensions = [
            each.value
            for each in old.extensions
            if isinstance(each.value, x509.SubjectAlternativeName | x509.ExtendedKeyUsage)
        ]
        certificate = self._signed(old.subject, key.public_key(), extensions, days)
        write_file(file, _pem(certificate), 0o644)
        return facts_of(certificate)

    def issued(self) -> list[tuple[Path, CertificateFacts]]:
        """All certificates beside the authority's own, which comes first."""
        files = sorted(self.directory.glob("*.crt"), key=lambda file: (file.stem != "ca", file))
        return [(file, facts_of(read_certificates(file, "dir")[0])) for file in files]

    def _issue(
        self,
        name: str,
        uses: tuple[x509.ObjectIdentifier, ...],
        alternative: x509.SubjectAlternativeName | None,
        days: int,
    ) -> CertificateFacts:
        file, key_file = self._files(name)
        if file.exists() or key_file.exists():
            raise InvalidArgument("name", f"name: {file} is there already; renew it")
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage(uses)]
        extensions += [] if alternative is None else [alternative]
        certificate = self._signed(make_name(name), key.public_key(), extensions, days)
        write_key(key_file, key)
        write_file(file, _pem(certificate), 0o644)
        return facts_of(certificate)

    def _signed(
        self,
        subject: x509.Name,
        key: _PublicKey,
        extensions: Sequence[x509.ExtensionType],
        days: float,
    ) -> x509.Certificate:
        own = read_certificates(self.certificate_file, "dir")[0]
        signer = read_key(self._key_file, "dir")
        check_time(facts_of(own), self.certificate_file, "dir", dt.datetime.now(dt.UTC))
        builder = _begun(subject, own.subject, key, days, own.not_valid_after_utc)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_usage(signs_certificates=False), True)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(identifier, False)
        for extension in extensions:
            builder = builder.add_extension(extension, False)
        return builder.sign(signer, hashes.SHA256())

    def _files(self, name: str) -> tuple[Path, Path]:
        if not name or "/" in name or name.startswith(".") or name == "ca":
            raise InvalidArgument("name", f"name: {name!r} cannot be the name of a file")
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"


def write_key(file: Path, key: _Key) -> None:
    """A private key that nobody else can read. Raises InvalidArgument."""
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_file(file, encoded, 0o600)


def write_file(file: Path, data: bytes, mode: int) -> None:
    """A file that is there as a whole or not at all, so that a node reads no half of one. Raises
    InvalidArgument."""
    new = file.with_name(f"{file.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as opened:
            os.fchmod(descriptor, mode)
            opened.write(data)
            opened.flush()
            os.fsync(descriptor)
        new.replace(file)
    except OSError as error:
        raise InvalidArgument("dir", f"dir: cannot write {file}: {error.strerror}") from None


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: _PublicKey,
    days: float,
    ends_max: dt.datetime | None = None,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    ends = now + dt.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(ends if ends_max is None else min(ends, ends_max))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_name(text: str) -> x509.Name:
    """With this common name. Raises InvalidArgument for a length that none has."""
    if not 0 < len(text) <= NAME_CHARACTERS_MAX:
        text = f"name: {len(text)} characters; a certificate's has 1 to {NAME_CHARACTERS_MAX}"
        raise InvalidArgument("name", text)
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(hosts: list[str], node: NodeName | None) -> x509.SubjectAlternativeName:
    if not hosts:
        raise InvalidArgument("hosts", "hosts: a node needs the names by which it is reached")
    names = [_host(host) for host in hosts]
    names += [] if node is None else [x509.UniformResourceIdentifier(node.uri)]
    return x509.SubjectAlternativeName(names)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError:
        raise InvalidArgument("hosts", f"hosts: {text!r} is no name and no address") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
