"""The node processes: started, killed, paused and stopped, by their process ids."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proof.torture.network import NodeNetwork
from proof.torture.requests import Requests

POLL_S = 0.02
STOP_S_MAX = 20.0
READY_S_MAX = 60.0
LOG_TAIL_LINES = 8


@dataclass
class NodeProcess:
    """One node: its files, and its process while it runs."""

    number: int
    data_dir: Path
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    """Whether it should be running; one that is wanted and gone has ended by itself."""

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self.popen is not None and self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(number)

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])


class RealCluster:
    """`kvstore serve` processes in `network`, with data and logs in `directory`.

    They end when this process does, however that happens: their standard input closes.
    """

    def __init__(
        self,
        numbers: list[int],
        network: NodeNetwork,
        directory: Path,
        program: tuple[str, ...] = (sys.executable, "-m", "kvstore_cli.main"),
    ) -> None:
        """`program` takes the arguments of `kvstore`."""
        self.network = network
        self._program = program
        self.nodes = {
            n: NodeProcess(n, directory / f"node-{n}", directory / f"node-{n}.log") for n in numbers
        }
        self.endpoints = {n: f"http://{network.listen_client(n)}" for n in numbers}
        self.ended: list[str] = []

    @property
    def numbers(self) -> list[int]:
        """All nodes."""
        return list(self.nodes)

    # -- processes --------------------------------------------------------------------------

    def start(self, numbers: Iterable[int] | None = None) -> None:
        """Start these nodes (default: all) unless they run."""
        for number in numbers or self.numbers:
            node = self.nodes[number]
            if not node.running:
                self.look()
                node.popen = self._spawn(node)
                node.wanted = True

    def kill(self, numbers: Iterable[int]) -> None:
        """SIGKILL, all of them before waiting for any."""
        chosen = [self.nodes[number] for number in numbers]
        for node in chosen:
            node.wanted = False
            node.signal(signal.SIGKILL)
        for node in chosen:
            if node.popen is not None:
                node.popen.wait(STOP_S_MAX)
                _close_stdin(node.popen)

    def pause(self, number: int) -> None:
        """SIGSTOP: the process stands still, and its connections stay."""
        self.nodes[number].signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """SIGCONT."""
        self.nodes[number].signal(signal.SIGCONT)

    async def stop(self, numbers: Iterable[int]) -> None:
        """SIGTERM, and wait for the clean end. One that does not end is killed and noted."""
        chosen = [self.nodes[number] for number in numbers]
        for node in chosen:
            node.wanted = False
            node.signal(signal.SIGTERM)
        if not await _until(lambda: not any(node.running for node in chosen), STOP_S_MAX):
            late = [node.number for node in chosen if node.running]
            self.ended.append(f"nodes {late} did not stop within {STOP_S_MAX:g} s of SIGTERM")
            self.kill(late)
        for node in chosen:
            if node.popen is not None:
                _close_stdin(node.popen)

    def look(self) -> None:
        """Note in `ended` every node that ended by itself since the last look."""
        for node in self.nodes.values():
            if node.wanted and node.popen is not None and node.popen.poll() is not None:
                node.wanted = False
                self.ended.append(
                    f"node {node.number} ended by itself with {node.popen.returncode}:\n"
                    f"{node.tail()}"
                )

    def close(self) -> None:
        """End every process, whatever its state."""
        self.look()
        self.kill(self.numbers)

    def _spawn(self, node: NodeProcess) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KVSTORE_")}
        with node.log.open("ab") as log:
            # A process group of its own: the terminal's Ctrl-C is for the torture alone.
            return subprocess.Popen(
                [*self.network.prefix(node.number), *self._command(node)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                process_group=0,
            )

    def _command(self, node: NodeProcess) -> list[str]:
        peers = (f"{n}={self.network.peer_address(node.number, n)}" for n in self.numbers)
        settings = {
            "--id": str(node.number),
            "--initial-cluster": ",".join(peers),
            "--listen-client": self.network.listen_client(node.number),
            "--listen-peer": self.network.listen_peer(node.number),
            "--data-dir": str(node.data_dir),
            # Every acknowledged write is read back at its revision, so all must stay readable.
            "--history-revisions": "0",
            # Short, so that a node which was away sometimes needs a snapshot.
            "--log-tail-slots": "200",
        }
        flags = [word for setting in settings.items() for word in setting]
        return [*self._program, "serve", "--exit-with-parent", *flags]


def _close_stdin(popen: subprocess.Popen[bytes]) -> None:
    if popen.stdin is not None:
        with suppress(OSError):
            popen.stdin.close()


async def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Poll until `condition()` or the time is up; whether it came."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


# -- what nodes say of themselves -------------------------------------------------------------


async def statuses(requests: Requests, timeout_s: float = 1.0) -> dict[int, dict[str, Any]]:
    """`GET /v1/cluster` of every node; {} for one that does not answer."""
    nodes = list(requests.endpoints)
    replies = await asyncio.gather(
        *(requests.send(n, "GET", "/v1/cluster", timeout_s=timeout_s) for n in nodes)
    )
    return {n: r.document() if r.status == 200 else {} for n, r in zip(nodes, replies, strict=True)}


async def leader_of(requests: Requests) -> int | None:
    """The node that leads under the highest ballot, if any says that it leads."""
    views = await statuses(requests, 0.5)
    leading = {n: v for n, v in views.items() if v and v["node"]["role"] == "leader"}
    return max(leading, key=lambda n: _ballot(leading[n]), default=None)


def _ballot(view: dict[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, str(view["ballot"]).split(".")))


async def wait_ready(requests: Requests, limit_s: float = READY_S_MAX) -> list[int]:
    """Wait until every node serves; those that do not in time."""
    deadline = time.monotonic() + limit_s
    while True:
        replies = await asyncio.gather(
            *(requests.send(n, "GET", "/readyz", timeout_s=1.0) for n in requests.endpoints)
        )
        late = [n for n, r in zip(requests.endpoints, replies, strict=True) if r.status != 200]
        if not late or time.monotonic() > deadline:
            return late
        await asyncio.sleep(5 * POLL_S)
