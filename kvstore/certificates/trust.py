"""Whom a node trusts where it is a client of other nodes: it asks them for their reports, and for
a place in the cluster."""

import ssl
from pathlib import Path

from kvstore.errors import InvalidArgument


def node_trust(authorities: Path | None) -> ssl.SSLContext:
    """What the system trusts, and the authorities in this file. Reads files: not for the loop's
    thread. Raises InvalidArgument that names the file.

    The file is that of `client-ca`: who could sign a node's certificate with it could as well sign
    that of any user.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except OSError as error:  # ssl's are some, too
            text = f"client-ca: cannot use {authorities}: {error.strerror}"
            raise InvalidArgument("client-ca", text) from None
    return context
