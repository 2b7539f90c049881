"""Faults of members: disks that are lost, members that go and others that come in their place.

Each must heal by itself, or by the one change that undoes it, while clients read and write.
"""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from typing import Any

from proof.processes.faulty_places import FaultyPlaces
from proof.processes.network import NodeNetwork
from proof.torture.cluster import statuses
from proof.torture.faults.kinds import Group, Target, fault

HEALED_S_MAX = 45.0
CHANGED_S_MAX = 30.0
POLL_S = 0.1
ATTEMPTS = 40


def _needs_one_address(network: NodeNetwork, _: FaultyPlaces) -> str:
    if network.name == "namespaces":
        return ""
    return "each node has one address for all others only in network namespaces"


@fault(
    "wipe",
    "kill -9 of one node, and its data directory is gone",
    Group.PROCESS,
    nodes_min=3,
    pairs=False,
    unavailable=_needs_one_address,
)
async def _wipe(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    target.cluster.kill([node])
    shutil.rmtree(target.cluster.nodes[node].data_dir)
    target.cluster.start([node])
    yield f"node {node} wiped"
    await _votes(target, node)


@fault(
    "replace",
    "a member is removed, and another one added in its place",
    Group.PROCESS,
    nodes_min=3,
    pairs=False,
    unavailable=_needs_one_address,
)
async def _replace(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    own, name, address = await _identity(target, node)
    await _ask(target, node, "DELETE", f"/v1/cluster/members/{own}")
    process = target.cluster.nodes[node]
    process.wanted = False  # it is to end by itself
    yield f"member on node {node} removed"
    deadline_s = time.monotonic() + CHANGED_S_MAX
    while process.running:
        if time.monotonic() > deadline_s:
            target.problems.append(f"node {node} was removed, and did not end")
            break
        await asyncio.sleep(POLL_S)
    target.cluster.kill([node])
    shutil.rmtree(process.data_dir)
    added = {"name": name, "peer_address": address}
    await _ask(target, node, "POST", "/v1/cluster/members", added)
    target.cluster.start([node])
    await _votes(target, node)


@fault(
    "shrink",
    "a voter becomes a learner, and a voter again",
    Group.PROCESS,
    nodes_min=3,
    pairs=False,
    unavailable=_needs_one_address,
)
async def _shrink(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    own, _, _ = await _identity(target, node)
    configuration = await _configuration(target)
    voters = [one for one in configuration["voters"] if one != own]
    learners = [*configuration["learners"], own]
    wanted = {"voters": voters, "learners": learners}
    await _ask(target, node, "PUT", "/v1/cluster/configuration", wanted)
    yield f"member {own} on node {node} is a learner"
    back = {"voters": [*voters, own], "learners": configuration["learners"]}
    await _ask(target, node, "PUT", "/v1/cluster/configuration", back)
    await _votes(target, node)


@fault(
    "grow",
    "a member is removed while its node is away; the node comes back as a new one",
    Group.PROCESS,
    nodes_min=3,
    pairs=False,
    unavailable=_needs_one_address,
)
async def _grow(target: Target) -> AsyncIterator[str]:
    node = await target.victim()
    own, name, address = await _identity(target, node)
    process = target.cluster.nodes[node]
    target.cluster.kill([node])
    await _ask(target, node, "DELETE", f"/v1/cluster/members/{own}")
    yield f"node {node} killed and its member removed"
    shutil.rmtree(process.data_dir)
    await _ask(target, node, "POST", "/v1/cluster/members", {"name": name, "peer_address": address})
    target.cluster.start([node])
    await _votes(target, node)


async def _identity(target: Target, node: int) -> tuple[int, str, str]:
    """Id, name and peer address of the member on `node`."""
    while True:
        view = (await statuses(target.requests)).get(node)
        if view:
            own = view["node"]["id"]
            member = next(one for one in view["members"] if one["id"] == own)
            return own, member["name"], member["peer_address"]
        await asyncio.sleep(POLL_S)


async def _configuration(target: Target) -> dict[str, Any]:
    """As the first node says that knows it, and no change is under way."""
    while True:
        for view in (await statuses(target.requests)).values():
            configuration: dict[str, Any] | None = view.get("configuration") if view else None
            if configuration and not configuration["under_way"]:
                return configuration
        await asyncio.sleep(POLL_S)


async def _ask(
    target: Target, besides: int, method: str, path: str, body: dict[str, Any] | None = None
) -> None:
    """A change of members at any node but `besides`, until one has made it."""
    reply = None
    for attempt in range(ATTEMPTS):
        nodes = target.others(besides)
        reply = await target.requests.send(
            nodes[attempt % len(nodes)],
            method,
            path,
            body=None if body is None else json.dumps(body).encode(),
            timeout_s=6.0,
        )
        made_before = reply.status in (404, 409) and attempt > 0
        if reply.status in (200, 201) or made_before:
            return
        await asyncio.sleep(2 * POLL_S)
    target.problems.append(f"{method} {path} did not succeed: {reply}")


async def _votes(target: Target, node: int) -> None:
    """Until the node on `node` is a voter, and no change is under way."""
    deadline_s = time.monotonic() + HEALED_S_MAX
    while time.monotonic() < deadline_s:
        view = (await statuses(target.requests)).get(node)
        if view and view["node"]["ready"] and (configuration := view["configuration"]):
            voting = view["node"]["id"] in configuration["voters"]
            if voting and not configuration["under_way"]:
                return
        await asyncio.sleep(POLL_S)
    target.problems.append(f"node {node} was not a voter again after {HEALED_S_MAX:g} s")
