"""The network between the nodes of a demo: each node's cable to the others can be pulled.

Nodes are dialled at a port of this process, which passes everything on to the port where the node
really listens. What a dialler is, its first frame says: it shows where it is reached itself. So the
nodes are ordinary ones, and nothing in `kvstore serve` can be told to lose a message.

A pulled cable swallows: connections stay, and nothing arrives, as with a real one. What has lost
a piece is closed once the cable is back.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import cast

from kvstore.config import format_address
from kvstore.peers.frames import HELLO_BYTES_MAX, FrameError, FrameReader, Hello, decode_hello
from kvstore_cli.launcher.node_cluster import HOST, LoopbackPlaces

HELLO_S_MAX = 10.0
"""A connection that has not said by then who dials is closed."""


class DemoNetwork(LoopbackPlaces):
    """Nodes on the loopback address. `ports`: of each node for clients and for peers; `behind`:
    where it really listens for peers."""

    def __init__(self, ports: Mapping[int, tuple[int, int]], behind: Mapping[int, int]) -> None:
        super().__init__(ports)
        self._behind = dict(behind)
        self._at = {super(DemoNetwork, self).listen_peer(number): number for number in ports}
        self._servers: list[asyncio.Server] = []
        self._cables: set[_Cable] = set()
        self.pulled: set[int] = set()
        """Nodes that are cut off from all others."""

    def listen_peer(self, node: int) -> str:
        """Behind its port for peers."""
        return format_address((HOST, self._behind[node]))

    def peer_address(self, dialler: int, node: int) -> str:
        """Its port for peers, the same for all."""
        return format_address((HOST, self.ports[node][1]))

    async def start(self) -> None:
        """Accept what nodes dial. Raises OSError."""
        loop = asyncio.get_running_loop()
        for number, (_, port) in self.ports.items():
            accept = partial(self._cable, number)
            self._servers.append(await loop.create_server(accept, HOST, port))

    async def close(self) -> None:
        """End all connections. Idempotent."""
        for server in self._servers:
            server.close()
        for cable in list(self._cables):
            cable.end()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def pull(self, number: int) -> None:
        """Let nothing to or from this node through."""
        self.pulled.add(number)

    def plug(self, number: int) -> None:
        """Its cable is back."""
        self.pulled.discard(number)
        for cable in list(self._cables):
            if cable.holed and number in (cable.dialler, cable.target):
                cable.end()

    def target_port(self, number: int) -> int:
        """Where the node listens."""
        return self._behind[number]

    def who_is_at(self, address: str) -> int | None:
        """The node that others reach at this address."""
        return self._at.get(address)

    def ended(self, cable: "_Cable") -> None:
        """It carries nothing any more."""
        self._cables.discard(cable)

    def _cable(self, target: int) -> "_End":
        cable = _Cable(self, target)
        self._cables.add(cable)
        return cable.accepted


class _Cable:
    """One connection that passes through: what was accepted, and what was dialled for it."""

    def __init__(self, network: DemoNetwork, target: int) -> None:
        self._network = network
        self.target = target
        self.dialler: int | None = None
        self.holed = False
        self.accepted = _End(self)
        self._dialled = _End(self)
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._waiting = bytearray()
        self._connecting: asyncio.Task[None] | None = None
        self._late = asyncio.get_running_loop().call_later(HELLO_S_MAX, self._check_dialler)

    def other(self, end: "_End") -> "_End":
        return self._dialled if end is self.accepted else self.accepted

    def carry(self, end: "_End", data: bytes) -> None:
        """What came from one end."""
        if end is self.accepted and self.dialler is None:
            if not self._identified(data):
                return
            data = bytes(self._waiting)
        if self._network.pulled & {self.dialler, self.target}:
            self.holed = True
            return
        there = self.other(end).transport
        if there is not None:
            there.write(data)
            return
        self._waiting = bytearray(data)
        if self._connecting is None and end.transport is not None:
            end.transport.pause_reading()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def _identified(self, data: bytes) -> bool:
        """Whether it is known who dials. What is no handshake of ours ends it."""
        self._waiting += data
        try:
            for payload in self._reader.feed(data):
                hello = decode_hello(payload)
                if isinstance(hello, Hello):
                    self.dialler = self._network.who_is_at(hello.peer_address)
                break
            else:
                return False
        except FrameError:
            pass
        if self.dialler is None:
            self.end()
        return self.dialler is not None

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: self._dialled, HOST, self._network.target_port(self.target)
            )
        except OSError:
            self.end()  # the node is down
            return
        if self._dialled.transport is not None and self.accepted.transport is not None:
            self._dialled.transport.write(bytes(self._waiting))
            self.accepted.transport.resume_reading()

    def _check_dialler(self) -> None:
        if self.dialler is None:
            self.end()

    def end(self) -> None:
        """Both ends are closed. Idempotent."""
        self._late.cancel()
        self._network.ended(self)
        if self._connecting is not None:
            self._connecting.cancel()
        for end in (self.accepted, self._dialled):
            if end.transport is not None:
                end.transport.abort()


class _End(asyncio.Protocol):
    """One end of a cable. Whoever takes nothing is sent nothing more from the other end."""

    def __init__(self, cable: _Cable) -> None:
        self._cable = cable
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._cable.carry(self, data)

    def pause_writing(self) -> None:
        if (there := self._cable.other(self).transport) is not None:
            with suppress(RuntimeError):
                there.pause_reading()

    def resume_writing(self) -> None:
        if (there := self._cable.other(self).transport) is not None:
            with suppress(RuntimeError):
                there.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._cable.end()
