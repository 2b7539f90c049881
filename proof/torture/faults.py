"""What can be done to a cluster: one asynchronous context per fault, which ends it on leaving.

Faults of processes undo themselves only if nothing goes wrong in between: whoever ends the run
ends the processes anyway.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass

from kvstore_cli.node_cluster import NodeCluster
from proof.processes.links import Cut, Links, LinkState, Pair, both_ways
from proof.torture.cluster import leader_of
from proof.torture.requests import Requests

FLAP_S = (0.05, 0.4)
SLOW_S = (0.02, 0.15)
LOSS = (0.02, 0.15)


@dataclass
class Target:
    """What a fault works on, and its randomness."""

    cluster: NodeCluster
    links: Links
    requests: Requests
    rng: random.Random

    @property
    def numbers(self) -> list[int]:
        """All nodes."""
        return self.cluster.numbers

    def any_node(self) -> int:
        """Some node."""
        return self.rng.choice(self.numbers)

    async def leader(self) -> int:
        """The leader, or some node if there is none."""
        return await leader_of(self.requests) or self.any_node()

    def others(self, *excluded: int) -> list[int]:
        """All nodes but these, in random order."""
        found = [n for n in self.numbers if n not in excluded]
        self.rng.shuffle(found)
        return found

    def cut(self) -> LinkState:
        """A cut, of one of the kinds."""
        return LinkState(cut=self.rng.choice([Cut.HOLD, Cut.DROP, Cut.RESET]))


Injection = Callable[[Target], AbstractAsyncContextManager[str]]


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault. `inject` gives what was done, in words."""

    name: str
    summary: str
    of_network: bool
    nodes_min: int
    inject: Injection


FAULTS: dict[str, FaultKind] = {}
"""All kinds, in the order in which they are documented."""


def _fault(
    name: str, summary: str, *, of_network: bool = False, nodes_min: int = 1
) -> Callable[[Callable[[Target], AsyncIterator[str]]], None]:
    def register(inject: Callable[[Target], AsyncIterator[str]]) -> None:
        context = asynccontextmanager(inject)
        FAULTS[name] = FaultKind(name, summary, of_network, nodes_min, context)

    return register


# -- processes --------------------------------------------------------------------------------


@_fault("kill-node", "kill -9 of one node")
async def _kill_node(target: Target) -> AsyncIterator[str]:
    node = target.any_node()
    target.cluster.kill([node])
    yield f"node {node} killed"
    target.cluster.start([node])


@_fault("kill-leader", "kill -9 of the leader")
async def _kill_leader(target: Target) -> AsyncIterator[str]:
    node = await target.leader()
    target.cluster.kill([node])
    yield f"leader {node} killed"
    target.cluster.start([node])


@_fault("kill-all", "kill -9 of all nodes at once")
async def _kill_all(target: Target) -> AsyncIterator[str]:
    target.cluster.kill(target.numbers)
    yield "all nodes killed"
    target.cluster.start()


@_fault("pause-node", "SIGSTOP of one node, then SIGCONT")
async def _pause_node(target: Target) -> AsyncIterator[str]:
    async with _paused(target, target.any_node()) as node:
        yield f"node {node} paused"


@_fault("pause-leader", "SIGSTOP of the leader, then SIGCONT")
async def _pause_leader(target: Target) -> AsyncIterator[str]:
    async with _paused(target, await target.leader()) as node:
        yield f"leader {node} paused"


@asynccontextmanager
async def _paused(target: Target, node: int) -> AsyncIterator[int]:
    target.cluster.pause(node)
    try:
        yield node
    finally:
        target.cluster.resume(node)


@_fault("restart-node", "SIGTERM of one node, and its start")
async def _restart_node(target: Target) -> AsyncIterator[str]:
    node = target.any_node()
    await target.cluster.stop_meanwhile([node])
    yield f"node {node} stopped"
    target.cluster.start([node])


@_fault("restart-all", "SIGTERM of all nodes at once, and their start")
async def _restart_all(target: Target) -> AsyncIterator[str]:
    await target.cluster.stop_meanwhile(target.numbers)
    yield "all nodes stopped"
    target.cluster.start()


# -- links ------------------------------------------------------------------------------------


@asynccontextmanager
async def _linked(target: Target, pairs: list[Pair], link: LinkState) -> AsyncIterator[None]:
    target.links.set(pairs, link)
    try:
        yield
    finally:
        target.links.heal()


@_fault("isolate-node", "one node cut off from all others", of_network=True, nodes_min=2)
async def _isolate_node(target: Target) -> AsyncIterator[str]:
    node = target.any_node()
    link = target.cut()
    async with _linked(target, both_ways([node], target.others(node)), link):
        yield f"node {node} isolated ({link.cut})"


@_fault("isolate-leader", "the leader cut off from all others", of_network=True, nodes_min=2)
async def _isolate_leader(target: Target) -> AsyncIterator[str]:
    node = await target.leader()
    link = target.cut()
    async with _linked(target, both_ways([node], target.others(node)), link):
        yield f"leader {node} isolated ({link.cut})"


@_fault("split", "a majority and a minority that do not hear each other",
        of_network=True, nodes_min=2)  # fmt: skip
async def _split(target: Target) -> AsyncIterator[str]:
    shuffled = target.others()
    minority = sorted(shuffled[: (len(shuffled) - 1) // 2 or 1])
    majority = sorted(shuffled[len(minority) :])
    link = target.cut()
    async with _linked(target, both_ways(minority, majority), link):
        yield f"nodes {minority} against {majority} ({link.cut})"


@_fault("one-way", "one node is heard and hears nothing, or the reverse",
        of_network=True, nodes_min=2)  # fmt: skip
async def _one_way(target: Target) -> AsyncIterator[str]:
    node = target.any_node() if target.rng.random() < 0.5 else await target.leader()
    others = target.others(node)
    deaf = target.rng.random() < 0.5
    pairs = [(other, node) if deaf else (node, other) for other in others]
    async with _linked(target, pairs, LinkState(cut=Cut.HOLD)):
        yield f"node {node} {'hears nothing' if deaf else 'is not heard'}"


@_fault("bridge", "the leader reaches only one other, which reaches all",
        of_network=True, nodes_min=3)  # fmt: skip
async def _bridge(target: Target) -> AsyncIterator[str]:
    leader = await target.leader()
    friend, *rest = target.others(leader)
    link = target.cut()
    async with _linked(target, both_ways([leader], rest), link):
        yield f"leader {leader} reaches only node {friend} ({link.cut})"


@_fault("slow-links", "delay and jitter on all links", of_network=True, nodes_min=2)
async def _slow_links(target: Target) -> AsyncIterator[str]:
    link = LinkState(delay_s=target.rng.uniform(*SLOW_S), jitter_s=target.rng.uniform(*SLOW_S))
    async with _linked(target, both_ways(target.numbers, target.numbers), link):
        low, high = 1000 * link.delay_s, 1000 * (link.delay_s + link.jitter_s)
        yield f"{low:.0f} to {high:.0f} ms on every link"


@_fault("lossy-links", "loss on all links", of_network=True, nodes_min=2)
async def _lossy_links(target: Target) -> AsyncIterator[str]:
    link = LinkState(loss=target.rng.uniform(*LOSS))
    async with _linked(target, both_ways(target.numbers, target.numbers), link):
        yield f"{100 * link.loss:.0f} % lost on every link"


@_fault("flapping-link", "the leader's link to one other comes and goes",
        of_network=True, nodes_min=2)  # fmt: skip
async def _flapping_link(target: Target) -> AsyncIterator[str]:
    leader = await target.leader()
    other = target.others(leader)[0]
    task = asyncio.create_task(_flap(target, both_ways([leader], [other])))
    try:
        yield f"the link of leader {leader} and node {other} flaps"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        target.links.heal()


async def _flap(target: Target, pairs: list[Pair]) -> None:
    while True:
        target.links.set(pairs, target.cut())
        await asyncio.sleep(target.rng.uniform(*FLAP_S))
        target.links.heal()
        await asyncio.sleep(target.rng.uniform(*FLAP_S))
