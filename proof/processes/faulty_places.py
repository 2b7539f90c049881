"""What nodes live in besides a network: a disk, a clock, a log's reader, descriptors. All can fail.

`FaultyPlaces` is a place for nodes like the network that it wraps: each node is started through a
few words that point its standard error at a pipe of ours, bound its file descriptors, and load
what can hang its disk and step its clock.
"""

from collections.abc import Iterable
from pathlib import Path

from kvstore_cli.launcher.node_cluster import NodePlaces
from proof.processes import preload
from proof.processes.log_pipe import LogPipe
from proof.processes.preload import NodeGrip, PreloadUnavailable

DESCRIPTORS = 256
"""Of each node: few, so that clients can take them all."""
# A pipe without a reader lets its writer wait for one here, before the node begins.
_SCRIPT = 'ulimit -n "$1" && exec 2>"$0" && shift && exec "$@"'


class FaultyPlaces:
    """Of nodes in `network`, with what it needs in `directory`. Belongs to one event loop."""

    def __init__(self, network: NodePlaces, nodes: Iterable[int], directory: Path) -> None:
        """Nothing is made yet."""
        self._network = network
        self._nodes = list(nodes)
        self._directory = directory
        self.grips: dict[int, NodeGrip] = {}
        self.why_no_grips = ""
        """Why disks do not hang here and clocks do not step; empty if they do."""
        self.pipes: dict[int, LogPipe] = {}

    def start(self) -> None:
        """Make the pipes, and the grips if they can be had. Raises OSError."""
        for node in self._nodes:
            log_file = self._directory / f"node-{node}.log"
            pipe = self.pipes[node] = LogPipe(self._directory / f"stderr-{node}", log_file)
            pipe.read()
        try:
            library = preload.build(self._directory)
            for node in self._nodes:
                self.grips[node] = NodeGrip(library, self._directory / f"grip-{node}")
        except PreloadUnavailable as error:
            self.why_no_grips = str(error)

    def close(self) -> None:
        """Undo all, and remove the files that were made. The nodes have ended."""
        for grip in self.grips.values():
            grip.close()
        for pipe in self.pipes.values():
            pipe.leave()
            pipe.fifo.unlink(missing_ok=True)
        for node in self.grips:
            (self._directory / f"grip-{node}").unlink(missing_ok=True)
        (self._directory / "preload.so").unlink(missing_ok=True)
        self.grips.clear()
        self.pipes.clear()

    def heal(self) -> None:
        """End what hangs, set the clocks right, read the logs."""
        for grip in self.grips.values():
            grip.hang(False)
            grip.step(0.0)
        for pipe in self.pipes.values():
            pipe.read()

    def drain(self) -> None:
        """Read what the nodes' logs hold now."""
        for pipe in self.pipes.values():
            pipe.drain()

    def prefix(self, node: int) -> list[str]:
        """Into the network's place first; every word replaces the process before it."""
        words = ["sh", "-c", _SCRIPT, str(self.pipes[node].fifo), str(DESCRIPTORS)]
        if node in self.grips:
            words += ["env", *(f"{k}={v}" for k, v in self.grips[node].variables.items())]
        return [*self._network.prefix(node), *words]

    def listen_client(self, node: int) -> str:
        """The network's."""
        return self._network.listen_client(node)

    def listen_peer(self, node: int) -> str:
        """The network's."""
        return self._network.listen_peer(node)

    def peer_address(self, dialler: int, node: int) -> str:
        """The network's."""
        return self._network.peer_address(dialler, node)
