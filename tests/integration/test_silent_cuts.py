"""Packets dropped silently between real nodes, in network namespaces: once healed, all serve soon.

The whole table of cuts: `python -m tests.integration.test_silent_cuts 5 60`.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from proof.processes.links import Pair
from proof.processes.namespaces import unavailable
from tests.integration.silent_cuts import ELECTION_S, CutCluster, cut_cluster

pytestmark = [
    pytest.mark.integration,
    pytest.mark.proof,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available"),
]
SLACK_S = 1.0
"""For a machine that is busy with other tests."""


async def _follower(cluster: CutCluster) -> list[Pair]:
    leader = await cluster.leader()
    return cluster.around([next(n for n in cluster.numbers if n != leader)])


async def _incoming(cluster: CutCluster) -> list[Pair]:
    victim = (await _follower(cluster))[0][0]
    return [pair for pair in await _follower(cluster) if pair[1] == victim]


async def _outgoing(cluster: CutCluster) -> list[Pair]:
    victim = (await _follower(cluster))[0][0]
    return [pair for pair in await _follower(cluster) if pair[0] == victim]


async def _leader(cluster: CutCluster) -> list[Pair]:
    return cluster.around([await cluster.leader()])


async def _leader_incoming(cluster: CutCluster) -> list[Pair]:
    leader = await cluster.leader()
    return [pair for pair in cluster.around([leader]) if pair[1] == leader]


async def _all(cluster: CutCluster) -> list[Pair]:
    return cluster.all_pairs()


CUTS: dict[str, Callable[[CutCluster], Awaitable[list[Pair]]]] = {
    "a follower": _follower,
    "what comes to a follower": _incoming,
    "what a follower sends": _outgoing,
    "the leader": _leader,
    "what comes to the leader": _leader_incoming,
    "all links": _all,
}


def test_soon_after_healing_all_nodes_serve(tmp_path: Path) -> None:
    """However long the cut: here it is longer than the kernel's first repetitions."""

    async def run() -> None:
        async with cut_cluster(3, tmp_path) as cluster:
            for name in ("all links", "what comes to a follower"):
                cluster.cut(await CUTS[name](cluster))
                await asyncio.sleep(6.0)
                healed = await cluster.heal()
                assert healed.first_write_s < 2 * ELECTION_S + SLACK_S, f"{name}: {healed}"
                assert healed.all_ready_s < 2.0 + SLACK_S, f"{name}: {healed}"

    asyncio.run(run())


def test_a_silent_peer_is_not_connected(tmp_path: Path) -> None:
    async def run() -> None:
        async with cut_cluster(3, tmp_path) as cluster:
            leader = await cluster.leader()
            cluster.cut(cluster.around([leader]))
            other = next(n for n in cluster.numbers if n != leader)

            async def told(node: int) -> bool:
                members = (await cluster.status(node)).get("members", [])
                seen = {m["id"]: m for m in members}
                return not seen.get(leader, {"connected": True})["connected"]

            assert (await cluster.seconds([other], told))[0] < 4 * ELECTION_S + SLACK_S

    asyncio.run(run())


def hub_only(cluster: CutCluster, hub: int, leader: int | None) -> list[Pair]:
    """What is cut if only `hub` reaches others, and `leader`, if it is given, nobody."""
    return [
        (a, b)
        for a, b in cluster.all_pairs()
        if hub not in (a, b) or (leader is not None and leader in (a, b))
    ]


def test_five_nodes_of_which_one_reaches_a_quorum(tmp_path: Path) -> None:
    """Omni-Paxos's quorum loss and constrained scenarios: seconds without a write."""

    async def run() -> None:
        async with cut_cluster(5, tmp_path) as cluster:
            for constrained in (False, True):
                leader = await cluster.leader()
                hub = next(n for n in cluster.numbers if n != leader)
                cluster.cut(hub_only(cluster, hub, leader if constrained else None))
                took = (await cluster.seconds([hub], cluster.put))[0]
                assert took < 4 * ELECTION_S + SLACK_S
                await cluster.heal()

    asyncio.run(run())


async def measure(seconds: list[float]) -> None:
    """Print a table."""
    with TemporaryDirectory() as directory:
        async with cut_cluster(3, Path(directory)) as cluster:
            for for_s in seconds:
                for name, choose in CUTS.items():
                    cluster.cut(await choose(cluster))
                    await asyncio.sleep(for_s)
                    healed = await cluster.heal()
                    print(
                        f"{name:26} {for_s:5.1f} s: first write {healed.first_write_s:6.2f} s, at "
                        f"every node {healed.every_write_s:6.2f} s, all ready "
                        f"{healed.all_ready_s:6.2f} s",
                        flush=True,
                    )
            await _measure_kill_of_all(cluster)
    with TemporaryDirectory() as directory:
        async with cut_cluster(5, Path(directory)) as cluster:
            for constrained in (False, True):
                for _ in range(5):
                    leader = await cluster.leader()
                    hub = next(n for n in cluster.numbers if n != leader)
                    cluster.cut(hub_only(cluster, hub, leader if constrained else None))
                    took = (await cluster.seconds([hub], cluster.put))[0]
                    name = "constrained" if constrained else "quorum loss"
                    print(f"{name}: a write at the hub after {took:.2f} s", flush=True)
                    await cluster.heal()


async def _measure_kill_of_all(cluster: CutCluster) -> None:
    for _ in range(3):
        cluster.processes.kill()
        began_s = time.monotonic()
        cluster.processes.start()
        took = min(await cluster.seconds(cluster.numbers, cluster.put))
        print(f"all killed: first write {took:.2f} s after the start of the processes", flush=True)
        assert time.monotonic() - began_s >= took
        await cluster.seconds(cluster.numbers, cluster.ready)


if __name__ == "__main__":
    asyncio.run(measure([float(text) for text in sys.argv[1:]]))
