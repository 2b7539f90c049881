"""One blocking HTTP request on a connection of its own: for readiness and verification."""

from __future__ import annotations

import socket
from http.client import HTTPException, HTTPResponse


class Unreachable(Exception):
    """No HTTP answer came."""


def call(port: int, request: bytes, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Send a whole request to a port on loopback; its status and body."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            return response.status, response.read()
    except (OSError, HTTPException) as error:
        raise Unreachable(f"port {port}: {error!r}") from error
