"""What the page of a demo does to its nodes: stop, freeze, start, wipe, and pull their cables."""

import asyncio
import shutil
import signal
from collections.abc import Mapping
from typing import Any

from kvstore.client import ClusterStatus
from kvstore_cli.demo.network import DemoNetwork
from kvstore_cli.launcher.node_cluster import NodeCluster
from kvstore_cli.launcher.node_process import ServerProcess


class NotNow(Exception):
    """What a person wants would lose the cluster, or cannot be; the text says why."""


class NodeHands:
    """The nodes of a demo, and what was done to them. All that takes a number raises KeyError for
    no such node."""

    def __init__(self, cluster: NodeCluster, network: DemoNetwork | None) -> None:
        self._nodes: Mapping[int, ServerProcess] = cluster.nodes
        self._network = network
        self.held: dict[int, asyncio.Event] = {}
        """Nodes that are stopped, until they are started again."""
        self.frozen: set[int] = set()
        self.wiped: set[int] = set()
        """Nodes whose disk is to be emptied before they start."""
        self.views: dict[int, ClusterStatus] = {}
        """What each node that answers said last."""

    # -- what a person does -----------------------------------------------------------------

    def stop_node(self, number: int) -> None:
        """Kill it; it stays away until it is started."""
        node = self._nodes[number]
        self.held.setdefault(number, asyncio.Event())
        node.signal(signal.SIGKILL)

    def start_node(self, number: int) -> None:
        """Start it again, or let one that stands still go on."""
        node = self._nodes[number]
        if number in self.frozen:
            self.frozen.discard(number)
            node.signal(signal.SIGCONT)
        if (again := self.held.pop(number, None)) is not None:
            again.set()

    def freeze_node(self, number: int) -> None:
        """Let it stand still, its connections open."""
        node = self._nodes[number]
        if node.running and number not in self.held:
            self.frozen.add(number)
            node.signal(signal.SIGSTOP)

    def cut_node(self, number: int) -> None:
        """Let no message pass between it and the others. Raises NotNow."""
        self._cables(number).pull(number)

    def plug_node(self, number: int) -> None:
        """Let messages pass again. Raises NotNow."""
        self._cables(number).plug(number)

    def wipe_node(self, number: int) -> None:
        """Kill it, empty its disk, and start it. Raises NotNow where a quorum would be lost: what a
        voter knew is gone for good."""
        node = self._nodes[number]
        self._check_wipe(number)
        self.wiped.add(number)
        self.plug_if_pulled(number)
        node.signal(signal.SIGKILL)
        self.start_node(number)

    def plug_if_pulled(self, number: int) -> None:
        """Nothing that is cut off heals."""
        if self._network is not None:
            self._network.plug(number)

    def _cables(self, number: int) -> DemoNetwork:
        if number not in self._nodes:
            raise KeyError(number)
        if self._network is None:
            raise NotNow("the nodes of this demo are connected directly")
        return self._network

    def _check_wipe(self, number: int) -> None:
        others = [other for other in self._nodes if other != number]
        busy = [other for other in others if self.state_of(other) != "runs" or self.is_cut(other)]
        if busy or not others:
            told = ", ".join(f"node {other}" for other in busy) or "it is the only one"
            raise NotNow(f"all other nodes must run to heal an empty disk: {told}")
        for other in others:
            view = self.views.get(other)
            configuration = None if view is None else view.configuration
            if view is None or configuration is None or not view.node.ready:
                raise NotNow(f"node {other} does not serve yet: try again in a moment")
            settled = len(configuration.voters) == len(self._nodes) and not configuration.learners
            if not settled or configuration.under_way:
                raise NotNow("the members are being changed: try again in a moment")

    async def empty_disk(self, number: int) -> None:
        """Of a node that does not run. Raises OSError."""
        self.wiped.discard(number)
        self.views.pop(number, None)
        directory = self._nodes[number].data_dir
        if directory.exists():
            await asyncio.to_thread(shutil.rmtree, directory)

    # -- what is known ----------------------------------------------------------------------

    def states(self) -> list[dict[str, Any]]:
        """`id`, `pid`, `member` (its id in the cluster now), `state` and `cut` of each."""
        return [
            {
                "id": number,
                "pid": node.pid,
                "member": self.member_of(number),
                "state": self.state_of(number),
                "cut": self.is_cut(number),
            }
            for number, node in self._nodes.items()
        ]

    def state_of(self, number: int) -> str:
        """ "runs", "frozen" or "stopped"."""
        if number in self.frozen:
            return "frozen"
        running = self._nodes[number].running and number not in self.held
        return "runs" if running and number not in self.wiped else "stopped"

    def is_cut(self, number: int) -> bool:
        """Whether its cable is pulled."""
        return self._network is not None and number in self._network.pulled

    def member_of(self, number: int) -> int:
        """One that lost its disk is another member, with another id."""
        view = self.views.get(number)
        return number if view is None else view.node.id

    def number_of(self, member: int) -> int:
        """The node that is this member."""
        for number in self._nodes:
            if self.member_of(number) == member:
                return number
        return member
