"""Links between members over TCP. Each node dials every other, and sends on the link it dialled.

Losing messages is allowed: Paxos sends again. So a link that is down or full drops what it is
given, memory stays bounded, and nothing waits.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from kvstore.config import Address, Config
from kvstore.event_log import EventLog
from kvstore.peers.frames import (
    FrameError,
    FrameReader,
    Hello,
    PeerMessage,
    Refusal,
    decode_hello,
    decode_message,
    encode_frame,
)
from kvstore.peers.membership import HandshakeRefused, Membership
from paxos.ballot import NodeId
from paxos.errors import PeerError

HELLO_BYTES_MAX = 64 << 10
HANDSHAKE_TIMEOUT_S = 5.0
REFUSALS_MAX = 64
BACK_OFF_S = (0.02, 0.5)
"""First and longest pause between two attempts to dial."""


class Inputs(Protocol):
    """Who takes what comes over the links."""

    def on_message(self, sender: NodeId, message: PeerMessage) -> None:
        """A message of a member of the formed cluster. Raises PeerError if no correct member sends
        it; then the link is dropped."""

    def on_input(self) -> None:
        """A group of messages is through."""

    def on_link(self, peer: NodeId, up: bool) -> None:
        """The peer's link to here came or went."""


@dataclass(slots=True)
class _Link:
    """The outgoing side to one peer."""

    address: Address
    transport: asyncio.Transport | None = None
    outbox: list[bytes] = field(default_factory=list)
    last_refusal: str = ""
    dropped: int = 0


class PeerTransport:
    """All links of one node.

    `sent(to, message)` is called before each message is queued or dropped. `failed(reason)` is
    called if what a handshake showed cannot be saved: then this node must stop.
    """

    def __init__(
        self,
        config: Config,
        membership: Membership,
        log: EventLog,
        *,
        sent: Callable[[NodeId, PeerMessage], None],
        failed: Callable[[str], None],
    ) -> None:
        self.config = config
        self.membership = membership
        self.log = log
        self._sent = sent
        self._failed = failed
        self._links = {
            peer: _Link(address)
            for peer, address in config.members.items()
            if peer != config.node_id
        }
        self._accepted: dict[_Incoming, None] = {}
        self._server: asyncio.Server | None = None
        self._dialling: list[asyncio.Task[None]] = []
        self._last: tuple[PeerMessage, bytes] | None = None
        self._refusals: set[str] = set()

    async def start(self, inputs: Inputs) -> None:
        """Listen, and dial every peer for as long as this runs; what comes goes to `inputs`.

        Raises OSError if the address is taken.
        """
        loop = asyncio.get_running_loop()
        host, port = self.config.listen_peer
        self._server = await loop.create_server(lambda: _Incoming(self, inputs), host, port)
        self._dialling = [
            loop.create_task(self._dial_for_ever(peer, link)) for peer, link in self._links.items()
        ]

    async def stop(self) -> None:
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        for link in self._links.values():
            if link.transport is not None:
                link.transport.close()
        if self._server is not None:
            self._server.close()
        for incoming in list(self._accepted):
            incoming.close()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """They end by `stop` only."""
        return self._dialling

    def connected(self, peer: NodeId) -> bool:
        """Whether messages to `peer` leave at all."""
        link = self._links.get(peer)
        return link is not None and link.transport is not None

    def dropped(self) -> int:
        """How many messages were dropped because a link was full."""
        return sum(link.dropped for link in self._links.values())

    # -- sending ----------------------------------------------------------------------------

    def send(self, to: NodeId, message: PeerMessage) -> None:
        """Queue `message`; it leaves with the next `flush`, or is dropped."""
        self._sent(to, message)
        link = self._links.get(to)
        if link is None or link.transport is None:
            return
        if self._last is None or self._last[0] is not message:
            # A broadcast is the same object again: it is encoded once.
            self._last = (message, encode_frame(message))
        link.outbox.append(self._last[1])

    def flush(self) -> None:
        """Hand what was queued to the sockets: one write for each peer."""
        self._last = None
        for link in self._links.values():
            if not link.outbox:
                continue
            # uvloop raises on a closed transport, which `transport` may be for one more turn.
            if link.transport is not None and not link.transport.is_closing():
                if link.transport.get_write_buffer_size() > self.config.peer_buffer_bytes_max:
                    link.dropped += len(link.outbox)
                else:
                    link.transport.write(b"".join(link.outbox))
            link.outbox.clear()

    # -- dialling ---------------------------------------------------------------------------

    async def _dial_for_ever(self, peer: NodeId, link: _Link) -> None:
        pause_s = BACK_OFF_S[0]
        while True:
            try:
                if await self._dial_once(peer, link):
                    pause_s = BACK_OFF_S[0]
            except (OSError, TimeoutError):
                pass
            except (FrameError, HandshakeRefused) as error:
                self.refused(peer, str(error), link)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACK_OFF_S[1])

    async def _dial_once(self, peer: NodeId, link: _Link) -> bool:
        """One connection, for as long as it lasts; whether it was ever ready."""
        loop = asyncio.get_running_loop()
        host, port = link.address
        outgoing = _Outgoing(self, peer)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            transport, _ = await loop.create_connection(lambda: outgoing, host, port)
            try:
                await outgoing.ready
            except BaseException:
                transport.abort()
                raise
        link.transport = transport
        link.last_refusal = ""
        if outgoing.shown != self.membership.hello(peer):
            # Failing schedule otherwise: this node meets its last member while the handshake is
            # under way, the peer never sees the complete roster, and the cluster never forms.
            transport.close()
        try:
            await outgoing.closed
        finally:
            link.transport = None
            link.outbox.clear()
            transport.abort()
        return True

    def refused(self, peer: NodeId, reason: str, link: _Link | None = None) -> None:
        """One log line for each new reason, not for each attempt."""
        if link is not None:
            if link.last_refusal == reason:
                return
            link.last_refusal = reason
        self.log.event("link refused", peer=peer, reason=reason)

    def refused_incoming(self, reason: str) -> None:
        """The same for those who dial here; the memory of reasons is bounded."""
        if reason not in self._refusals:
            if len(self._refusals) >= REFUSALS_MAX:
                self._refusals.clear()
            self._refusals.add(reason)
            self.log.event("link refused", reason=reason)

    # -- handshakes -------------------------------------------------------------------------

    def check(self, hello: Hello) -> NodeId:
        """Who it is. Raises HandshakeRefused. When this node has more to show than before, it drops
        its links, and shows it to every peer as it dials them anew."""
        formed = self.membership.formed
        try:
            more_to_show = self.membership.check(hello)
        except OSError as error:
            # What was not saved must not count: the node stops, and answers nothing any more.
            self._failed(f"writing identity.json failed: {error}")
            raise HandshakeRefused("this node's disk has failed") from error
        if more_to_show:
            if self.membership.formed and not formed:
                self.log.event("formed", cluster=self.membership.cluster_id)
            asyncio.get_running_loop().call_soon(self._drop_links)
        return hello.node

    def _drop_links(self) -> None:
        for link in self._links.values():
            if link.transport is not None:
                link.transport.close()

    def accepted(self, incoming: "_Incoming", present: bool) -> None:
        if present:
            self._accepted[incoming] = None
        else:
            self._accepted.pop(incoming, None)

    @property
    def crowded(self) -> bool:
        """Whether more strangers are connected than a cluster of this size can explain."""
        return len(self._accepted) > 16 + 4 * len(self._links)

    def replace_older(self, newest: "_Incoming") -> None:
        """A peer dials anew because its old link is dead to it: close this end too."""
        for incoming in list(self._accepted):
            if incoming is not newest and incoming.peer == newest.peer:
                incoming.peer = None
                incoming.close()

    def has_incoming(self, peer: NodeId) -> bool:
        return any(incoming.peer == peer for incoming in self._accepted)


class _Outgoing(asyncio.Protocol):
    """The dialling side: sends Hello, expects Hello, then only sends."""

    def __init__(self, owner: PeerTransport, peer: NodeId) -> None:
        loop = asyncio.get_running_loop()
        self._owner = owner
        self._peer = peer
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self.ready: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.shown: Hello | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.shown = self._owner.membership.hello(self._peer)
        cast("asyncio.Transport", transport).write(encode_frame(self.shown))

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                hello = decode_hello(payload)
                if isinstance(hello, Refusal):
                    self._owner.membership.refused_by[self._peer] = hello.reason
                    raise HandshakeRefused(f"refused by node {self._peer}: {hello.reason}")
                if self._owner.check(hello) != self._peer:
                    raise HandshakeRefused(
                        f"node {hello.node} answers at the address of node {self._peer}"
                    )
                self._owner.membership.refused_by.pop(self._peer, None)
                if not self.ready.done():
                    self.ready.set_result(None)
        except (FrameError, HandshakeRefused) as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("closed"))
        if not self.closed.done():
            self.closed.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
        elif not self.closed.done():
            self.closed.set_result(None)


class _Incoming(asyncio.Protocol):
    """The accepting side: expects Hello, answers Hello or Refusal, then only receives."""

    def __init__(self, owner: PeerTransport, inputs: Inputs) -> None:
        self._owner = owner
        self._inputs = inputs
        self._reader = FrameReader(owner.config.frame_bytes_max)
        self._transport: asyncio.Transport | None = None
        self.peer: NodeId | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._owner.accepted(self, True)
        loop = asyncio.get_running_loop()
        if self._owner.crowded:
            self.close()
        self._handshake = loop.call_later(HANDSHAKE_TIMEOUT_S, self._handshake_late)

    def _handshake_late(self) -> None:
        if self.peer is None:
            self.close()

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for payload in self._reader.feed(data):
                if self.peer is None:
                    self._on_hello(payload)
                elif owner.membership.formed:
                    self._inputs.on_message(self.peer, decode_message(payload))
        except HandshakeRefused as error:
            owner.refused_incoming(str(error))
            if self._transport is not None:
                self._transport.write(encode_frame(Refusal(str(error))))
            self.close()
        except (FrameError, PeerError) as error:
            owner.log.event("link dropped", peer=self.peer or "unknown", reason=error)
            self.close()
        else:
            self._inputs.on_input()

    def _on_hello(self, payload: bytes) -> None:
        assert self._transport is not None
        hello = decode_hello(payload)
        if isinstance(hello, Refusal):
            raise FrameError("a refusal instead of a handshake")
        self.peer = self._owner.check(hello)
        self._owner.replace_older(self)
        self._handshake.cancel()
        self._transport.write(encode_frame(self._owner.membership.hello(self.peer)))
        self._inputs.on_link(self.peer, True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handshake.cancel()
        self._owner.accepted(self, False)
        if self.peer is not None and not self._owner.has_incoming(self.peer):
            self._inputs.on_link(self.peer, False)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
