"""Faults of processes: killed, paused, stopped and started."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proof.torture.faults.kinds import Group, Target, fault


@fault("kill-node", "kill -9 of one node", Group.PROCESS)
async def _kill_node(target: Target) -> AsyncIterator[str]:
    node = target.any_node()
    target.cluster.kill([node])
    yield f"node {node} killed"
    target.cluster.start([node])


@fault("kill-leader", "kill -9 of the leader", Group.PROCESS)
async def _kill_leader(target: Target) -> AsyncIterator[str]:
    node = await target.leader()
    target.cluster.kill([node])
    yield f"leader {node} killed"
    target.cluster.start([node])


@fault("kill-all", "kill -9 of all nodes at once", Group.PROCESS)
async def _kill_all(target: Target) -> AsyncIterator[str]:
    target.cluster.kill(target.numbers)
    yield "all nodes killed"
    target.cluster.start()


@fault("pause-node", "SIGSTOP of one node, then SIGCONT", Group.PROCESS)
async def _pause_node(target: Target) -> AsyncIterator[str]:
    async with _paused(target, target.any_node()) as node:
        yield f"node {node} paused"


@fault("pause-leader", "SIGSTOP of the leader, then SIGCONT", Group.PROCESS)
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


@fault("restart-node", "SIGTERM of one node, and its start", Group.PROCESS)
async def _restart_node(target: Target) -> AsyncIterator[str]:
    node = target.any_node()
    await target.cluster.stop_meanwhile([node])
    yield f"node {node} stopped"
    target.cluster.start([node])


@fault("restart-all", "SIGTERM of all nodes at once, and their start", Group.PROCESS)
async def _restart_all(target: Target) -> AsyncIterator[str]:
    await target.cluster.stop_meanwhile(target.numbers)
    yield "all nodes stopped"
    target.cluster.start()
