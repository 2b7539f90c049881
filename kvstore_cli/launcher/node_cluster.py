"""A cluster of server processes on this machine: started, killed, paused and stopped together."""

import asyncio
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from kvstore_cli.launcher.node_process import (
    POLL_S,
    PROGRAM,
    ServerProcess,
    clean_environment,
    serve_command,
)

HOST = "127.0.0.1"
STOP_S_MAX = 20.0


class NodePlaces(Protocol):
    """Where the nodes of a cluster live and listen, and how they reach each other."""

    def prefix(self, node: int) -> list[str]:
        """The words before the node's command that put it into its place."""

    def listen_client(self, node: int) -> str:
        """`host:port` where the node serves clients; reachable from here."""

    def listen_peer(self, node: int) -> str:
        """`host:port` where the node listens for its peers."""

    def peer_address(self, dialler: int, node: int) -> str:
        """`host:port` at which `dialler` reaches `node`; its own address if they are the same."""


class LoopbackPlaces:
    """Nodes on the loopback address, with given ports for clients and for peers."""

    def __init__(self, ports: Mapping[int, tuple[int, int]]) -> None:
        self.ports = dict(ports)

    def prefix(self, node: int) -> list[str]:
        """None: nodes live in this process's own network."""
        return []

    def listen_client(self, node: int) -> str:
        """The first port."""
        return f"{HOST}:{self.ports[node][0]}"

    def listen_peer(self, node: int) -> str:
        """The second port."""
        return f"{HOST}:{self.ports[node][1]}"

    def peer_address(self, dialler: int, node: int) -> str:
        """The same for all."""
        return self.listen_peer(node)


class ServerCluster:
    """Servers by their numbers. A context manager: leaving it ends every process."""

    def __init__(self, nodes: Iterable[ServerProcess]) -> None:
        self.nodes = {node.number: node for node in nodes}
        self.ended: list[str] = []
        """What went wrong with processes: those that ended by themselves or did not stop."""

    @property
    def numbers(self) -> list[int]:
        """All nodes."""
        return list(self.nodes)

    def start(self, numbers: Iterable[int] | None = None) -> None:
        """Start these nodes (default: all) unless they run."""
        self.look()
        for node in self._chosen(numbers):
            node.start()

    def kill(self, numbers: Iterable[int] | None = None) -> None:
        """SIGKILL to these nodes (default: all), all of them before waiting for any."""
        chosen = self._chosen(numbers)
        for node in chosen:
            node.signal(signal.SIGKILL)
        for node in chosen:
            node.wait(STOP_S_MAX)

    def pause(self, number: int) -> None:
        """SIGSTOP: the process stands still, and its connections stay."""
        self.nodes[number].signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """SIGCONT."""
        self.nodes[number].signal(signal.SIGCONT)

    def stop(self, numbers: Iterable[int] | None = None) -> list[int]:
        """SIGTERM to these (default: all), and wait for their clean ends.

        Those that did not end in time; they are killed, and noted in `ended`.
        """
        chosen, deadline = self._terminate(numbers)
        while any(node.running for node in chosen) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return self._kill_late(chosen)

    async def stop_meanwhile(self, numbers: Iterable[int] | None = None) -> list[int]:
        """The same for callers whose event loop must go on."""
        chosen, deadline = self._terminate(numbers)
        while any(node.running for node in chosen) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        return self._kill_late(chosen)

    def look(self) -> None:
        """Note in `ended` every node that ended by itself since the last look."""
        for node in self.nodes.values():
            if node.wanted and node.exit_code is not None:
                node.wanted = False
                self.ended.append(
                    f"node {node.number} ended by itself with {node.exit_code}:\n{node.tail()}"
                )

    def close(self) -> None:
        """End every process, whatever its state."""
        self.look()
        self.kill()

    def __enter__(self) -> Self:
        """The cluster itself; nothing is started."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process, whatever happened."""
        self.close()

    def _chosen(self, numbers: Iterable[int] | None) -> list[ServerProcess]:
        return [self.nodes[number] for number in (self.numbers if numbers is None else numbers)]

    def _terminate(self, numbers: Iterable[int] | None) -> tuple[list[ServerProcess], float]:
        chosen = self._chosen(numbers)
        for node in chosen:
            node.signal(signal.SIGTERM)
        return chosen, time.monotonic() + STOP_S_MAX

    def _kill_late(self, chosen: list[ServerProcess]) -> list[int]:
        late = [node.number for node in chosen if node.running]
        if late:
            self.ended.append(f"nodes {late} did not stop within {STOP_S_MAX:g} s of SIGTERM")
        # Also those that have ended: their pipes are closed.
        self.kill(node.number for node in chosen)
        return late


class NodeCluster(ServerCluster):
    """`kvstore serve` processes with data and logs in `directory`.

    They end when this process does, however that happens: their standard input closes.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        places: NodePlaces,
        directory: Path,
        *,
        settings: Mapping[str, object] | None = None,
        program: Sequence[str] = PROGRAM,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`settings`: of `serve`, by the names of their flags. `program` takes the arguments of
        `kvstore`. `environment`: ours without settings of nodes if it is not given."""
        self.places = places
        nodes = []
        for number in numbers:
            listen = places.listen_client(number), places.listen_peer(number)
            peers = {other: places.peer_address(number, other) for other in numbers}
            data_dir = directory / f"node-{number}"
            command = serve_command(program, number, peers, listen, data_dir, settings or {})
            node = ServerProcess(
                number,
                listen,
                data_dir,
                [*places.prefix(number), *command],
                clean_environment() if environment is None else environment,
            )
            node.secure = bool({"tls", "cert-file"} & (settings or {}).keys())
            nodes.append(node)
        super().__init__(nodes)
