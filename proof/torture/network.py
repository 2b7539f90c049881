"""What a cluster needs to know of the network that its nodes live in."""

import socket
from typing import Protocol

from proof.torture.links import Links

HOST = "127.0.0.1"


class NodeNetwork(Protocol):
    """Addresses of the nodes and control of the links between them."""

    name: str
    links: Links

    def prefix(self, node: int) -> list[str]:
        """The words before the node's command that put it into its place."""

    def listen_client(self, node: int) -> str:
        """`host:port` where the node serves clients; reachable from here."""

    def listen_peer(self, node: int) -> str:
        """`host:port` where the node listens for its peers."""

    def peer_address(self, dialler: int, node: int) -> str:
        """`host:port` at which `dialler` reaches `node`."""

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
