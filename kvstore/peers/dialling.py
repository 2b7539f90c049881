"""How a connection to a peer is made: plainly, by TLS, or by TLS first.

The third is for the time in which a cluster moves from one to the other by a rolling restart. It
keeps nobody from cutting the TLS off on the way, and says so by a gauge; `require` ends that.
A peer that is busy, or just ending, looks as if it spoke no TLS, so a plain link asks now and then.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

from kvstore.certificates.causes import cause_of
from kvstore.config import Address
from kvstore.peers.refusals import HandshakeRefused

P = TypeVar("P", bound=asyncio.Protocol)
_NOT_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE"}


class _SpeaksNoTls(Exception):
    """The peer takes TLS for something else."""


class Dialling:
    """`context()` is what a handshake of TLS begins with; None: none does. `plain_too`: a peer that
    speaks no TLS is dialled again without. A handshake has `handshake_s`."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext] | None,
        handshake_s: float,
        *,
        plain_too: bool,
    ) -> None:
        self._context = context
        self._handshake_s = handshake_s
        self._plain_too = plain_too

    async def dial(
        self,
        resolve: Callable[[], Awaitable[Address]],
        made: Callable[[], P],
        limited: Callable[[], AbstractAsyncContextManager[None]],
    ) -> tuple[asyncio.Transport, P]:
        """A connection to the address that `resolve` finds, with a protocol that `made` makes. What
        waits for an answer to a call goes into `limited`.

        Raises OSError, TimeoutError, or HandshakeRefused if there is no TLS with the peer.
        """
        if self._context is not None:
            try:
                return await self._by_tls(self._context(), resolve, made, limited)
            except _SpeaksNoTls as error:
                if not self._plain_too:
                    raise HandshakeRefused(f"no TLS with it: {error}") from None
            except ssl.SSLError as error:
                raise HandshakeRefused(f"no TLS with it: {cause_of(error)}") from None
        loop = asyncio.get_running_loop()
        async with limited():
            host, port = await resolve()
            return await loop.create_connection(made, host, port)

    @property
    def both(self) -> bool:
        """Whether a plain link is one that could be better."""
        return self._context is not None and self._plain_too

    async def speaks_tls(
        self,
        resolve: Callable[[], Awaitable[Address]],
        limited: Callable[[], AbstractAsyncContextManager[None]],
    ) -> bool:
        """Whether the peer takes part in a handshake of TLS, which comes to nothing else."""
        if self._context is None:
            return False
        try:
            transport, _ = await self._by_tls(self._context(), resolve, asyncio.Protocol, limited)
        except (OSError, TimeoutError, _SpeaksNoTls):  # ssl's errors are OSErrors
            return False
        transport.abort()
        return True

    async def _by_tls(
        self,
        context: ssl.SSLContext,
        resolve: Callable[[], Awaitable[Address]],
        made: Callable[[], P],
        limited: Callable[[], AbstractAsyncContextManager[None]],
    ) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        async with limited():
            connected = await _connected(await resolve())
        try:
            async with asyncio.timeout(self._handshake_s):
                # Whom the certificate names is compared later, and no host is.
                return await loop.create_connection(
                    made, sock=connected, ssl=context, server_hostname=""
                )
        except ssl.SSLError as error:
            if isinstance(error, ssl.SSLEOFError) or error.reason in _NOT_TLS:
                raise _SpeaksNoTls(cause_of(error)) from None
            raise
        except ConnectionError as error:
            raise _SpeaksNoTls(f"it ends the connection: {error}") from None


async def _connected(address: Address) -> socket.socket:
    """A socket, which is connected to a numeric address."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    with suppress(OSError):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
