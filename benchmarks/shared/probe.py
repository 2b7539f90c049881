"""One blocking HTTP request on a connection of its own: for readiness and verification."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import closing
from http.client import HTTPException, HTTPResponse


class Unreachable(Exception):
    """No HTTP answer came."""


CA = "BENCH_CA"


def trust() -> ssl.SSLContext | None:
    """Whom clients believe that speak TLS: the authority in the file that the variable BENCH_CA
    names; None, they speak none."""
    file = os.environ.get(CA)
    return ssl.create_default_context(cafile=file) if file else None


def call(port: int, request: bytes, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Send a whole request to a port on loopback; its status and body."""
    try:
        opened = socket.create_connection(("127.0.0.1", port), timeout_s)
        secure = trust()
        with closing(opened):
            connection = opened
            if secure is not None:
                connection = secure.wrap_socket(opened, server_hostname="127.0.0.1")
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            return response.status, response.read()
    except (OSError, HTTPException) as error:
        raise Unreachable(f"port {port}: {error!r}") from error
