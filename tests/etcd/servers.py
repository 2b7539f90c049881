"""The two systems that are compared: a real etcd and a node of ours, each a process of its own."""

import contextlib
import tempfile
from pathlib import Path
from typing import Protocol

from proof.processes.etcd import EtcdCluster
from tests.etcd.exchange import Exchange
from tests.support.real_cluster import eventually, running_cluster

START_S = 30.0
"""For starts that take under two seconds on an idle machine."""


class Server(Protocol):
    """A running server with a client port."""

    name: str
    port: int

    def stop(self) -> None:
        """End the process and remove its files."""


class Etcd:
    """One etcd with its defaults, but for two that no answer shows: nothing is synced to disk, and
    passwords are hashed with the least work."""

    def __init__(self, name: str = "etcd") -> None:
        self.name = name
        with contextlib.ExitStack() as undo:
            home = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="etcd-test-")))
            cluster = undo.enter_context(
                EtcdCluster(
                    1, home, ["--unsafe-no-fsync", "--bcrypt-cost", "4", "--log-level", "error"]
                )
            )
            node = cluster.nodes[1]
            self.port = node.client_port
            cluster.start()

            def ready() -> bool:
                assert node.running, f"etcd ended by itself:\n{node.log()[-3000:]}"
                return _says(self.port, "/health", b'"health":"true"')

            eventually(ready, "etcd is ready", START_S)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """See Server."""
        self._undo.close()


class Ours:
    """A cluster of one node: `kvstore serve` with its defaults."""

    def __init__(self, name: str = "ours") -> None:
        self.name = name
        with contextlib.ExitStack() as undo:
            self._cluster = undo.enter_context(running_cluster(1))
            self.port = self._cluster.nodes[1].client_port
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """See Server. Raises AssertionError if the node ended by itself or logged an exception."""
        log, running = self._cluster.log(1), self._cluster.running(1)
        self._undo.close()
        assert running, f"the node ended by itself:\n{log[-3000:]}"
        assert "Traceback" not in log, f"the node logged an exception:\n{log[-6000:]}"


def _says(port: int, path: str, text: bytes) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(Exchange(port)) as exchange:
        return text in exchange.call("GET", path).body
    return False
