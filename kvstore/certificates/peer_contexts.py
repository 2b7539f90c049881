"""TLS between nodes: both ends show a certificate of the same authority, which names a node.

Hosts are not compared: a node is known by its number and incarnation, wherever it is, and the
handshake that follows must say the same as its certificate (`kvstore.peers.desk`).
"""

import logging
import ssl
from pathlib import Path

from kvstore.certificates.contexts import CIPHERS
from kvstore.certificates.facts import (
    check_authority,
    check_pair,
    is_issued_by,
    read_certificates,
)
from kvstore.certificates.node_names import NodeName, node_names
from kvstore.certificates.reloading import ReloadedFiles
from kvstore.errors import InvalidArgument

_log = logging.getLogger("kvstore.peers.tls")
_NAMES = "peer-cert-file", "peer-key-file"


class PeerTls(ReloadedFiles):
    """What a node shows to its peers, and whom it believes; new files count for the links that come
    after them. Raises InvalidArgument, in one line that names the file, if they cannot be used."""

    def __init__(self, cert_file: Path, key_file: Path, authorities: Path) -> None:
        self._cert_file, self._key_file, self._authorities = cert_file, key_file, authorities
        self.server: ssl.SSLContext
        """For those who dial this node."""
        self.client: ssl.SSLContext
        """For dialling."""
        self.names: tuple[NodeName, ...] = ()
        """The nodes that the certificate names."""
        super().__init__((cert_file, key_file, authorities), _log)

    def load(self) -> None:
        facts = check_pair(self._cert_file, self._key_file, _NAMES)
        check_authority(self._authorities, "peer-ca")
        names = node_names(facts.uris)
        if facts.kind != "server and client":
            raise InvalidArgument(
                _NAMES[0],
                f"{_NAMES[0]}: {self._cert_file} is a {facts.kind}'s: peers need one for both",
            )
        if not names:
            raise InvalidArgument(
                _NAMES[0],
                f"{_NAMES[0]}: {self._cert_file} names no node, as in kvstore:///1 among its URIs: "
                "kvstore certs issue NAME --node N",
            )
        self._check_chain()
        made = self._made(ssl.PROTOCOL_TLS_SERVER), self._made(ssl.PROTOCOL_TLS_CLIENT)
        self.server, self.client = made
        self.facts, self.names = facts, names

    def _check_chain(self) -> None:
        """A certificate that no peer would believe is found here, and not by each of them."""
        last = read_certificates(self._cert_file, _NAMES[0])[-1]
        known = read_certificates(self._authorities, "peer-ca")
        if last not in known and not any(is_issued_by(last, one) for one in known):
            raise InvalidArgument(
                _NAMES[0],
                f"{_NAMES[0]}: {self._cert_file} is not by an authority of {self._authorities}",
            )

    def _made(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # each link shows its certificate
        try:
            context.load_cert_chain(self._cert_file, self._key_file)
            context.load_verify_locations(self._authorities)
        except ssl.SSLError as error:
            text = f"{_NAMES[0]}: {self._cert_file} cannot be used: {error.reason}"
            raise InvalidArgument(_NAMES[0], text) from None
        return context
