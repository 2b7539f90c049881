"""The links that peers dial to this node, which it only receives on; and strangers at the door.

Until a Hello was accepted a connection is a stranger's: it may send a few kB, for a short time, and
there may be a few of its kind from each address.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from kvstore.certificates.node_names import NodeName, names_shown
from kvstore.peers.desk import Desk
from kvstore.peers.frames import (
    HELLO_BYTES_MAX,
    PING,
    FrameError,
    FrameReader,
    PeerMessage,
    Refusal,
    decode_hello,
    decode_message,
    encode_frame,
)
from kvstore.peers.patience import Patience
from kvstore.peers.refusals import HandshakeRefused
from kvstore.peers.sockets import give_up_after
from kvstore.peers.told import StrangersTold
from paxos.ballot import NodeId
from paxos.errors import PeerError

STRANGERS_PER_ADDRESS = 8
"""And two for each member: all of them may live at one address."""
STRANGERS_MAX = 256


class Inputs(Protocol):
    """Who takes what comes over the links."""

    def on_message(self, sender: NodeId, message: PeerMessage) -> None:
        """A message of a member of the formed cluster. Raises PeerError if no correct member sends
        it; then the link is dropped."""

    def on_input(self) -> None:
        """A group of messages is through."""

    def on_link(self, peer: NodeId, up: bool) -> None:
        """The peer's link to here came or went."""

    def on_reached(self, peer: NodeId) -> None:
        """From now on messages to `peer` leave."""


class Door:
    """All connections that others made to this node. `heard_anew(peer)` is called when a peer has
    made a new one."""

    def __init__(
        self,
        desk: Desk,
        inputs: Inputs,
        told: StrangersTold,
        patience: Patience,
        frame_bytes_max: int,
        heard_anew: Callable[[NodeId], None],
    ) -> None:
        self.desk = desk
        self.inputs = inputs
        self.told = told
        self.patience = patience
        self.frame_bytes_max = frame_bytes_max
        self.heard_anew = heard_anew
        self._strangers: dict[Incoming, str] = {}
        self._known: dict[Incoming, None] = {}

    def close(self) -> None:
        for incoming in [*self._strangers, *self._known]:
            incoming.close()

    def watch(self, now_s: float) -> None:
        """Say that this node is there, and give up links on which nothing is heard."""
        for incoming in list(self._known):
            incoming.watch(now_s)
        self.told.look(now_s)

    def excuse(self, now_s: float) -> None:
        """This program was not running, so it could not hear."""
        for incoming in self._known:
            incoming.heard_s = now_s

    def expel(self, peer: NodeId) -> None:
        """`peer` is no member any more: its links go, and it hears so when it dials again."""
        for incoming in [i for i in self._known if i.peer == peer]:
            incoming.close()

    def alive(self, peer: NodeId, now_s: float) -> bool:
        """Whether a link of `peer` is there on which it was heard lately."""
        heard_s = self.heard_s(peer)
        return heard_s is not None and now_s - heard_s < self.patience.silence_s

    def heard_s(self, peer: NodeId) -> float | None:
        """When `peer` was last heard on a link that is there."""
        return max((i.heard_s for i in self._known if i.peer == peer), default=None)

    # -- what a connection tells ------------------------------------------------------------

    def knocked(self, stranger: "Incoming", address: str) -> bool:
        """A connection was made; whether it may stay."""
        here = sum(other == address for other in self._strangers.values())
        self._strangers[stranger] = address
        return here < self.strangers_per_address and len(self._strangers) <= STRANGERS_MAX

    @property
    def strangers_per_address(self) -> int:
        """All members may live at one."""
        return STRANGERS_PER_ADDRESS + 2 * (len(self.desk.membership.peers) + 1)

    @property
    def plain(self) -> int:
        """How many links there are without TLS."""
        return sum(incoming.names is None for incoming in self._known)

    def entered(self, incoming: "Incoming", peer: NodeId) -> None:
        """Its handshake is through. If the peer dials anew, its old link is dead to it."""
        self._strangers.pop(incoming, None)
        for other in [i for i in self._known if i.peer == peer]:
            del self._known[other]
            other.close()
        self._known[incoming] = None
        self.heard_anew(peer)

    def left(self, incoming: "Incoming") -> bool:
        """It is closed; whether it was its peer's link."""
        self._strangers.pop(incoming, None)
        return self._known.pop(incoming, self) is None


class Incoming(asyncio.Protocol):
    """The accepting side: expects Hello, answers Hello or Refusal, then receives, and pings."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.TimerHandle | None = None
        self._pings = False
        self.peer: NodeId | None = None
        self.names: tuple[NodeName, ...] | None = None
        """That its certificate shows; None without TLS."""
        self.heard_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        silence_s = self._door.patience.silence_s
        give_up_after(transport, silence_s)
        self.names = names_shown(transport)
        name = transport.get_extra_info("peername")
        if not self._door.knocked(self, str(name[0]) if name else ""):
            self._refuse("too many connections that have shown no handshake")
            return
        self._handshake = self._loop.call_later(silence_s, self._late)

    def _late(self) -> None:
        self._refuse("no handshake in time")

    def _refuse(self, reason: str) -> None:
        self._door.told.told(self._loop.time(), "link refused", reason)
        self.close()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        door = self._door
        self.heard_s = self._loop.time()
        try:
            for payload in self._reader.feed(data):
                if self.peer is None:
                    self._on_hello(payload)
                elif payload and door.desk.membership.formed:
                    door.inputs.on_message(self.peer, decode_message(payload))
        except HandshakeRefused as error:
            refusal = Refusal(str(error), error.kind, error.present)
            self._transport.write(encode_frame(refusal))
            self._refuse(str(error))
        except (FrameError, PeerError) as error:
            peer = self.peer or "unknown"
            door.told.told(self.heard_s, "link dropped", str(error), peer=peer)
            self.close()
        else:
            door.inputs.on_input()

    def _on_hello(self, payload: bytes) -> None:
        assert self._transport is not None
        hello = decode_hello(payload)
        if isinstance(hello, Refusal):
            raise FrameError("a refusal instead of a handshake")
        door = self._door
        peer = door.desk.check(hello, self.names)
        self._transport.write(encode_frame(door.desk.hello(peer)))
        self.peer = peer
        self._pings = hello.silence_ms > 0
        self._reader.bytes_max = door.frame_bytes_max
        self._end_handshake()
        door.entered(self, peer)
        door.inputs.on_link(peer, True)

    def watch(self, now_s: float) -> None:
        """Once the handshake is through."""
        transport = self._transport
        if not self._pings or transport is None or transport.is_closing():
            return
        if now_s - self.heard_s >= self._door.patience.silence_s:
            transport.abort()
        elif transport.get_write_buffer_size() < HELLO_BYTES_MAX:
            transport.write(PING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_handshake()
        if self._door.left(self) and self.peer is not None:
            self._door.inputs.on_link(self.peer, False)

    def _end_handshake(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
