"""Where a request comes from, and whom a certificate proves."""

from typing import Any

from aiohttp import web

from kvstore.certificates.node_names import names_shown


def address_of(request: web.BaseRequest) -> str:
    """The other end's IP address; "" if the connection is gone."""
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def certificate_name(transport: Any) -> str:
    """The common name of the certificate that the other end has shown, and that one of our
    authorities has signed; "" without one."""
    shown = None if transport is None else transport.get_extra_info("peercert")
    if not shown or names_shown(transport):
        return ""  # a node's certificate proves no user
    for part in shown.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""
