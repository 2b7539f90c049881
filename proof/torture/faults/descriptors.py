"""Clients take all the connections that they get, while a node starts anew and needs its links."""

import asyncio
import time
from collections.abc import AsyncIterator

from proof.processes.faulty_places import DESCRIPTORS
from proof.processes.squatters import Squatters
from proof.processes.waiting import until
from proof.torture.cluster import READY_S_MAX
from proof.torture.faults.kinds import Group, Target, fault

CONNECTIONS = DESCRIPTORS // 2 + 8
"""To each node: more than it has room for."""
LASTS_S = (2.0, 4.0)
FULL_S_MAX = 10.0
BACK_S_MAX = READY_S_MAX
POLL_S = 0.1


@fault("exhaust-descriptors", "clients hold all connections, and a node starts meanwhile",
       Group.SURROUNDINGS, lasts_s=LASTS_S, pairs=False)  # fmt: skip
async def _exhaust_descriptors(target: Target) -> AsyncIterator[str]:
    nodes = target.cluster.nodes
    squatters = {n: Squatters(nodes[n].client_address, CONNECTIONS) for n in nodes}
    for some in squatters.values():
        some.start()
    try:
        await until(lambda: all(some.refused for some in squatters.values()), FULL_S_MAX)
        # Before a node ends: then connections end for another reason.
        refused = [some.refused for some in squatters.values()]
        node = await target.victim()
        target.cluster.kill([node])
        target.cluster.start([node])
        if not await _serves(squatters[node]):
            target.problems.append(
                f"node {node} does not serve {BACK_S_MAX:g} s after its start, while clients hold "
                "all the connections that they get"
            )
        held = sum(some.most for some in squatters.values())
        yield f"clients hold {held} connections; node {node} was started anew"
    finally:
        for some in squatters.values():
            await some.close()
    target.count("connections refused at the bound", sum(refused) if all(refused) else 0)


async def _serves(squatters: Squatters) -> bool:
    """Whether the node becomes ready, as it says on a connection that a client holds."""
    deadline = time.monotonic() + BACK_S_MAX
    while await squatters.ask("/readyz") != 200:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True
