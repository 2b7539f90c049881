"""Real node processes on real sockets and disks, and what the tests do to them.

(Not called `cluster`: the tests of `paxos/` have a module of that name.)
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.support.link_proxy import Proxies
from tests.support.paths import ROOT

"""The tree under test."""
HOST = "127.0.0.1"
DEADLINE_S = 20.0
"""For things that take well under a second on an idle machine."""

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Poll until `condition()` is true and return what it gave; fail saying `what` was awaited."""
    end = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.02)


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


class Process:
    """One node: where it is, and its process while it runs."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.data_dir = directory / f"node{number}"
        self.log_file = directory / f"node{number}.log"
        self.log_file.touch()
        self.popen: subprocess.Popen[bytes] | None = None
        # Held for as long as the cluster: nobody else is given the port while the node is down.
        self.client_socket, self.peer_socket = reserve_port(), reserve_port()
        self.client_port: int = self.client_socket.getsockname()[1]
        self.peer_port: int = self.peer_socket.getsockname()[1]
        self.log_begin = 0


def reserve_port() -> socket.socket:
    """A port that only a listener with SO_REUSEADDR, such as a node, can use meanwhile."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((HOST, 0))
    return held


class Cluster:
    """`n` nodes, 1 to n. `settings` are flags of `serve` with underscores: `log_tail_slots=50`.

    With `proxied`, every link goes through a proxy and can be cut.
    """

    def __init__(
        self, n: int, directory: Path, *, proxied: bool = False, **settings: object
    ) -> None:
        self.numbers = list(range(1, n + 1))
        self.settings = settings
        self.nodes = {number: Process(number, directory) for number in self.numbers}
        self._proxy_ports: dict[tuple[int, int], int] = {}
        self.proxies = Proxies() if proxied else None
        if self.proxies is not None:
            for pair in self.pairs(self.numbers, self.numbers):
                listener = reserve_port()
                self._proxy_ports[pair] = listener.getsockname()[1]
                self.proxies.add(pair, listener, (HOST, self.nodes[pair[1]].peer_port))

    # -- processes --------------------------------------------------------------------------

    def start(self, *numbers: int, wait: bool = True) -> None:
        """Start these nodes (default: all that are down), and wait until they are ready."""
        chosen = numbers or [n for n in self.numbers if not self.running(n)]
        for number in chosen:
            node = self.nodes[number]
            assert not self.running(number), f"node {number} runs already"
            node.log_begin = node.log_file.stat().st_size
            node.popen = self.spawn(number)
        if wait:
            self.wait_ready(*chosen)

    def spawn(self, number: int, log_file: Path | None = None) -> subprocess.Popen[bytes]:
        """A process of this node. It ends with this one, however that ends: its stdin closes."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KVSTORE_")}
        environment["PYTHONPATH"] = str(ROOT)
        with (log_file or self.nodes[number].log_file).open("ab") as log:
            return subprocess.Popen(
                self._command(number),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=log_file.parent if log_file else self.nodes[number].log_file.parent,
                env=environment,
            )

    def _command(self, number: int) -> list[str]:
        node = self.nodes[number]
        addresses = (
            f"{n}={HOST}:{self._proxy_ports.get((number, n), self.nodes[n].peer_port)}"
            for n in self.numbers
        )
        command = [sys.executable, "-m", "kvstore_cli.main", "serve", "--exit-with-parent"]
        command += ["--id", str(number), "--initial-cluster", ",".join(addresses)]
        command += ["--listen-client", f"{HOST}:{node.client_port}"]
        command += ["--listen-peer", f"{HOST}:{node.peer_port}"]
        command += ["--data-dir", str(node.data_dir)]
        for name, value in self.settings.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        return command

    def running(self, number: int) -> bool:
        """Whether the process is there."""
        popen = self.nodes[number].popen
        return popen is not None and popen.poll() is None

    def kill9(self, *numbers: int) -> None:
        """SIGKILL these nodes (default: all), all of them before waiting for any."""
        chosen = [self.nodes[n].popen for n in (numbers or self.numbers) if self.running(n)]
        for popen in chosen:
            assert popen is not None
            popen.kill()
        for popen in chosen:
            assert popen is not None
            popen.wait(DEADLINE_S)
            _close_stdin(popen)

    def stop(self, *numbers: int) -> list[int]:
        """SIGTERM these nodes (default: all) one after the other; their exit codes."""
        codes = []
        for number in numbers or self.numbers:
            popen = self.nodes[number].popen
            assert popen is not None and self.running(number), f"node {number} is down"
            popen.terminate()
            codes.append(popen.wait(DEADLINE_S))
            _close_stdin(popen)
        return codes

    def wait_exit(self, number: int, deadline_s: float = DEADLINE_S) -> int:
        """The exit code of a node that ends by itself."""
        popen = self.nodes[number].popen
        assert popen is not None
        code = eventually(lambda: popen.poll() is not None and [popen.poll()],
                          f"node {number} ends by itself", deadline_s)[0]  # fmt: skip
        _close_stdin(popen)
        return code

    def close(self, show: bool = True) -> None:
        """End every process, whatever its state, and print the logs for the report."""
        self.kill9()
        if self.proxies is not None:
            self.proxies.stop()
        for node in self.nodes.values():
            node.client_socket.close()
            node.peer_socket.close()
            if show:
                print(f"--- log of node {node.number}\n{node.log_file.read_text()[-4000:]}")

    def log(self, number: int, whole: bool = False) -> str:
        """What the node logged since its last start, or ever."""
        node = self.nodes[number]
        data = node.log_file.read_bytes()
        return data[0 if whole else node.log_begin :].decode(errors="replace")

    # -- links ------------------------------------------------------------------------------

    @staticmethod
    def pairs(some: Iterable[int], others: Iterable[int]) -> list[tuple[int, int]]:
        """All ordered pairs between the two groups, both ways."""
        others = list(others)
        found = {(a, b) for a in some for b in others if a != b}
        return sorted(found | {(b, a) for a, b in found})

    def isolate(self, number: int, silent: bool) -> None:
        """Cut all links of one node, both ways."""
        assert self.proxies is not None
        others = [n for n in self.numbers if n != number]
        self.proxies.cut(self.pairs([number], others), silent)

    def heal(self) -> None:
        """Let all links work again."""
        assert self.proxies is not None
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

    def wait_ready(self, *numbers: int, deadline_s: float = DEADLINE_S) -> None:
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


def _close_stdin(popen: subprocess.Popen[bytes]) -> None:
    if popen.stdin is not None:
        with suppress(OSError):
            popen.stdin.close()


class Load:
    """Writers in threads, each with its own keys. What was acknowledged is in `acknowledged`."""

    def __init__(self, cluster: Cluster, numbers: Iterable[int], size: int = 100) -> None:
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
            yield f"load-{index}-{count}", f"{index}:{count}:".encode().ljust(self._size, b".")


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
