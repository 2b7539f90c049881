"""Networks that nodes live in, and control of the links between them."""

import socket
from collections.abc import Iterable
from typing import Protocol

from kvstore_cli.node_cluster import HOST, LoopbackPlaces, NodePlaces
from proof.processes.links import Links


class NodeNetwork(NodePlaces, Protocol):
    """A network that is made for one cluster, with links that can fail."""

    name: str
    links: Links
    of_packets: bool
    """Whether what passes are packets, which can vanish without a trace."""

    @property
    def lost(self) -> int:
        """Packets that vanished, ever; 0 where there are none."""

    async def start(self) -> None:
        """Make it. Raises OSError or NetworkUnavailable."""

    async def close(self) -> None:
        """Remove everything that was made. May be called at any time, and twice."""


class NetworkUnavailable(Exception):
    """This machine or this user cannot have such a network; the text says why."""


class HeldPort:
    """A free TCP port of the loopback address that nobody else is given while it is held.

    The socket is bound and does not listen. A listener with SO_REUSEADDR, as nodes and proxies
    have, can take the port meanwhile.
    """

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((HOST, 0))
        self.number: int = self.socket.getsockname()[1]

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{HOST}:{self.number}"

    def close(self) -> None:
        """Let others have it."""
        self.socket.close()


class HeldPlaces(LoopbackPlaces):
    """Nodes on ports of the loopback address that are held for them, also while they are down."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._held = {number: (HeldPort(), HeldPort()) for number in numbers}
        super().__init__({n: (c.number, p.number) for n, (c, p) in self._held.items()})

    def close(self) -> None:
        """Let others have the ports."""
        for client, peer in self._held.values():
            client.close()
            peer.close()
