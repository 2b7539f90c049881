"""Real nodes: the first founds a cluster of one, and the others come when they are added."""

import http.client
import json
import shutil
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kvstore_cli.launcher.node_cluster import HOST, ServerCluster
from kvstore_cli.launcher.node_process import (
    PROGRAM,
    ServerProcess,
    clean_environment,
    join_command,
    serve_command,
)
from proof.processes.network import HeldPlaces
from proof.processes.waiting import DEADLINE_S, eventually

CALL_S = 20.0


class GrowingCluster:
    """Places of nodes 1 to n, of which only the first runs. Another one is started once it was
    added under the name `node` and its number; it knows the first one's address. Or it joins."""

    def __init__(self, n: int, directory: Path, **settings: object) -> None:
        self._places = places = HeldPlaces(range(1, n + 1))
        self._flags = {name.replace("_", "-"): value for name, value in settings.items()}
        nodes = []
        for number in range(1, n + 1):
            listen = places.listen_client(number), places.listen_peer(number)
            known = {one: places.listen_peer(one) for one in sorted({1, number})}
            data_dir = directory / f"node-{number}"
            command = serve_command(PROGRAM, number, known, listen, data_dir, self._flags)
            nodes.append(ServerProcess(number, listen, data_dir, command, clean_environment()))
        self._processes = ServerCluster(nodes)
        self.nodes = self._processes.nodes

    def start(self, *numbers: int) -> None:
        """Start these nodes; they need not become ready."""
        self._processes.start(numbers)

    def join(self, number: int, endpoint: str, token: str) -> None:
        """Start a node that joins by a token, as `node` and its number."""
        node = self.nodes[number]
        listen, name = (node.client_address, node.peer_address), f"node{number}"
        node.command = join_command(
            PROGRAM, endpoint, token, name, listen, node.data_dir, self._flags
        )
        self.start(number)

    def wipe(self, number: int) -> None:
        """Kill a node, and remove its data."""
        self._processes.kill([number])
        shutil.rmtree(self.nodes[number].data_dir)

    def kill(self, *numbers: int) -> None:
        """SIGKILL."""
        self._processes.kill(numbers)

    def url(self, *numbers: int) -> str:
        """Endpoints for a client."""
        return ",".join(self.nodes[number].url for number in numbers)

    def call(self, number: int, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """Status and document of a call; (0, {}) if no answer comes."""
        body = None if document is None else json.dumps(document).encode()
        with closing(self._connection(self.nodes[number].client_port)) as connection:
            try:
                connection.request(method, path, body)
                answer = connection.getresponse()
                found = answer.read()
            except (OSError, http.client.HTTPException):
                return 0, {}
            return answer.status, json.loads(found) if found[:1] in (b"{", b"[") else found

    @property
    def authority(self) -> Path:
        """With `tls="auto"`, whom clients believe; it is there once the first node serves."""
        return self.nodes[1].data_dir / "tls" / "ca.crt"

    def _connection(self, port: int) -> http.client.HTTPConnection:
        if not self.authority.exists():
            return http.client.HTTPConnection(HOST, port, timeout=CALL_S)
        trust = ssl.create_default_context(cafile=self.authority)
        return http.client.HTTPSConnection(HOST, port, timeout=CALL_S, context=trust)

    def status(self, number: int) -> Any:
        """The node's view, {} if it does not answer."""
        return self.call(number, "GET", "/v1/cluster")[1]

    def wait_ready(self, number: int) -> None:
        """Until it serves."""
        eventually(lambda: self.call(number, "GET", "/readyz")[0] == 200, f"node {number} serves")

    def leader(self, *among: int) -> int:
        """The node, by its place, that leads."""

        def find() -> int | None:
            for number in among or self.nodes:
                own = self.status(number).get("node", {}) if self.nodes[number].running else {}
                if own.get("role") == "leader" and own.get("ready"):
                    return number
            return None

        return eventually(find, "a leader")

    def voters(self, number: int) -> list[str]:
        """The names of the voters as a node knows them, in order; none while a change is under
        way."""
        view = self.status(number)
        if not view or view["configuration"] is None or view["configuration"]["under_way"]:
            return []
        return sorted(one["name"] for one in view["members"] if one["kind"] == "voter")

    def wait_voters(self, number: int, *names: str, deadline_s: float = DEADLINE_S) -> None:
        """Until these vote, and no change is under way."""
        wanted = sorted(names)
        eventually(lambda: self.voters(number) == wanted, f"{wanted} vote", deadline_s)

    def wait_exit(self, number: int) -> int:
        """The exit code of a node that ends by itself."""
        code = self.nodes[number].wait(DEADLINE_S)
        assert code is not None, f"node {number} did not end:\n{self.nodes[number].log()[-2000:]}"
        self.nodes[number].wanted = False
        return code

    def close(self) -> None:
        """End every process, and print the logs for the report."""
        self._processes.close()
        self._places.close()
        for node in self.nodes.values():
            print(f"--- log of node {node.number}\n{node.log(whole=True)[-3000:]}")


@contextmanager
def growing_cluster(n: int, **settings: object) -> Iterator[GrowingCluster]:
    """A cluster of one with places for others. Nothing of it stays."""
    with TemporaryDirectory(prefix="kvstore-grow-") as directory:
        made = GrowingCluster(n, Path(directory), **settings)
        try:
            made.start(1)
            made.wait_ready(1)
            yield made
        finally:
            made.close()
