"""`kvstore demo` with stand-in nodes: announces, restarts, stops, and leaves nothing behind."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvstore.errors import InvalidArgument
from kvstore_cli.demo.run import Demo, ports_of
from kvstore_cli.launcher.node_cluster import LoopbackPlaces, NodeCluster
from kvstore_cli.main import main
from proof.processes.network import HeldPort
from tests.support.paths import ROOT, SUPPORT
from tests.support.ports import free_base

_FAKE = SUPPORT / "fake_node.py"
_DRIVER = """
import asyncio, sys
from pathlib import Path
from kvstore_cli.demo.run import Demo
from kvstore_cli.launcher.node_cluster import LoopbackPlaces, NodeCluster
directory = Path(sys.argv[1])
places = LoopbackPlaces({i: (int(port), int(port)) for i, port in enumerate(sys.argv[3:], 1)})
program = (sys.executable, sys.argv[2])
cluster = NodeCluster(list(places.ports), places, directory, program=program)
sys.exit(asyncio.run(Demo(cluster, directory, restart_s=0.1).run()))
"""


class Running:
    """A demo in a process of its own, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, pattern: str) -> re.Match[str]:
        """Read on until a line matches; fails if the demo ends first."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.said += line
            if found := re.search(pattern, line):
                return found
        pytest.fail(f"no line matched {pattern!r} in:\n{self.said}")

    def node_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"node \d .* pid (\d+)", self.said)]


@contextlib.asynccontextmanager
async def running_demo(directory: Path, **environment: str) -> AsyncIterator[Running]:
    ports = [HeldPort() for _ in range(3)]
    words = [str(directory), str(_FAKE), *(str(port.number) for port in ports)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _DRIVER, *words,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment},
        cwd=ROOT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for port in ports:
            port.close()


async def gone(pids: list[int]) -> None:
    """Wait until no process of these is alive; the caller's time-out bounds it."""
    while any(alive(pid) for pid in pids):
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        # A zombie nobody has reaped yet is dead.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_it_announces_restarts_and_stops(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_demo(tmp_path) as demo:
            await demo.until("Ctrl-C stops")
            assert "curl -X PUT" in demo.said and "Dashboard: http://127.0.0.1:" in demo.said
            assert "\x1b[" not in demo.said
            pids = demo.node_pids()
            assert len(pids) == 3
            os.kill(pids[1], signal.SIGKILL)
            await demo.until(r"node 2 was killed \(SIGKILL\)")
            await demo.until("node 2 restarts in 0.1 s")
            await demo.until("node 2 is back")
            os.kill(pids[0], signal.SIGKILL)
            await demo.until("no leader|node 1 was killed")
            await demo.until("node 1 is back|node 1 leads")
            demo.process.send_signal(signal.SIGINT)
            await demo.until("All nodes stopped")
            assert await demo.process.wait() == 0
            await gone(pids)

    asyncio.run(run())


def test_nodes_do_not_outlive_a_killed_demo(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_demo(tmp_path) as demo:
            await demo.until("Ctrl-C stops")
            demo.process.kill()
            await gone(demo.node_pids())

    asyncio.run(run())


def test_a_node_that_cannot_start_ends_it_with_the_reason(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_demo(tmp_path, FAKE_NODE_FAILS="2") as demo:
            await demo.until("node 2 ended with 74")
            await demo.until("made of cheese")
            await demo.until("All nodes stopped")
            assert await demo.process.wait() == 74

    asyncio.run(run())


def test_a_taken_port_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["demo", "--nodes", "1", "--client-port", str(port), "--data-dir", str(tmp_path)]
        assert main(words) == 2
    assert f"port {port} is taken" in capsys.readouterr().err


def test_another_number_of_nodes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nodes").write_text("3\n")
    # Nobody listens on these: the number of nodes is checked before any is started.
    words = [
        "demo",
        "--nodes",
        "1",
        "--client-port",
        str(free_base(0, 1)),
        "--data-dir",
        str(tmp_path),
    ]
    assert main(words) == 2
    assert "--nodes 3" in capsys.readouterr().err


def test_ports_are_ten_apart() -> None:
    assert ports_of(3, 2379) == {1: (2379, 2380), 2: (2389, 2390), 3: (2399, 2400)}
    with pytest.raises(InvalidArgument, match="client-port"):
        ports_of(3, 65530)


def test_colour_only_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = NodeCluster([], LoopbackPlaces({}), tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Demo(nobody, tmp_path)._say("ready", "green")
    monkeypatch.setenv("NO_COLOR", "1")
    Demo(nobody, tmp_path)._say("ready", "green")
    assert capsys.readouterr().out == "\x1b[32mready\x1b[0m\nready\n"
