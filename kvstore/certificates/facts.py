"""What a certificate says, and what is wrong with one: each fault is one line that names it."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvstore.errors import InvalidArgument

RSA_BITS_MIN = 2048
EC_BITS_MIN = 256
SOON = dt.timedelta(days=30)
"""An operator hears of an end that is so near."""


@dataclass(frozen=True)
class CertificateFacts:
    """One certificate. `kind`: "authority", "server", "client" or "server and client"."""

    subject: str
    issuer: str
    hosts: tuple[str, ...]
    uris: tuple[str, ...]
    kind: str
    begins: dt.datetime
    ends: dt.datetime
    serial: int
    fingerprint: str
    """SHA-256 of the whole certificate, in hexadecimal."""

    def left(self, now: dt.datetime | None = None) -> dt.timedelta:
        """Until it ends; below zero if it has."""
        return self.ends - (now or dt.datetime.now(dt.UTC))


def read_certificates(file: Path, name: str) -> list[x509.Certificate]:
    """All certificates of a PEM file, at least one. Raises InvalidArgument that names `name`."""
    try:
        found = x509.load_pem_x509_certificates(read_file(file, name))
    except ValueError:
        found = []
    if not found:
        raise InvalidArgument(name, f"{name}: {file} holds no certificate in PEM form")
    return found


def read_key(file: Path, name: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """The private key of a PEM file. Raises InvalidArgument that names `name`."""
    try:
        key = serialization.load_pem_private_key(read_file(file, name), None)
    except (ValueError, TypeError):
        raise InvalidArgument(
            name, f"{name}: {file} holds no private key in PEM form without a passphrase"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidArgument(name, f"{name}: {file} holds a key that is neither RSA nor EC")
    return key


def read_file(file: Path, name: str) -> bytes:
    """Its bytes. Raises InvalidArgument that names `name`."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidArgument(name, f"{name}: cannot read {file}: {error.strerror}") from None


def first_of(pem: bytes) -> tuple[str, bytes]:
    """Fingerprint (SHA-256 in hexadecimal) of the first certificate in it, and that alone in PEM:
    what follows it was vouched for by nobody. Raises ValueError."""
    first = x509.load_pem_x509_certificate(pem)
    return first.fingerprint(hashes.SHA256()).hex(), first.public_bytes(serialization.Encoding.PEM)


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """What it says."""
    return CertificateFacts(
        subject=common_name(certificate.subject),
        issuer=common_name(certificate.issuer),
        hosts=_hosts(certificate),
        uris=_uris(certificate),
        kind=_kind(certificate),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        serial=certificate.serial_number,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def check_pair(
    cert_file: Path, key_file: Path, names: tuple[str, str] = ("cert-file", "key-file")
) -> CertificateFacts:
    """The facts of a server's certificate that can be used now with that key; `names` are those of
    the settings.

    Raises InvalidArgument: unreadable, not of this key, a weak key, not valid yet, or ended.
    """
    of_cert, of_key = names
    certificate = read_certificates(cert_file, of_cert)[0]
    key = read_key(key_file, of_key)
    if key.public_key() != certificate.public_key():
        raise InvalidArgument(
            of_key, f"{of_key}: {key_file} is not the key of the certificate {cert_file}"
        )
    check_strength(certificate, cert_file, of_cert)
    facts, now = facts_of(certificate), dt.datetime.now(dt.UTC)
    if facts.kind not in ("server", "server and client"):
        raise InvalidArgument(of_cert, f"{of_cert}: {cert_file} is no server's: {facts.kind}")
    check_time(facts, cert_file, of_cert, now)
    return facts


def check_authority(file: Path, name: str) -> None:
    """Raise InvalidArgument unless the file holds authorities that are valid now."""
    now = dt.datetime.now(dt.UTC)
    for certificate in read_certificates(file, name):
        facts = facts_of(certificate)
        if facts.kind != "authority":
            raise InvalidArgument(name, f"{name}: {file} holds {facts.subject}: no authority")
        check_strength(certificate, file, name)
        check_time(facts, file, name, now)


def check_time(facts: CertificateFacts, file: Path, name: str, now: dt.datetime) -> None:
    """Raise InvalidArgument for a certificate that has ended or has not begun."""
    if now < facts.begins:
        text = f"{name}: {file} is not valid before {facts.begins:%Y-%m-%d %H:%M} UTC"
        raise InvalidArgument(name, text)
    if now >= facts.ends:
        raise InvalidArgument(name, f"{name}: {file} ended at {facts.ends:%Y-%m-%d %H:%M} UTC")


def check_strength(certificate: x509.Certificate, file: Path, name: str) -> None:
    """Raise InvalidArgument for a key that can be broken."""
    key = certificate.public_key()
    weak = (isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS_MIN) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < EC_BITS_MIN
    )
    if weak:
        raise InvalidArgument(name, f"{name}: the key of {file} is weak: {key.key_size} bits")  # type: ignore[union-attr]


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority has signed it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def common_name(name: x509.Name) -> str:
    """The CN; "" if there is none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    found = _alternatives(certificate)
    known = found.get_values_for_type(x509.UniformResourceIdentifier) if found else ()
    return tuple(known)


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    found = _alternatives(certificate)
    if found is None:
        return ()
    names = found.get_values_for_type(x509.DNSName)
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [
        each
        for each in found.get_values_for_type(x509.IPAddress)
        if isinstance(each, ipaddress.IPv4Address | ipaddress.IPv6Address)
    ]
    return (*names, *map(str, addresses))


def _kind(certificate: x509.Certificate) -> str:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "authority"
    except x509.ExtensionNotFound:
        pass
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "server and client"
    server = ExtendedKeyUsageOID.SERVER_AUTH in usage
    client = ExtendedKeyUsageOID.CLIENT_AUTH in usage
    if server and client:
        return "server and client"
    return "server" if server else "client" if client else "of another use"
