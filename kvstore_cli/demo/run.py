"""`kvstore demo`: a whole cluster on this machine, each node a process of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

from kvstore.client import Client, ClusterStatus
from kvstore.errors import InvalidArgument, KvError
from kvstore_cli.demo.hands import NodeHands
from kvstore_cli.demo.load import DemoLoad, installed_judge
from kvstore_cli.demo.network import DemoNetwork
from kvstore_cli.demo.page import DemoPage
from kvstore_cli.demo.tls import DemoTls
from kvstore_cli.launcher.node_cluster import HOST, LoopbackPlaces, NodeCluster
from kvstore_cli.launcher.node_process import ServerProcess

PAGE_OFFSET = 2
"""The dashboard with controls is so many ports above that of node 1 for clients."""
BEHIND_OFFSET = 3
"""A node listens for its peers so many ports above that for clients; they dial one between."""
_RESTART_S = 2.0
_RESTART_S_MAX = 30.0
_READY_S_MAX = 60.0
_POLL_S = 0.1
_PROBE_S = 1.0
_TAIL_LINES = 5
_COLOURS = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2"}


def ports_of(nodes: int, client_port: int) -> dict[int, tuple[int, int]]:
    """Each node's ports for clients and peers; InvalidArgument if there are not enough ports."""
    last = client_port + 10 * (nodes - 1) + BEHIND_OFFSET
    if last > 65535:
        raise InvalidArgument("client-port", f"client-port: the last port would be {last}")
    firsts = (client_port + 10 * i for i in range(nodes))
    return {number: (first, first + 1) for number, first in enumerate(firsts, start=1)}


def demo(nodes: int, client_port: int, data_dir: Path, *, secure: bool = False) -> int:
    """Run the cluster until Ctrl-C; the exit code. `secure`: by TLS, as ever since it once was.
    Raises InvalidArgument for a taken port."""
    ports = ports_of(nodes, client_port)
    authority = data_dir / "authority"
    secure = secure or authority.exists()
    behind = {number: first + BEHIND_OFFSET for number, (first, _) in ports.items()}
    # By TLS nobody on the way sees who dials, so there is no cable that could be pulled.
    network = None if secure else DemoNetwork(ports, behind)
    for number, (first, second) in ports.items():
        for port in (first, second, behind[number]):
            _check_free(port)
    _remember_size(data_dir, nodes)
    page_port = client_port + PAGE_OFFSET
    _check_free(page_port)
    tls = DemoTls(authority) if secure else None
    settings = {} if tls is None else tls.settings
    places = LoopbackPlaces(ports) if network is None else network
    cluster = NodeCluster(list(ports), places, data_dir, settings=settings, environment=os.environ)
    made = Demo(cluster, data_dir, page_port=page_port, network=network, tls=tls)
    return asyncio.run(made.run())


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
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
        cluster: NodeCluster,
        data_dir: Path,
        restart_s: float = _RESTART_S,
        page_port: int | None = None,
        network: DemoNetwork | None = None,
        tls: DemoTls | None = None,
    ) -> None:
        """`restart_s`: how long a node stays dead. `page_port`: of the page with controls.
        `network`: the places of the cluster, if cables can be pulled. `tls`: what the nodes
        speak."""
        self._cluster = cluster
        self._nodes = list(cluster.nodes.values())
        self._data_dir = data_dir
        self._restart_s = restart_s
        self._stopping = asyncio.Event()
        self._page_port = page_port
        self._tls = tls
        urls = [node.url for node in self._nodes]
        self._load = DemoLoad(urls, installed_judge(), None if tls is None else tls.trust)
        self._network = network
        self._hands = NodeHands(cluster, network)
        self._ready: set[int] = set()
        """Nodes that have served since their last start."""
        self._code = 0
        self._announced = False
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    async def run(self) -> int:
        """Until a signal, or until a node cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        self._say(f"Starting {len(self._nodes)} nodes; data and logs in {self._data_dir}/", "dim")
        if self._network is not None:
            await self._network.start()
        tasks = [asyncio.create_task(self._supervise(node)) for node in self._nodes]
        tasks.append(asyncio.create_task(self._watch()))
        page = DemoPage(self._hands, self._nodes, self._load, self._tls)
        if self._page_port is not None:
            await page.start(HOST, self._page_port)
            tasks.append(asyncio.create_task(self._load.run()))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait((*tasks, stopped), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            await page.stop()
            await self._stop_nodes()
            if self._network is not None:
                await self._network.close()
        return self._code

    async def _supervise(self, node: ServerProcess) -> None:
        """Keep the node running. Before the cluster was ready, a node that ends is the end."""
        delay_s = self._restart_s
        while True:
            self._ready.discard(node.number)
            if (again := self._hands.held.get(node.number)) is not None:
                await again.wait()
            if node.number in self._hands.wiped:
                await self._hands.empty_disk(node.number)
                self._event(f"node {node.number}'s disk was emptied on the page", "yellow")
            node.start()
            code = await node.ended()
            if self._stopping.is_set():
                return
            self._hands.frozen.discard(node.number)
            if node.number in self._hands.wiped:
                continue
            if node.number in self._hands.held:
                self._event(f"node {node.number} was stopped on the page", "yellow")
                continue
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"
            self._event(f"node {node.number} {how}", "red")
            if code > 0 or not self._announced:
                self._say(node.tail(_TAIL_LINES), "dim")
            if not self._announced:
                self._code = max(code, 1)
                self._stopping.set()
                return
            served = node.number in self._ready
            delay_s = self._restart_s if served else min(delay_s * 2, _RESTART_S_MAX)
            self._event(
                f"node {node.number} restarts in {delay_s:g} s; its log: {node.log_file}", "dim"
            )
            await asyncio.sleep(delay_s)

    # -- what is told -----------------------------------------------------------------------

    async def _watch(self) -> None:
        """Announce the cluster once it is ready; then tell of leaders and of nodes come back."""
        ca = None if self._tls is None else str(self._tls.authority_file)
        urls = [node.url for node in self._nodes]
        async with Client(urls, timeout_s=_PROBE_S, ca=ca) as client:
            leader = await self._until_ready(client)
            self._announce(leader)
            lost = False
            while True:
                await asyncio.sleep(_POLL_S)
                views = await self._views(client)
                leaders = [self._number(v) for v in views if v.node.role == "leader"]
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
                return self._hands.number_of(leaders.pop())
            if not told and time.monotonic() > deadline:
                told = True
                self._event(f"still not ready; see {self._data_dir}/*.log", "yellow")
            await asyncio.sleep(_POLL_S)

    async def _views(self, client: Client) -> list[ClusterStatus]:
        found = await asyncio.gather(*(self._view(client, node) for node in self._nodes))
        return [view for view in found if view is not None]

    async def _view(self, client: Client, node: ServerProcess) -> ClusterStatus | None:
        with contextlib.suppress(KvError):
            view = await client.status(node.url)
            self._hands.views[node.number] = view
            if _serves(view) and node.number not in self._ready:
                self._ready.add(node.number)
                if self._announced:
                    self._event(f"node {node.number} is back", "green")
            return view
        return None

    def _number(self, view: ClusterStatus) -> int:
        return self._hands.number_of(view.node.id)

    def _announce(self, leader: int) -> None:
        self._announced = True
        self._say("\nThe cluster is ready.", "green")
        for node in self._nodes:
            role = "leader" if node.number == leader else "follower"
            self._say(f"  node {node.number}  {node.url}  {role:<8}  pid {node.pid}")
        first, other, last = self._nodes[0], self._nodes[1 % len(self._nodes)], self._nodes[-1]
        self._say("\nTry, in another terminal:", "bold")
        curl = "curl" if self._tls is None else f"curl --cacert {self._tls.authority_file}"
        self._say(f"  {curl} -X PUT --data-binary 'hello' {other.url}/v1/kv/greeting")
        self._say(f"  {curl} {last.url}/v1/kv/greeting")
        self._say(f"  {curl} '{first.url}/v1/kv?prefix=gre'")
        self._say(f"  {curl} {first.url}/v1/cluster")
        victim = self._cluster.nodes[leader].pid
        self._say(f"  kill -9 {victim}    # the leader; watch here what happens")
        scheme = "http" if self._tls is None else "https"
        page = first.url if self._page_port is None else f"{scheme}://{HOST}:{self._page_port}"
        self._say(f"\nDashboard: {page}/\nCtrl-C stops all nodes; the data stays.\n", "bold")

    async def _stop_nodes(self) -> None:
        for number in self._hands.frozen:
            # One that stands still would not hear that it is to stop.
            self._cluster.resume(number)
        running = [node.number for node in self._nodes if node.running]
        if running:
            self._say("\nStopping ...", "dim")
        for number in await self._cluster.stop_meanwhile():
            self._event(f"node {number} does not stop: killed", "red")
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
