"""Where a request comes from."""

from aiohttp import web


def address_of(request: web.BaseRequest) -> str:
    """The other end's IP address; "" if the connection is gone."""
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
