"""Clusters on loopback behind one shape: start, wait, find the leader, read, end. Ours and etcd."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from benchmarks.clients.traffic import Dialect, EtcdDialect, OursDialect, request
from benchmarks.shared.probe import Unreachable, call
from kvstore_cli.launcher.node_cluster import NodeCluster, ServerCluster
from kvstore_cli.launcher.node_process import ServerProcess
from proof.processes.etcd import EtcdCluster, etcd_version
from proof.processes.network import HeldPlaces, HeldPort
from proof.processes.waiting import eventually

_ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.05
KEPT_REVISIONS = 1000

T = TypeVar("T")


class ClusterFailed(Exception):
    """A server ended by itself, or the cluster did not become ready."""


class BenchCluster(ABC):
    """Nodes of one system. A context manager: leaving it ends every process."""

    name: ClassVar[str]
    dialect: Dialect
    servers: ServerCluster
    held: Sequence[HeldPlaces | HeldPort] = ()
    """What keeps its ports from others."""

    @abstractmethod
    def __init__(self, directory: Path, size: int = 3) -> None:
        """Choose ports, and directories below `directory`; nothing is started yet."""

    @property
    def nodes(self) -> list[ServerProcess]:
        """All nodes, by their numbers."""
        return list(self.servers.nodes.values())

    @abstractmethod
    def version(self) -> str:
        """What is being measured, for the report."""

    @abstractmethod
    def ready(self, node: ServerProcess) -> bool:
        """Whether this node serves linearizable requests. Raises Unreachable."""

    @abstractmethod
    def leader(self) -> ServerProcess | None:
        """The node that leads now, as far as the nodes say. Raises Unreachable."""

    def prepare(self, keys: int) -> None:  # noqa: B027 (most need nothing)
        """Make ready for the first write of so many keys."""

    def compact(self) -> None:  # noqa: B027
        """Begin to give up old revisions now, where that does not happen by itself in time."""

    def read(self, node: ServerProcess, key: bytes) -> bytes | None:
        """The value under `key` as this node answers, None if there is none. Raises Unreachable."""
        status, body = call(node.client_port, self.dialect.get(key), timeout_s=10)
        if status not in (200, 404):
            raise Unreachable(f"port {node.client_port} answers {status}")
        return self.dialect.value_in(body) if status == 200 else None

    def follower(self) -> ServerProcess:
        """The first node that does not lead; the only one if it is alone."""
        leader = self.wait_leader()
        return next((node for node in self.nodes if node is not leader), leader)

    def start(self) -> None:
        """Run every node; a node that was ended before comes back with its data."""
        self.servers.start()

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once every node is ready and there is a leader. Raises ClusterFailed."""

        def serve() -> bool:
            with contextlib.suppress(Unreachable):
                return all(map(self.ready, self.nodes)) and self.leader() is not None
            return False

        self._await(serve, "ready", timeout_s)

    def wait_leader(self, timeout_s: float = 30.0) -> ServerProcess:
        """The leader, waiting through an election if there is one. Raises ClusterFailed."""

        def find() -> ServerProcess | None:
            with contextlib.suppress(Unreachable):
                return self.leader()
            return None

        found = self._await(find, "with a leader", timeout_s)
        assert found is not None
        return found

    def pids(self) -> list[int]:
        """Process ids of the nodes that were started."""
        return [node.pid for node in self.nodes if node.pid]

    def check_alive(self) -> None:
        """Raise ClusterFailed when a server has ended by itself."""
        self.servers.look()
        if self.servers.ended:
            raise ClusterFailed(f"{self.name}: {self.servers.ended[0]}")

    def kill(self) -> None:
        """kill -9 every node: the crash that the data must survive."""
        self.servers.kill()

    def stop(self) -> None:
        """SIGTERM every node, and kill those that do not end in time."""
        self.servers.stop()

    def __enter__(self) -> Self:
        """The cluster itself; call `start`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """End every process, whatever happened, an interrupt during the stop included, and then
        give the ports back."""
        with contextlib.ExitStack() as stack:
            for held in self.held:
                stack.callback(held.close)
            stack.callback(self.servers.close)
            self.stop()

    def _await(self, condition: Callable[[], T], state: str, timeout_s: float) -> T:
        def look() -> T:
            self.check_alive()
            return condition()

        try:
            return eventually(look, state, timeout_s, _POLL_S)
        except TimeoutError:
            tails = "\n".join(node.tail() for node in self.nodes)
            raise ClusterFailed(f"{self.name} not {state} in {timeout_s} s:\n{tails}") from None


class OurBenchCluster(BenchCluster):
    """This project's server, run from the source tree by the interpreter that runs this."""

    name = "ours"
    dialect: Dialect = OursDialect()

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        profile: bool = False,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """`profile` runs each node under cProfile, which writes `profile_of` at a clean stop.

        `settings` of `serve`, by the names of their flags.
        """
        home = directory / self.name
        home.mkdir(parents=True)
        places = HeldPlaces(range(1, size + 1))
        self.held = [places]
        self.servers = NodeCluster(list(places.ports), places, home, settings=settings)
        for node in self.nodes if profile else ():
            watch = [sys.executable, "-m", "cProfile", "-o", str(profile_of(node))]
            node.command = [*watch, *node.command[1:]]

    def version(self) -> str:
        """The commit of the source tree."""
        command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return f"ours {found.strip() or 'unknown'}"

    def ready(self, node: ServerProcess) -> bool:
        """`/readyz` answers 200."""
        return call(node.client_port, request("GET", "/readyz"))[0] == 200

    def leader(self) -> ServerProcess | None:
        """What the first node that knows says in `/v1/cluster`."""
        for node in self.nodes:
            status, body = call(node.client_port, request("GET", "/v1/cluster"))
            if status == 200 and (known := leader_id(json.loads(body))) is not None:
                return self.servers.nodes.get(known)
        return None


class EtcdBenchCluster(BenchCluster):
    """etcd with its defaults, fsync on, but for its quota of bytes, and that it compacts.

    Automatic compaction keeps 1,000 revisions, and comes every five minutes: a store that is to be
    measured sooner is compacted by hand once, in the same way.
    """

    name = "etcd"
    dialect = EtcdDialect()

    def __init__(
        self, directory: Path, size: int = 3, certificates: Mapping[str, Path] | None = None
    ) -> None:
        """`certificates`: flags of etcd with files, for TLS. Raises ClusterFailed if etcd is not
        installed."""
        home = directory / self.name
        home.mkdir(parents=True)
        flags = ["--quota-backend-bytes", str(8 << 30), "--log-level", "warn"]
        flags += ["--auto-compaction-mode", "revision"]
        flags += ["--auto-compaction-retention", str(KEPT_REVISIONS)]
        try:
            more = [f"--{name}={file}" for name, file in (certificates or {}).items()]
            self.servers = EtcdCluster(size, home, [*flags, *more], secure=bool(more))
        except FileNotFoundError as error:
            raise ClusterFailed(str(error)) from None

    def version(self) -> str:
        """The version that the binary states."""
        return etcd_version()

    def compact(self) -> None:
        """Up to the revisions that automatic compaction keeps."""
        port = self.wait_leader().client_port
        status, body = call(port, self.dialect.get(b"none"))
        newest = int(json.loads(body)["header"]["revision"]) if status == 200 else 0
        oldest = json.dumps({"revision": str(newest - KEPT_REVISIONS)}).encode()
        if newest > KEPT_REVISIONS:
            call(port, request("POST", "/v3/kv/compaction", oldest), timeout_s=30)

    def ready(self, node: ServerProcess) -> bool:
        """`/health` does a linearizable read inside."""
        status, body = call(node.client_port, request("GET", "/health"))
        return status == 200 and b'"true"' in body

    def leader(self) -> ServerProcess | None:
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


def profile_of(node: ServerProcess) -> Path:
    """Where a node that runs under cProfile leaves its profile."""
    return node.data_dir.with_suffix(".prof")
