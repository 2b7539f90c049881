"""ZooKeeper as Debian packages it: three nodes, and the few frames of its protocol that are needed.

A put is `setData` of a node that is there. ZooKeeper has no linearizable read: `sync` and then
`getData` comes near, and is not offered here.
"""

from __future__ import annotations

import shutil
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from benchmarks.clients.wires import WIRES, ZooKeeperWire
from benchmarks.shared.probe import Unreachable
from benchmarks.systems.clusters import BenchCluster, ClusterFailed
from kvstore_cli.launcher.node_cluster import HOST, ServerCluster
from kvstore_cli.launcher.node_process import ServerProcess
from proof.processes.network import HeldPlaces, HeldPort

JAR = Path("/usr/share/java/zookeeper.jar")
MISSING = "ZooKeeper is not installed: apt-get install zookeeper default-jre-headless"
_CREATE, _GET, _SET, _MULTI = 1, 4, 5, 14
_END_OF_MULTI = struct.pack(">i?i", -1, True, -1)
_SETTINGS = """\
tickTime=2000
initLimit=10
syncLimit=5
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
"""


def _bytes(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


_ANYONE = struct.pack(">ii", 1, 31) + _bytes(b"world") + _bytes(b"anyone")
"""One entry: all rights, for everybody."""


def frame(kind: int, body: bytes) -> bytes:
    """A request; its number is not looked at, since each connection has one in flight."""
    return _bytes(struct.pack(">ii", 1, kind) + body)


class ZooKeeperDialect:
    """Frames for nodes below the root."""

    wire = "zookeeper"
    many = 100

    def put(self, key: bytes, value: bytes) -> bytes:
        """`setData`, whatever the version is."""
        return frame(_SET, self._set(key, value))

    def get(self, key: bytes) -> bytes:
        """`getData` of one server, which may be behind."""
        return frame(_GET, _bytes(b"/" + key) + b"\0")

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
        """`multi` of `setData`."""
        return self._multi(_SET, (self._set(key, value) for key, value in pairs))

    def create_many(self, keys: Iterable[bytes]) -> bytes:
        """`multi` of `create`, with empty values that anyone may change."""
        bodies = (_bytes(b"/" + key) + _bytes(b"") + _ANYONE + bytes(4) for key in keys)
        return self._multi(_CREATE, bodies)

    def value_in(self, body: bytes) -> bytes | None:
        """The data of a `getData`; `body` is what follows the head of the answer."""
        size = int.from_bytes(body[:4], "big")
        return body[4 : 4 + size] or None

    def _set(self, key: bytes, value: bytes) -> bytes:
        return _bytes(b"/" + key) + _bytes(value) + struct.pack(">i", -1)

    def _multi(self, kind: int, bodies: Iterable[bytes]) -> bytes:
        head = struct.pack(">i?i", kind, False, -1)
        return frame(_MULTI, b"".join(head + body for body in bodies) + _END_OF_MULTI)


class ZooKeeperBenchCluster(BenchCluster):
    """Its defaults: every transaction is synced by a quorum before its answer."""

    name: ClassVar[str] = "zookeeper"
    dialect = ZooKeeperDialect()

    def __init__(self, directory: Path, size: int = 3) -> None:
        """Raises ClusterFailed if ZooKeeper or Java is not installed."""
        java = shutil.which("java")
        if java is None or not JAR.exists():
            raise ClusterFailed(MISSING)
        home = directory / self.name
        places = HeldPlaces(range(1, size + 1))
        elections = {number: HeldPort() for number in places.ports}
        self.held = [places, *elections.values()]
        members = "".join(
            f"server.{n}={HOST}:{peer}:{elections[n].number};{HOST}:{client}\n"
            for n, (client, peer) in places.ports.items()
        )
        nodes = []
        for number in places.ports:
            data_dir = home / f"zookeeper-{number}"
            data_dir.mkdir(parents=True)
            (data_dir / "myid").write_text(f"{number}\n")
            config = home / f"{number}.cfg"
            config.write_text(f"{_SETTINGS}dataDir={data_dir}\n{members}")
            command = [
                java, "-Xmx512m", "-cp", f"{home}:{JAR}", "-Dzookeeper.root.logger=WARN,CONSOLE",
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config),
            ]  # fmt: skip
            listen = places.listen_client(number), places.listen_peer(number)
            nodes.append(
                ServerProcess(number, listen, data_dir, command, {}, kill_with_parent=True)
            )
        self.servers = ServerCluster(nodes)

    def version(self) -> str:
        """From the name of the file that the package installs."""
        found = [file.stem for file in JAR.parent.glob("zookeeper-[0-9]*.jar")]
        return f"{found[0] if found else 'zookeeper of unknown version'} (Debian)"

    def ready(self, node: ServerProcess) -> bool:
        """It takes part, in whichever role."""
        return self._mode(node) in ("leader", "follower")

    def leader(self) -> ServerProcess | None:
        """Who says so."""
        return next((node for node in self.nodes if self._mode(node) == "leader"), None)

    def prepare(self, keys: int) -> None:
        """Make the nodes that are written to."""
        port = self.wait_leader().client_port
        for first in range(0, keys, self.dialect.many):
            numbers = range(first, min(first + self.dialect.many, keys))
            exchange(port, self.dialect.create_many(b"bench-%08d" % n for n in numbers))

    def read(self, node: ServerProcess, key: bytes) -> bytes | None:
        """What this server has."""
        return self.dialect.value_in(exchange(node.client_port, self.dialect.get(key)))

    def _mode(self, node: ServerProcess) -> str:
        try:
            with socket.create_connection((HOST, node.client_port), 2.0) as connection:
                connection.sendall(b"srvr")
                text = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError as error:
            raise Unreachable(f"port {node.client_port}: {error!r}") from error
        return text.decode(errors="replace").partition("Mode: ")[2].partition("\n")[0]


def exchange(port: int, request: bytes) -> bytes:
    """One request in a session of its own; its answer after the head. Raises Unreachable."""
    wire = WIRES["zookeeper"]
    try:
        with socket.create_connection((HOST, port), 10.0) as connection:
            for sent in (wire.greeting, request):
                connection.sendall(sent)
                answer = b""
                while not wire.whole(answer):
                    more = connection.recv(65536)
                    if not more:
                        raise Unreachable(f"port {port} closed the connection")
                    answer += more
    except OSError as error:
        raise Unreachable(f"port {port}: {error!r}") from error
    if not wire.good(answer):
        raise Unreachable(f"port {port} answers {answer[:20]!r}")
    return answer[ZooKeeperWire.HEAD.size :]
