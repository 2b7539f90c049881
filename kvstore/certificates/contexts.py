"""The client port's TLS: what is offered to clients, looked at again when its files change.

A new certificate counts for the connections that come after it; those that are open go on.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from kvstore.certificates.causes import cause_of
from kvstore.certificates.facts import check_authority, check_pair
from kvstore.certificates.reloading import ReloadedFiles
from kvstore.errors import InvalidArgument

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""
REFUSALS_PER_MINUTE = 30

_log = logging.getLogger("http_api.tls")


class ServerTls(ReloadedFiles):
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
        self._current: ssl.SSLContext
        super().__init__(self._files, _log)
        self.context = self._made()
        """What the listener is given; each handshake goes on with the newest one."""
        self.context.sni_callback = self._use_current

    def load(self) -> None:
        facts = check_pair(*self._files[:2])
        if self._files[2] is not None:
            check_authority(self._files[2], "client-ca")
        self._current = self._made()
        self.facts = facts

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
