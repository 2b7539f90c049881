"""The client port's TLS: what is offered to clients, looked at again when its files change.

A new certificate counts for the connections that come after it; those that are open go on.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvstore.certificates.facts import SOON, CertificateFacts, check_authority, check_pair
from kvstore.errors import InvalidArgument

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""
REFUSALS_PER_MINUTE = 30

_log = logging.getLogger("http_api.tls")

_CAUSES = {
    "HTTP_REQUEST": "it speaks HTTP without TLS: the address begins with https://",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks a TLS older than 1.2",
    "NO_SHARED_CIPHER": "it offers none of our ciphers",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has ended, it says",
}


class ServerTls:
    """The certificate files of one server. Raises InvalidArgument, in one line that names the file,
    where they cannot be used. `monotonic` counts seconds."""

    def __init__(
        self,
        cert_file: Path,
        key_file: Path,
        client_ca: Path | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._files = cert_file, key_file, client_ca
        self._monotonic = monotonic
        self._minute, self._told = -1e9, 0
        self.refused = 0
        """Handshakes that failed."""
        self.facts: CertificateFacts
        self._current: ssl.SSLContext
        self._stamps: tuple[Any, ...] = ()
        self._load()
        self.context = self._made()
        """What the listener is given; each handshake goes on with the newest one."""
        self.context.sni_callback = self._use_current

    def reload(self) -> bool:
        """Look at the files again; whether they are used now. Where they cannot be, the log says
        why, and what was there goes on."""
        try:
            self._load()
        except (InvalidArgument, OSError) as error:
            _log.error("the certificate is not changed: %s", error)
            return False
        left = self.facts.left()
        _log.warning(
            "certificate of %s in use, until %s", self.facts.subject, f"{self.facts.ends:%Y-%m-%d}"
        )
        if left < SOON:
            _log.warning("it ends in %d days: kvstore certs renew", left.days)
        return True

    def look(self) -> None:
        """`reload` if a file has changed since it was last looked at."""
        if self._stamps_now() != self._stamps:
            self._stamps = self._stamps_now()
            self.reload()

    def _load(self) -> None:
        stamps = self._stamps_now()
        facts = check_pair(*self._files[:2])
        if self._files[2] is not None:
            check_authority(self._files[2], "client-ca")
        self._current = self._made()
        self.facts, self._stamps = facts, stamps

    def _stamps_now(self) -> tuple[Any, ...]:
        return tuple(_stamp(file) for file in self._files if file is not None)

    def _made(self) -> ssl.SSLContext:
        cert_file, key_file, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        context.sslobject_class = self._handshake_class()
        try:
            context.load_cert_chain(cert_file, key_file)
            if client_ca is not None:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_OPTIONAL
        except ssl.SSLError as error:
            text = f"cert-file: {cert_file} and {key_file} cannot be used: {error.reason}"
            raise InvalidArgument("cert-file", text) from None
        return context

    def _use_current(self, handshake: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        handshake.context = self._current

    def _handshake_class(self) -> type[ssl.SSLObject]:
        tls = self

        class Handshake(ssl.SSLObject):
            """Says why one failed: nothing else does."""

            def do_handshake(self) -> None:
                try:
                    super().do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as error:
                    tls._failed(error)
                    raise

        return Handshake

    def _failed(self, error: ssl.SSLError) -> None:
        self.refused += 1
        now_s = self._monotonic()
        if now_s - self._minute >= 60:
            self._minute, self._told = now_s, 0
        self._told += 1
        if self._told <= REFUSALS_PER_MINUTE:
            _log.warning("a client is refused: %s", cause_of(error))


def cause_of(error: ssl.SSLError) -> str:
    """Why a handshake failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    reason = str(error.reason or error)
    return _CAUSES.get(reason, reason.replace("_", " ").lower())


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_size, status.st_ino
