"""Packets that vanish without a word, until the kernel sends again only every few seconds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proof.processes.faulty_places import FaultyPlaces
from proof.processes.links import Cut, LinkState, Pair
from proof.processes.network import NodeNetwork
from proof.torture.cluster import wait_ready_one
from proof.torture.faults.kinds import Group, Target, fault

LASTS_S = (5.0, 10.0)
BACK_S_MAX = 5.0
"""Two seconds are the aim; the rest is for a busy machine. The kernel alone would take longer."""


def needs_packets(network: NodeNetwork, _: FaultyPlaces) -> str:
    """A proxy has no packets to drop: its kernel acknowledges what it swallows."""
    return "" if network.of_packets else f"network {network.name} has no packets"


@fault("silent-incoming", "what comes to one node vanishes, for long", Group.LINK,
       nodes_min=2, lasts_s=LASTS_S, pairs=False, unavailable=needs_packets)  # fmt: skip
async def _silent_incoming(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    async with _dropped(target, node, [(other, node) for other in target.others(node)]):
        yield f"packets to node {node} vanish"


@fault("silent-outgoing", "what one node sends vanishes, for long", Group.LINK,
       nodes_min=2, lasts_s=LASTS_S, pairs=False, unavailable=needs_packets)  # fmt: skip
async def _silent_outgoing(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    async with _dropped(target, node, [(node, other) for other in target.others(node)]):
        yield f"packets from node {node} vanish"


@asynccontextmanager
async def _dropped(target: Target, node: int, pairs: list[Pair]) -> AsyncIterator[None]:
    before = target.network.lost
    target.network.links.set(pairs, LinkState(cut=Cut.DROP))
    try:
        yield
    finally:
        target.network.links.heal()
    target.count("packets that vanished", target.network.lost - before)
    if not await wait_ready_one(target.requests, node, BACK_S_MAX):
        target.problems.append(
            f"node {node} does not serve {BACK_S_MAX:g} s after its packets arrive again"
        )
