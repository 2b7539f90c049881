"""Networks that nodes live in, and control of the links between them."""

from typing import Protocol

from kvstore_cli.launcher.held_ports import HeldPlaces, HeldPort
from kvstore_cli.launcher.node_cluster import NodePlaces
from proof.processes.links import Links

__all__ = ["HeldPlaces", "HeldPort", "NetworkUnavailable", "NodeNetwork"]


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
