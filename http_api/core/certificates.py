"""The certificate that this node makes by itself, if the settings say so."""

from typing import TYPE_CHECKING

from kvstore.config import Config

if TYPE_CHECKING:
    from kvstore.certificates.own import OwnCertificate


def own_certificate(config: Config) -> "OwnCertificate | None":
    """None: it makes none."""
    if config.ca_dir is None:
        return None
    # Imported here: it is slow, and most nodes of tests and demos do without.
    from kvstore.certificates.own import OwnCertificate

    return OwnCertificate(config.data_dir / "tls", config.ca_dir, config.cert_days)
