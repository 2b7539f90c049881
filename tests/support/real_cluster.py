"""Real node processes on real sockets and disks, and what the tests do to them.

(Not called `cluster`: the tests of `paxos/` have a module of that name.)
"""

import http.client
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from kvstore_cli.launcher.node_cluster import HOST, NodeCluster
from proof.processes.network import HeldPlaces, HeldPort
from proof.processes.waiting import DEADLINE_S, eventually
from tests.support.link_proxy import Proxies
from tests.support.paths import ROOT

__all__ = [
    "DEADLINE_S", "HOST", "ROOT", "Answer", "Client", "Cluster", "Load", "check_all", "eventually",
    "running_cluster",
]  # fmt: skip


READY_S = 60.0
"""From the start of processes until they serve. Starting an interpreter takes a second of CPU time,
and on a machine that is busy with other tests many times that."""


class Answer(NamedTuple):
    """Status 0: no answer came (refused, reset or late)."""

    status: int
    body: bytes = b""
    etag: str = ""
    version: int = 0

    @property
    def revision(self) -> int:
        """The revision in the ETag."""
        return int(self.etag.strip('"') or 0)


class Client:
    """One keep-alive connection to one node; never raises for want of an answer."""

    def __init__(self, port: int, timeout_s: float = 3.0) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; the answer, or status 0."""
        try:
            self._connection.request(method, path, body, headers or {})
            got = self._connection.getresponse()
            return Answer(
                got.status,
                got.read(),
                got.headers.get("ETag", ""),
                int(got.headers.get("X-Version", 0)),
            )
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer(0)

    def close(self) -> None:
        """Give the connection up; the next call makes another."""
        self._connection.close()


class ProxiedPlaces(HeldPlaces):
    """Nodes on the loopback address whose every link passes through a proxy that can cut it."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(numbers)
        self._proxied = {(a, b): HeldPort() for a in numbers for b in numbers if a != b}
        self.proxies = Proxies()
        for pair, port in self._proxied.items():
            self.proxies.add(pair, port.socket, (HOST, self.ports[pair[1]][1]))

    def peer_address(self, dialler: int, node: int) -> str:
        """The proxy of the pair; a node knows itself by its own port."""
        if dialler == node:
            return self.listen_peer(node)
        return self._proxied[dialler, node].address

    def close(self) -> None:
        """End the proxies, which close their ports, and give the nodes' ports back."""
        self.proxies.stop()
        super().close()


class Cluster:
    """`n` nodes, 1 to n. `settings` are flags of `serve` with underscores: `log_tail_slots=50`.

    With `proxied`, every link goes through a proxy and can be cut. `places` makes others.
    """

    def __init__(
        self,
        n: int,
        directory: Path,
        *,
        proxied: bool = False,
        places: Callable[[list[int]], HeldPlaces] = HeldPlaces,
        **settings: object,
    ) -> None:
        self.numbers = list(range(1, n + 1))
        self._held = ProxiedPlaces(self.numbers) if proxied else places(self.numbers)
        flags = {name.replace("_", "-"): value for name, value in settings.items()}
        self._processes = NodeCluster(self.numbers, self._held, directory, settings=flags)
        self.nodes = self._processes.nodes

    # -- processes --------------------------------------------------------------------------

    def start(self, *numbers: int, wait: bool = True) -> None:
        """Start these nodes (default: all that are down), and wait until they are ready."""
        chosen = numbers or [n for n in self.numbers if not self.running(n)]
        for number in chosen:
            assert not self.running(number), f"node {number} runs already"
        self._processes.start(chosen)
        if wait:
            self.wait_ready(*chosen)

    def running(self, number: int) -> bool:
        """Whether the process is there."""
        return self.nodes[number].running

    def kill9(self, *numbers: int) -> None:
        """SIGKILL these nodes (default: all), all of them before waiting for any."""
        self._processes.kill(numbers or None)

    @contextmanager
    def frozen(self, number: int) -> Iterator[None]:
        """SIGSTOP for the length of the block: the process stands still, its connections stay."""
        self._processes.pause(number)
        try:
            yield
        finally:
            self._processes.resume(number)

    def stop(self, *numbers: int) -> list[int | None]:
        """SIGTERM these nodes (default: all); their exit codes, -9 of one that had to be killed."""
        chosen = numbers or self.numbers
        for number in chosen:
            assert self.running(number), f"node {number} is down"
        self._processes.stop(chosen)
        return [self.nodes[number].exit_code for number in chosen]

    def wait_exit(self, number: int, deadline_s: float = DEADLINE_S) -> int:
        """The exit code of a node that ends by itself."""
        code = self.nodes[number].wait(deadline_s)
        assert code is not None, f"node {number} did not end within {deadline_s:g} s"
        return code

    def close(self, show: bool = True) -> None:
        """End every process, whatever its state, and print the logs for the report."""
        self._processes.close()
        self._held.close()
        for number in self.numbers if show else ():
            print(f"--- log of node {number}\n{self.log(number, whole=True)[-4000:]}")

    def log(self, number: int, whole: bool = False) -> str:
        """What the node logged since its last start, or ever."""
        return self.nodes[number].log(whole=whole)

    @property
    def proxies(self) -> Proxies:
        """Those of the links; the cluster was made with `proxied`."""
        assert isinstance(self._held, ProxiedPlaces)
        return self._held.proxies

    # -- links ------------------------------------------------------------------------------

    @staticmethod
    def pairs(some: Iterable[int], others: Iterable[int]) -> list[tuple[int, int]]:
        """All ordered pairs between the two groups, both ways."""
        others = list(others)
        found = {(a, b) for a in some for b in others if a != b}
        return sorted(found | {(b, a) for a, b in found})

    def isolate(self, number: int, silent: bool) -> None:
        """Cut all links of one node, both ways."""
        others = [n for n in self.numbers if n != number]
        self.proxies.cut(self.pairs([number], others), silent)

    def heal(self) -> None:
        """Let all links work again."""
        self.proxies.heal()

    # -- requests ---------------------------------------------------------------------------

    def call(
        self,
        number: int,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 3.0,
    ) -> Answer:
        """One request to one node over a connection of its own."""
        client = Client(self.nodes[number].client_port, timeout_s)
        try:
            return client.call(method, path, body, headers)
        finally:
            client.close()

    def put(self, number: int, key: str, value: bytes, query: str = "", **headers: str) -> Answer:
        """PUT; header names have underscores for hyphens."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.call(number, "PUT", f"/v1/kv/{key}{query}", value, named)

    def get(self, number: int, key: str, query: str = "") -> Answer:
        """GET, linearizable unless the query says otherwise."""
        return self.call(number, "GET", f"/v1/kv/{key}{query}")

    def must_put(self, number: int, key: str, value: bytes) -> Answer:
        """PUT that is repeated while it is refused; fails unless it is acknowledged in time."""

        def attempt() -> Answer | None:
            answer = self.put(number, key, value, "?timeout=2")
            return answer if answer.status == 200 else None

        return eventually(attempt, f"node {number} acknowledges a write of {key}")

    def status(self, number: int) -> dict:
        """The node's view of the cluster, or {} if it does not answer."""
        answer = self.call(number, "GET", "/v1/cluster")
        return json.loads(answer.body) if answer.status == 200 else {}

    def ready(self, number: int) -> bool:
        """Whether the node says that it serves."""
        return self.call(number, "GET", "/readyz").status == 200

    def wait_ready(self, *numbers: int, deadline_s: float = READY_S) -> None:
        """Wait until these nodes (default: all) serve. Fails at once if one has ended."""
        for number in numbers or self.numbers:

            def there(number: int = number) -> bool:
                assert self.running(number), f"node {number} ended:\n{self.log(number)[-2000:]}"
                return self.ready(number)

            eventually(there, f"node {number} is ready", deadline_s)

    def leader(self, among: Iterable[int] = ()) -> int:
        """The node that leads, among these (default: all that run)."""

        def find() -> int | None:
            for number in among or self.numbers:
                own = self.status(number).get("node", {}) if self.running(number) else {}
                if own.get("role") == "leader" and own.get("ready"):
                    return number
            return None

        return eventually(find, "a leader")

    def followers(self) -> list[int]:
        """Everyone else."""
        leader = self.leader()
        return [n for n in self.numbers if n != leader]

    def converged(self, *numbers: int) -> str:
        """Wait until these nodes (default: all) applied the same slots; their common digest."""

        def same() -> str | None:
            found = [self.status(number) for number in numbers or self.numbers]
            if not all(found) or len({view["applied_through"] for view in found}) > 1:
                return None
            digests = {view["node"]["digest"] for view in found}
            assert len(digests) == 1, f"states differ after the same slot: {found}"
            return digests.pop()

        return eventually(same, "all nodes applied the same slots")


@contextmanager
def running_cluster(n: int = 3, *, start: bool = True, **settings: Any) -> Iterator[Cluster]:
    """A cluster with files of its own; see `Cluster` for the arguments. Nothing of it stays.

    All nodes are ready, and one leads. With `start=False` they are down.
    """
    with TemporaryDirectory(prefix="kvstore-test-") as directory:
        made = Cluster(n, Path(directory), **settings)
        try:
            if start:
                made.start()
                made.leader()
            yield made
        finally:
            made.close()


class Load:
    """Writers in threads, each with its own keys, which no other load has. What was acknowledged is
    in `acknowledged`."""

    _serials = itertools.count(1)

    def __init__(self, cluster: Cluster, numbers: Iterable[int], size: int = 100) -> None:
        self._serial = next(self._serials)
        self._stop = threading.Event()
        self._size = size
        self.acknowledged: dict[str, bytes] = {}
        ports = [cluster.nodes[number].client_port for number in numbers]
        self._threads = [
            threading.Thread(target=self._write, args=(index, port), daemon=True)
            for index, port in enumerate(ports)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def more(self, count: int) -> None:
        """Wait until `count` further writes are acknowledged."""
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted, f"{count} more writes")

    def _write(self, index: int, port: int) -> None:
        client = Client(port)
        for key, value in self._pairs(index):
            if self._stop.is_set():
                break
            if client.call("PUT", f"/v1/kv/{key}?timeout=2", value).status == 200:
                self.acknowledged[key] = value
            else:
                self._stop.wait(0.02)
        client.close()

    def _pairs(self, index: int) -> Iterator[tuple[str, bytes]]:
        count = 0
        while True:
            count += 1
            key = f"load-{self._serial}-{index}-{count}"
            yield key, f"{key}:".encode().ljust(self._size, b".")


def check_all(cluster: Cluster, number: int, expected: dict[str, bytes], query: str = "") -> None:
    """Every acknowledged write is at this node, with its value."""
    client = Client(cluster.nodes[number].client_port)
    missing = []
    for key, value in dict(expected).items():
        answer = client.call("GET", f"/v1/kv/{key}{query}")
        if (answer.status, answer.body) != (200, value):
            missing.append((key, answer))
    client.close()
    assert not missing, f"{len(missing)} of {len(expected)} wrong at node {number}: {missing[:3]}"
