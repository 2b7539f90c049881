"""Faults of links: cut in one direction or both, slow, lossy, coming and going."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from proof.processes.links import Cut, LinkState, Pair, both_ways
from proof.torture.faults.kinds import Group, Target, fault

FLAP_S = (0.05, 0.4)
SLOW_S = (0.02, 0.15)
LOSS = (0.02, 0.15)


@asynccontextmanager
async def _linked(target: Target, pairs: list[Pair], link: LinkState) -> AsyncIterator[None]:
    target.network.links.set(pairs, link)
    try:
        yield
    finally:
        target.network.links.heal()


@fault("isolate-node", "one node cut off from all others", Group.LINK, nodes_min=2)
async def _isolate_node(target: Target) -> AsyncIterator[str]:
    node = target.any_node()
    link = target.cut()
    async with _linked(target, both_ways([node], target.others(node)), link):
        yield f"node {node} isolated ({link.cut})"


@fault("isolate-leader", "the leader cut off from all others", Group.LINK, nodes_min=2)
async def _isolate_leader(target: Target) -> AsyncIterator[str]:
    node = await target.leader()
    link = target.cut()
    async with _linked(target, both_ways([node], target.others(node)), link):
        yield f"leader {node} isolated ({link.cut})"


@fault("split", "a majority and a minority that do not hear each other",
        Group.LINK, nodes_min=2)  # fmt: skip
async def _split(target: Target) -> AsyncIterator[str]:
    shuffled = target.others()
    minority = sorted(shuffled[: (len(shuffled) - 1) // 2 or 1])
    majority = sorted(shuffled[len(minority) :])
    link = target.cut()
    async with _linked(target, both_ways(minority, majority), link):
        yield f"nodes {minority} against {majority} ({link.cut})"


@fault("one-way", "one node is heard and hears nothing, or the reverse",
        Group.LINK, nodes_min=2)  # fmt: skip
async def _one_way(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    others = target.others(node)
    deaf = target.rng.random() < 0.5
    pairs = [(other, node) if deaf else (node, other) for other in others]
    async with _linked(target, pairs, LinkState(cut=Cut.HOLD)):
        yield f"node {node} {'hears nothing' if deaf else 'is not heard'}"


@fault("bridge", "the leader reaches only one other, which reaches all",
        Group.LINK, nodes_min=3)  # fmt: skip
async def _bridge(target: Target) -> AsyncIterator[str]:
    leader = await target.leader()
    friend, *rest = target.others(leader)
    link = target.cut()
    async with _linked(target, both_ways([leader], rest), link):
        yield f"leader {leader} reaches only node {friend} ({link.cut})"


@fault("slow-links", "delay and jitter on all links", Group.LINK, nodes_min=2)
async def _slow_links(target: Target) -> AsyncIterator[str]:
    link = LinkState(delay_s=target.rng.uniform(*SLOW_S), jitter_s=target.rng.uniform(*SLOW_S))
    async with _linked(target, both_ways(target.numbers, target.numbers), link):
        low, high = 1000 * link.delay_s, 1000 * (link.delay_s + link.jitter_s)
        yield f"{low:.0f} to {high:.0f} ms on every link"


@fault("lossy-links", "loss on all links", Group.LINK, nodes_min=2)
async def _lossy_links(target: Target) -> AsyncIterator[str]:
    link = LinkState(loss=target.rng.uniform(*LOSS))
    async with _linked(target, both_ways(target.numbers, target.numbers), link):
        yield f"{100 * link.loss:.0f} % lost on every link"


@fault("flapping-link", "the leader's link to one other comes and goes",
        Group.LINK, nodes_min=2)  # fmt: skip
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
        target.network.links.heal()


async def _flap(target: Target, pairs: list[Pair]) -> None:
    while True:
        target.network.links.set(pairs, target.cut())
        await asyncio.sleep(target.rng.uniform(*FLAP_S))
        target.network.links.heal()
        await asyncio.sleep(target.rng.uniform(*FLAP_S))
