"""Free ports of the loopback address, held so that nobody else is given them."""

import socket
from collections.abc import Iterable

from kvstore_cli.launcher.node_cluster import HOST, LoopbackPlaces


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
