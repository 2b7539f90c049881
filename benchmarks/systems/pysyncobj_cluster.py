"""PySyncObj, a Raft library in Python: three processes that keep a journal and dumps on disk.

What it does not do durably: its journal is a file mapped into memory that it never syncs, and the
file of its term and vote is not synced either. A process that is killed loses nothing, a machine
that loses power loses what it acknowledged. So its figures lack what the others spend most on. A
read of it is local, so there is no linearizable one to compare.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from benchmarks.clients.traffic import OursDialect, request
from benchmarks.shared.probe import call
from benchmarks.systems.clusters import BenchCluster, ClusterFailed
from kvstore_cli.launcher.node_cluster import ServerCluster
from kvstore_cli.launcher.node_process import ServerProcess, clean_environment
from proof.processes.network import HeldPlaces

MISSING = "PySyncObj is not installed: pip install -e '.[bench]'"


class PySyncObjDialect(OursDialect):
    """Our plain requests; in a batch, no more than its messages take well."""

    many = 100


class PySyncObjBenchCluster(BenchCluster):
    """Its defaults but for how often it acts (`benchmarks.systems.pysyncobj_node`)."""

    name: ClassVar[str] = "pysyncobj"
    dialect = PySyncObjDialect()

    def __init__(self, directory: Path, size: int = 3) -> None:
        """Raises ClusterFailed if it is not installed."""
        if importlib.util.find_spec("pysyncobj") is None:
            raise ClusterFailed(MISSING)
        home = directory / self.name
        home.mkdir(parents=True)
        places = HeldPlaces(range(1, size + 1))
        self.held = [places]
        nodes = []
        for number in places.ports:
            listen = places.listen_client(number), places.listen_peer(number)
            data_dir = home / f"node-{number}"
            peers = [places.listen_peer(other) for other in places.ports if other != number]
            command = [
                sys.executable, "-m", "benchmarks.systems.pysyncobj_node",
                str(data_dir), listen[0], listen[1], *peers,
            ]  # fmt: skip
            environment = clean_environment()
            nodes.append(
                ServerProcess(number, listen, data_dir, command, environment, kill_with_parent=True)
            )
        self.servers = ServerCluster(nodes)

    def version(self) -> str:
        """Of the installed package."""
        return f"PySyncObj {version('pysyncobj')}, which syncs nothing"

    def ready(self, node: ServerProcess) -> bool:
        """As the library says."""
        return bool(self._state(node)["ready"])

    def leader(self) -> ServerProcess | None:
        """Who believes so."""
        return next((node for node in self.nodes if self._state(node)["leads"]), None)

    def _state(self, node: ServerProcess) -> dict[str, bool]:
        found: dict[str, bool] = json.loads(call(node.client_port, request("GET", "/"))[1])
        return found
