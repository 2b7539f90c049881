"""The link that this node dials to one peer, and sends on.

Losing messages is allowed: Paxos sends again. So a link that is down or full drops what it is
given, memory stays bounded, and nothing waits.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, cast

from kvstore.certificates.causes import cause_of
from kvstore.certificates.node_names import NodeName, names_shown
from kvstore.config import Address
from kvstore.peers.desk import Desk
from kvstore.peers.dialling import Dialling
from kvstore.peers.frames import (
    HELLO_BYTES_MAX,
    PING,
    FrameError,
    FrameReader,
    Hello,
    Refusal,
    decode_hello,
    encode_frame,
)
from kvstore.peers.patience import PINGS, Patience
from kvstore.peers.refusals import HandshakeRefused
from kvstore.peers.sockets import give_up_after
from kvstore.peers.told import PeerTold
from paxos.ballot import NodeId

PING_S_MIN = 0.01
TLS_AGAIN_S = 10.0
"""How often a plain link asks whether the peer speaks TLS by now."""


class OutgoingLink:
    """Dials `peer` for as long as this runs."""

    def __init__(
        self,
        peer: NodeId,
        address: Address,
        desk: Desk,
        told: PeerTold,
        patience: Patience,
        buffer_bytes_max: int,
        reached: Callable[[NodeId], None],
        dialling: Dialling,
    ) -> None:
        """`reached(peer)` is called whenever a link is ready."""
        self.told = told
        self.since_s = asyncio.get_running_loop().time()
        self.dropped = 0
        self.transport: asyncio.Transport | None = None
        self._peer = peer
        self._address = address
        self._desk = desk
        self._patience = patience
        self._buffer_bytes_max = buffer_bytes_max
        self._reached = reached
        self._dialling = dialling
        self._protocol: _Dialled | None = None
        self._outbox: list[bytes] = []
        self._written_s = 0.0
        self._woken = asyncio.Event()
        self._connecting: asyncio.Timeout | None = None
        self._lookup: asyncio.Future[Any] | None = None
        self._attempt = 0
        self.task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to dial; the task ends by `stop` only."""
        self.task = asyncio.get_running_loop().create_task(self._dial_for_ever())
        return self.task

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self._lookup is not None:
            self._lookup.cancel()
        self.drop("this node is stopping")

    # -- sending ----------------------------------------------------------------------------

    def queue(self, frame: bytes) -> None:
        """It leaves with the next `flush`, or is dropped."""
        self._outbox.append(frame)

    def flush(self) -> None:
        """Hand what was queued to the socket: one write."""
        if not self._outbox:
            return
        # uvloop raises on a closed transport, which `transport` may be for one more turn.
        if self.transport is not None and not self.transport.is_closing():
            if self.transport.get_write_buffer_size() > self._buffer_bytes_max:
                self.dropped += len(self._outbox)
            else:
                self.transport.write(b"".join(self._outbox))
                self._written_s = asyncio.get_running_loop().time()
        self._outbox.clear()

    # -- watching ---------------------------------------------------------------------------

    def alive(self, now_s: float) -> bool:
        """Whether the peer was heard on this link lately."""
        return (
            self.transport is not None
            and self._protocol is not None
            and now_s - self._protocol.heard_s < self._patience.silence_s
        )

    def watch(self, now_s: float) -> None:
        """Say something if nothing was said for long; give the link up if nothing was heard."""
        transport, protocol = self.transport, self._protocol
        if transport is not None and protocol is not None and protocol.peer_silence_s:
            silence_s = self._patience.silence_s
            self.told.heard_s = max(self.told.heard_s or 0.0, protocol.heard_s)
            if now_s - protocol.heard_s >= silence_s:
                self.drop(f"nothing heard for {silence_s:g} s")
            elif now_s - self._written_s >= protocol.ping_s and not transport.is_closing():
                transport.write(PING)
                self._written_s = now_s
        self.told.look(now_s)

    def excuse(self, now_s: float) -> None:
        """This program was not running, so it could not hear."""
        if self._protocol is not None:
            self._protocol.heard_s = now_s

    def drop(self, cause: str) -> None:
        """Give the link up, with all that the kernel holds of it."""
        if self.transport is not None and self._protocol is not None:
            self._protocol.cause = cause
            self.transport.abort()

    def move(self, address: Address) -> None:
        """The peer is at `address` from now on."""
        if address != self._address:
            self._address = address
            self.drop("the peer has another address")
            self._woken.set()

    def redial(self) -> None:
        """The peer was heard just now: an attempt under way may wait for a lost SYN, or be an
        answer to nobody; the next one begins at once."""
        if self.transport is None:
            self._woken.set()
            if self._connecting is not None and not self._connecting.expired():
                self._connecting.reschedule(asyncio.get_running_loop().time())

    # -- dialling ---------------------------------------------------------------------------

    async def _dial_for_ever(self) -> None:
        first_s, longest_s = self._patience.pause_s
        pause_s = first_s
        while True:
            self._woken.clear()
            try:
                transport, protocol = await self._dial()
            except TimeoutError:
                self.told.failed(f"no answer from {self._host} to a call")
                pause_s = first_s  # it has waited already
            except OSError as error:
                self.told.failed(f"{self._host}: {error}")
            except (FrameError, HandshakeRefused) as error:
                self.told.refused(str(error))
            else:
                await self._while_ready(transport, protocol)
                pause_s = first_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            pause_s = min(2 * pause_s, longest_s)

    @property
    def _host(self) -> str:
        host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _dial(self) -> "tuple[asyncio.Transport, _Dialled]":
        """A connection whose handshake is through.

        Raises OSError, TimeoutError, FrameError or HandshakeRefused.
        """
        transport, protocol = await self._dialling.dial(
            self._resolve,
            lambda: _Dialled(self._desk, self._peer, self._patience),
            self._limited,
        )
        try:
            async with asyncio.timeout(self._patience.silence_s):
                await protocol.ready
        except BaseException:
            transport.abort()
            raise
        return transport, protocol

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        """For as long as a call may go without an answer."""
        try:
            async with asyncio.timeout(self._patience.dial_s) as self._connecting:
                yield
        finally:
            self._connecting = None

    async def _resolve(self) -> Address:
        """One of the addresses of the peer's name, each in its turn.

        A lookup cannot be ended, and may take much longer than an attempt: there is one at most.
        """
        host, port = self._address
        with suppress(ValueError):
            ipaddress.ip_address(host)
            return host, port
        if self._lookup is None:
            self._lookup = asyncio.ensure_future(self._look_up())
        lookup = self._lookup
        try:
            found = await asyncio.shield(lookup)
        except TimeoutError:
            raise
        except OSError as error:
            raise OSError(f"the name does not resolve: {error}") from None
        finally:
            if lookup.done():
                self._lookup = None
        self._attempt += 1
        address = found[self._attempt % len(found)][4]
        return str(address[0]), port

    async def _look_up(self) -> Any:
        host, port = self._address
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    async def _while_ready(self, transport: asyncio.Transport, protocol: "_Dialled") -> None:
        """Until the link is gone."""
        now_s = asyncio.get_running_loop().time()
        self.transport, self._protocol = transport, protocol
        self.told.ready(now_s)
        if protocol.founding_shown != _founding(self._desk.hello(self._peer)):
            # Failing schedule otherwise: this node meets its last member while the handshake is
            # under way, the peer never sees the complete roster, and the cluster never forms.
            transport.close()
        else:
            self._reached(self._peer)
        improving = None
        if self._dialling.both and protocol.names is None:
            improving = asyncio.get_running_loop().create_task(self._improve())
        try:
            await protocol.closed
        finally:
            if improving is not None:
                improving.cancel()
            self.transport = self._protocol = None
            self._outbox.clear()
            transport.abort()
        self.told.broke(asyncio.get_running_loop().time(), protocol.cause)

    async def _improve(self) -> None:
        """Give the plain link up once the peer speaks TLS."""
        while True:
            await asyncio.sleep(TLS_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.silence_s):
                    if await self._dialling.speaks_tls(self._resolve, nullcontext):
                        self.drop("the peer speaks TLS by now")
                        return


def _founding(hello: Hello) -> tuple[object, ...]:
    """What other founders of the cluster must see before it can form."""
    return hello.roster, hello.formed


class _Dialled(asyncio.Protocol):
    """The dialling side: sends Hello, expects Hello, then sends, and hears pings."""

    def __init__(self, desk: Desk, peer: NodeId, patience: Patience) -> None:
        loop = asyncio.get_running_loop()
        self._desk = desk
        self._peer = peer
        self._patience = patience
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._loop = loop
        self.ready: asyncio.Future[None] = loop.create_future()
        # Nobody may wait for it any more: this node stops in the middle of a handshake.
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self.closed: asyncio.Future[None] = loop.create_future()
        self.founding_shown: tuple[object, ...] = ()
        self.heard_s = loop.time()
        self.peer_silence_s = 0.0
        self.cause = "the peer closed the link"
        self.names: tuple[NodeName, ...] | None = None
        """Of the peer's certificate; None without TLS."""

    @property
    def ping_s(self) -> float:
        """How often the peer must hear something."""
        return max(min(self._patience.silence_s, self.peer_silence_s) / PINGS, PING_S_MIN)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        give_up_after(transport, self._patience.silence_s)
        self.names = names_shown(transport)
        hello = self._desk.hello(self._peer)
        self.founding_shown = _founding(hello)
        cast("asyncio.Transport", transport).write(encode_frame(hello))

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._loop.time()
        try:
            for payload in self._reader.feed(data):
                if not self.ready.done():
                    self._on_answer(decode_hello(payload))
                elif payload:
                    raise FrameError("a message on a link that only this side sends on")
        except (FrameError, HandshakeRefused) as error:
            self._fail(error)

    def _on_answer(self, answer: Hello | Refusal) -> None:
        if isinstance(answer, Refusal):
            self._desk.refused_by(self._peer, self._believed(answer), self.heard_s)
            raise HandshakeRefused(f"refused by node {self._peer}: {answer.reason}")
        if answer.node != self._peer and answer.present is None:
            raise HandshakeRefused(
                f"node {answer.node} answers at the address of node {self._peer}"
            )
        self._desk.check(answer, self.names)
        if answer.node != self._peer:
            raise HandshakeRefused(
                f"node {answer.node} answers at the address of node {self._peer}"
            )
        self._desk.accepted_by(self._peer)
        self.peer_silence_s = answer.silence_ms / 1000
        self.ready.set_result(None)

    def _believed(self, refusal: Refusal) -> Refusal:
        """What ends a node is believed of nobody but the one that was dialled."""
        names = self.names
        if names is None or any(name.node == self._peer for name in names):
            return refusal
        return Refusal(refusal.reason, "", refusal.present)

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):
            # By TLS 1.3 the other end looks at our certificate when all is well from here.
            self._fail(HandshakeRefused(f"no TLS with node {self._peer}: {cause_of(exc)}"))
        if exc is not None and not self.ready.done():
            self.cause = str(exc)
        self._fail(ConnectionResetError(self.cause))
        if not self.closed.done():
            self.closed.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
        elif not self.closed.done():
            self.cause = str(error)
            self.closed.set_result(None)
