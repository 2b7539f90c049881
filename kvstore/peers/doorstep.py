"""Where connections of peers are taken in while this node speaks TLS with them.

The first byte tells TLS from a plain frame, whose length begins with 0. It is looked at and left
where it is, so that each kind goes its own way. Whoever has not shown a certificate yet is a
stranger: there may be a few from each address, for a short time.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from kvstore.certificates.causes import cause_of
from kvstore.config import Address, hosts_to_bind
from kvstore.peers.frames import Refusal, encode_frame
from kvstore.peers.incoming import STRANGERS_MAX, Door, Incoming

TLS_HANDSHAKE = b"\x16"
PLAIN_REFUSED = "it speaks no TLS, and this node asks for it (peer-tls)"
ACCEPTED_AT_ONCE = 32
AGAIN_S = 1.0
"""After an accept failed, for want of file descriptors for example."""
BACKLOG = 128


class Doorstep:
    """Listens for a Door. `context()` is what a handshake begins with; `plain_too` says whether who
    speaks no TLS may come in."""

    def __init__(
        self, door: Door, context: Callable[[], ssl.SSLContext], *, plain_too: bool
    ) -> None:
        self._door = door
        self._context = context
        self._plain_too = plain_too
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._waiting: dict[asyncio.Task[None], str] = {}
        self._pauses: set[asyncio.TimerHandle] = set()

    async def open(self, address: Address) -> None:
        """Listen there. Raises OSError."""
        host, port = address
        try:
            for each in hosts_to_bind(host):
                found = await self._loop.getaddrinfo(
                    each, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
                for family, place in {(info[0], info[4]) for info in found}:
                    listener = socket.create_server(place, family=family, backlog=BACKLOG)
                    listener.setblocking(False)
                    self._listeners.append(listener)
        except OSError:
            self.close()
            raise
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Listen no more, and give up those who have not shown a certificate."""
        for listener in self._listeners:
            with suppress(ValueError, OSError):
                self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for pause in self._pauses:
            pause.cancel()
        for task in list(self._waiting):
            task.cancel()

    async def closed(self) -> None:
        """Until nobody waits here any more; after `close`."""
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                taken, place = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._refused(f"cannot take in a connection: {error.strerror}")
                self._pause(listener)
                return
            taken.setblocking(False)
            self._knocked(taken, str(place[0]))

    def _pause(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)

        def again() -> None:
            self._pauses.discard(pause)
            if listener.fileno() >= 0:
                self._loop.add_reader(listener, self._accept, listener)

        pause = self._loop.call_later(AGAIN_S, again)
        self._pauses.add(pause)

    def _knocked(self, taken: socket.socket, address: str) -> None:
        here = sum(other == address for other in self._waiting.values())
        if here >= self._door.strangers_per_address or len(self._waiting) >= STRANGERS_MAX:
            taken.close()
            self._refused("too many connections that have shown no certificate")
            return
        task = self._loop.create_task(self._let_in(taken))
        self._waiting[task] = address
        task.add_done_callback(self._waiting.pop)

    async def _let_in(self, taken: socket.socket) -> None:
        """Never raises but for its end. The socket is the connection's then, or closed."""
        given = False
        try:
            async with asyncio.timeout(self._door.patience.silence_s):
                first = await self._first_byte(taken)
                if not first:
                    taken.close()
                    return
                tls = self._context() if first == TLS_HANDSHAKE else None
                if tls is None and not self._plain_too:
                    self._refuse_plain(taken)
                    return
                given = True
                await self._loop.connect_accepted_socket(
                    lambda: Incoming(self._door), taken, ssl=tls
                )
        except TimeoutError:
            self._refused("no handshake of TLS in time" if given else "nothing said in time")
        except ssl.SSLError as error:
            self._refused(f"no TLS: {cause_of(error)}")
        except OSError as error:
            cause = str(error) or type(error).__name__
            self._refused(f"the connection ended in the handshake of TLS: {cause}")
        finally:
            if not given:
                taken.close()

    async def _first_byte(self, taken: socket.socket) -> bytes:
        """Looked at, not taken; empty at the end."""
        readable: asyncio.Future[None] = self._loop.create_future()

        def ready() -> None:
            if not readable.done():
                readable.set_result(None)

        self._loop.add_reader(taken, ready)
        try:
            await readable
        finally:
            self._loop.remove_reader(taken)
        with suppress(BlockingIOError):
            return taken.recv(1, socket.MSG_PEEK)
        return b""

    def _refuse_plain(self, taken: socket.socket) -> None:
        """It hears why, if it is a node: that is a frame of a release that knows no TLS, too."""
        self._refused(PLAIN_REFUSED)
        with suppress(OSError):
            taken.send(encode_frame(Refusal(PLAIN_REFUSED)))
            taken.shutdown(socket.SHUT_WR)

    def _refused(self, reason: str) -> None:
        self._door.told.told(self._loop.time(), "link refused", reason)
