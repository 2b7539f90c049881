"""`kvstore demo`: a whole cluster on this machine, each node a process of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path

from kvstore.client import Client, ClusterStatus
from kvstore.errors import InvalidArgument, KvError

_HOST = "127.0.0.1"
_RESTART_S = 2.0
_RESTART_S_MAX = 30.0
_READY_S_MAX = 60.0
_STOP_S_MAX = 20.0
_POLL_S = 0.1
_PROBE_S = 1.0
_COLOURS = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2"}


@dataclass
class Node:
    """One node: its ports, its files, and its process while it runs."""

    id: int
    client_port: int
    data_dir: Path
    process: Process | None = None
    ready: bool = False

    @property
    def peer_port(self) -> int:
        """One above the client port."""
        return self.client_port + 1

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        return f"http://{_HOST}:{self.client_port}"

    @property
    def log(self) -> Path:
        """What the process writes, kept across runs."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")


def plan(nodes: int, client_port: int, data_dir: Path) -> list[Node]:
    """The nodes with their ports and directories; InvalidArgument if there are not enough ports."""
    last = client_port + 10 * (nodes - 1) + 1
    if last > 65535:
        raise InvalidArgument("client-port", f"client-port: the last port would be {last}")
    return [
        Node(i, client_port + 10 * (i - 1), data_dir / f"node-{i}") for i in range(1, nodes + 1)
    ]


def demo(nodes: int, client_port: int, data_dir: Path) -> int:
    """Run the cluster until Ctrl-C; the exit code. Raises InvalidArgument for a taken port."""
    planned = plan(nodes, client_port, data_dir)
    for node in planned:
        _check_free(node.client_port)
        _check_free(node.peer_port)
    _remember_size(data_dir, nodes)
    return asyncio.run(Demo(planned, data_dir).run())


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise InvalidArgument(
                "client-port",
                f"port {port} is taken ({error.strerror}): is another demo running? "
                "Choose other ports with --client-port",
            ) from None


def _remember_size(data_dir: Path, nodes: int) -> None:
    """Refuse another number of nodes: quorums of two sizes over the same data need not meet."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        note = data_dir / "nodes"
        known = note.read_text().strip() if note.exists() else ""
        if known and known != str(nodes):
            raise InvalidArgument(
                "nodes",
                f"{data_dir} holds a cluster of {known}: give --nodes {known}, or another "
                "--data-dir",
            )
        note.write_text(f"{nodes}\n")
    except OSError as error:
        raise InvalidArgument("data-dir", f"cannot use {data_dir}: {error.strerror}") from None


class Demo:
    """Starts the nodes, tells what happens to them, restarts those that die, stops them all."""

    def __init__(
        self,
        nodes: list[Node],
        data_dir: Path,
        program: tuple[str, ...] = (sys.executable, "-m", "kvstore_cli.main"),
        restart_s: float = _RESTART_S,
    ) -> None:
        """`program` takes the arguments of `kvstore`; `restart_s`: how long a node stays dead."""
        self._nodes = nodes
        self._data_dir = data_dir
        self._program = program
        self._restart_s = restart_s
        self._stopping = asyncio.Event()
        self._code = 0
        self._announced = False
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    async def run(self) -> int:
        """Until a signal, or until a node cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        self._say(f"Starting {len(self._nodes)} nodes; data and logs in {self._data_dir}/", "dim")
        tasks = [asyncio.create_task(self._supervise(node)) for node in self._nodes]
        tasks.append(asyncio.create_task(self._watch()))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait((*tasks, stopped), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            await self._stop_nodes()
        return self._code

    async def _supervise(self, node: Node) -> None:
        """Keep the node running. Before the cluster was ready, a node that ends is the end."""
        delay_s = self._restart_s
        while True:
            code = await self._run_node(node)
            if self._stopping.is_set():
                return
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"
            self._event(f"node {node.id} {how}", "red")
            if code > 0 or not self._announced:
                self._say(_tail(node.log), "dim")
            if not self._announced:
                self._code = max(code, 1)
                self._stopping.set()
                return
            delay_s = self._restart_s if node.ready else min(delay_s * 2, _RESTART_S_MAX)
            self._event(f"node {node.id} restarts in {delay_s:g} s; its log: {node.log}", "dim")
            await asyncio.sleep(delay_s)

    async def _run_node(self, node: Node) -> int:
        node.ready = False
        with node.log.open("ab") as log:
            # A process group of its own: the terminal's Ctrl-C is for the demo, which then stops
            # the nodes in order. The pipe on stdin ends when the demo dies, however that happens.
            node.process = await asyncio.create_subprocess_exec(
                *self._command(node), stdin=PIPE, stdout=log, stderr=log, process_group=0
            )
        return await node.process.wait()

    def _command(self, node: Node) -> list[str]:
        cluster = ",".join(f"{other.id}={_HOST}:{other.peer_port}" for other in self._nodes)
        settings = {
            "--id": str(node.id),
            "--initial-cluster": cluster,
            "--listen-client": f"{_HOST}:{node.client_port}",
            "--listen-peer": f"{_HOST}:{node.peer_port}",
            "--data-dir": str(node.data_dir),
        }
        flags = [word for setting in settings.items() for word in setting]
        return [*self._program, "serve", "--exit-with-parent", *flags]

    async def _watch(self) -> None:
        """Announce the cluster once it is ready; then tell of leaders and of nodes come back."""
        async with Client([node.url for node in self._nodes], timeout_s=_PROBE_S) as client:
            leader = await self._until_ready(client)
            self._announce(leader)
            lost = False
            while True:
                await asyncio.sleep(_POLL_S)
                views = await self._views(client)
                leaders = [v.node.id for v in views if v.node.role == "leader"]
                if len(leaders) == 1 and (leaders[0] != leader or lost):
                    leader, lost = leaders[0], False
                    self._event(f"node {leader} leads", "green")
                elif not leaders and not lost:
                    lost = True
                    self._event("no leader: election", "yellow")

    async def _until_ready(self, client: Client) -> int:
        """The leader, once all nodes serve and agree on it."""
        deadline = time.monotonic() + _READY_S_MAX
        told = False
        while True:
            views = await self._views(client)
            leaders = {view.leader.id for view in views if _serves(view) and view.leader}
            all_serve = all(map(_serves, views)) and len(views) == len(self._nodes)
            if all_serve and len(leaders) == 1:
                return leaders.pop()
            if not told and time.monotonic() > deadline:
                told = True
                self._event(f"still not ready; see {self._data_dir}/*.log", "yellow")
            await asyncio.sleep(_POLL_S)

    async def _views(self, client: Client) -> list[ClusterStatus]:
        found = await asyncio.gather(*(self._view(client, node) for node in self._nodes))
        return [view for view in found if view is not None]

    async def _view(self, client: Client, node: Node) -> ClusterStatus | None:
        with contextlib.suppress(KvError):
            view = await client.status(node.url)
            if _serves(view) and not node.ready:
                node.ready = True
                if self._announced:
                    self._event(f"node {node.id} is back", "green")
            return view
        return None

    def _announce(self, leader: int) -> None:
        self._announced = True
        self._say("\nThe cluster is ready.", "green")
        for node in self._nodes:
            pid = node.process.pid if node.process else 0
            role = "leader" if node.id == leader else "follower"
            self._say(f"  node {node.id}  {node.url}  {role:<8}  pid {pid}")
        first, other, last = self._nodes[0], self._nodes[1 % len(self._nodes)], self._nodes[-1]
        self._say("\nTry, in another terminal:", "bold")
        self._say(f"  curl -X PUT --data-binary 'hello' {other.url}/v1/kv/greeting")
        self._say(f"  curl {last.url}/v1/kv/greeting")
        self._say(f"  curl '{first.url}/v1/kv?prefix=gre'")
        self._say(f"  curl {first.url}/v1/cluster")
        victim = next(node for node in self._nodes if node.id == leader).process
        if victim is not None:
            self._say(f"  kill -9 {victim.pid}    # the leader; watch here what happens")
        self._say(f"\nDashboard: {first.url}/\nCtrl-C stops all nodes; the data stays.\n", "bold")

    async def _stop_nodes(self) -> None:
        running = [node for node in self._nodes if node.process and node.process.returncode is None]
        if running:
            self._say("\nStopping ...", "dim")
        for node in running:
            _signal(node, signal.SIGTERM)
        waits = [asyncio.create_task(node.process.wait()) for node in running if node.process]
        if waits:
            await asyncio.wait(waits, timeout=_STOP_S_MAX)
        for node in running:
            if node.process is not None and node.process.returncode is None:
                self._event(f"node {node.id} does not stop: killed", "red")
                _signal(node, signal.SIGKILL)
        await asyncio.gather(*waits)
        if running:
            self._say(f"All nodes stopped; the data stays in {self._data_dir}/", "dim")

    def _event(self, text: str, colour: str) -> None:
        self._say(f"{time.strftime('%H:%M:%S')}  {text}", colour)

    def _say(self, text: str, colour: str = "") -> None:
        # The demo must stop its nodes even when nobody reads its output any more.
        with contextlib.suppress(BrokenPipeError):
            painted = self._colour and colour
            print(f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if painted else text, flush=True)


def _serves(view: ClusterStatus) -> bool:
    return view.leader is not None and view.node.ready


def _signal(node: Node, number: signal.Signals) -> None:
    if node.process is not None:
        with contextlib.suppress(ProcessLookupError):
            node.process.send_signal(number)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    return "\n".join(f"    {line}" for line in lines)
