"""The launcher of nodes: what it notes, what it leaves, and that there is only one."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvstore_cli.launcher import node_cluster
from kvstore_cli.launcher.node_cluster import NodeCluster
from kvstore_cli.launcher.node_process import ServerProcess, clean_environment
from proof.processes.network import HeldPlaces
from proof.processes.waiting import eventually
from tests.support.paths import ROOT

Make = Callable[[str], NodeCluster]
WAITS = "print('up', flush=True); input()"
DEAF = (
    "import signal; signal.signal(signal.SIGTERM, lambda *_: None); print('up', flush=True)\n"
    "while True: signal.pause()"
)


@pytest.fixture
def cluster_of(tmp_path: Path) -> Iterator[Make]:
    """Makes a cluster of one whose node runs this Python program; it is gone after the test."""
    with ExitStack() as stack:

        def make(program: str) -> NodeCluster:
            places = HeldPlaces([1])
            stack.callback(places.close)
            words = (sys.executable, "-c", program)
            return stack.enter_context(NodeCluster([1], places, tmp_path, program=words))

        yield make


def started(cluster: NodeCluster) -> ServerProcess:
    """Its node, once it runs its program."""
    cluster.start()
    node = cluster.nodes[1]
    eventually(lambda: "up" in node.log(), "the node runs")
    return node


def test_a_node_that_ends_by_itself_is_noted(cluster_of: Make) -> None:
    """With its code and the end of its log, once; one that was killed is not."""
    cluster = cluster_of("print('why it ended'); raise SystemExit(3)")
    cluster.start()
    assert cluster.nodes[1].wait(20) == 3
    cluster.look()
    cluster.look()
    assert len(cluster.ended) == 1
    assert "node 1 ended by itself with 3" in cluster.ended[0]
    assert "why it ended" in cluster.ended[0]
    other = cluster_of(WAITS)
    node = started(other)
    other.kill()
    other.look()
    assert other.ended == [] and node.exit_code == -signal.SIGKILL


def test_a_node_that_does_not_stop_is_noted(
    cluster_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed; one that stops is not noted."""
    monkeypatch.setattr(node_cluster, "STOP_S_MAX", 0.3)
    cluster = cluster_of(DEAF)
    node = started(cluster)
    assert asyncio.run(cluster.stop_meanwhile()) == [1]
    assert "did not stop" in cluster.ended[0] and node.exit_code == -signal.SIGKILL
    assert started(cluster).pid and cluster.stop() == [1]
    monkeypatch.undo()
    other = cluster_of(WAITS)
    started(other)
    assert other.stop() == [] and other.ended == []
    assert other.nodes[1].exit_code == -signal.SIGTERM


def test_a_node_starts_again_with_a_log_that_goes_on(cluster_of: Make) -> None:
    cluster = cluster_of(WAITS)
    node = started(cluster)
    first = node.pid
    node.start()
    assert node.pid == first, "it runs already"
    cluster.kill([1])
    assert started(cluster).pid != first
    assert node.log() == "up\n" and node.log(whole=True) == "up\nup\n"


def test_a_paused_node_stands_still(cluster_of: Make) -> None:
    cluster = cluster_of("import time\nwhile True: print('up', flush=True); time.sleep(0.01)")
    node = started(cluster)

    def state() -> str:
        stat = Path(f"/proc/{node.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    cluster.pause(1)
    eventually(lambda: state() == "T", "it is paused")
    assert node.running
    cluster.resume(1)
    eventually(lambda: state() != "T", "it goes on")
    cluster.pause(1)
    cluster.close()
    assert node.exit_code == -signal.SIGKILL, "also a paused one is ended"


_STARTER = """
import sys
from pathlib import Path
from kvstore_cli.launcher.node_process import ServerProcess, clean_environment
words = [sys.executable, "-c", sys.argv[2]]
listen = ("127.0.0.1:1", "127.0.0.1:2")
kill = sys.argv[3] == "kill"
node = ServerProcess(
    1, listen, Path(sys.argv[1]), words, clean_environment(), kill_with_parent=kill
)
node.start()
print(node.pid, flush=True)
input()
"""


@pytest.mark.parametrize(("program", "how"), [("input()", "stdin"), (DEAF, "kill")])
def test_a_node_ends_with_its_starter(tmp_path: Path, program: str, how: str) -> None:
    """However the starter dies: by the pipe on stdin, or by the kernel."""
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(tmp_path / "node"), program, how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment(),
    )  # fmt: skip
    assert starter.stdout is not None and starter.stdin is not None
    with starter.stdout, starter.stdin:
        pid = int(starter.stdout.readline())
        starter.kill()
        starter.wait(20)
    stat = Path(f"/proc/{pid}/stat")

    def gone() -> bool:
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    eventually(gone, "the node is gone")


def test_settings_of_nodes_in_the_environment_do_not_reach_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KVSTORE_WINDOW", "1")
    monkeypatch.setenv("OTHER", "1")
    found = clean_environment()
    assert "KVSTORE_WINDOW" not in found and found["OTHER"] == "1"


def test_only_the_launcher_builds_the_command_line_of_a_node() -> None:
    """The flag is declared with `serve`, and passed by the launcher."""
    folders = ("paxos", "kvstore", "http_api", "kvstore_cli", "proof", "benchmarks")
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    naming = {path.name for path in files if '"--exit-with-parent"' in path.read_text()}
    assert naming == {"node_process.py", "nodes.py"}
