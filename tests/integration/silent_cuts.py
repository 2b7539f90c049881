"""Cuts that drop packets silently, and how long nodes need once they are mended."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from kvstore_cli.launcher.node_cluster import NodeCluster
from proof.processes.links import Cut, LinkState, Pair, both_ways
from proof.processes.namespaces import NamespaceNetwork

ELECTION_S = 0.4
"""An election time-out of nodes with default settings."""
READY_S = 60.0
LIMIT_S = 120.0
POLL_S = 0.02
TRY_S = 0.5


@dataclass(frozen=True)
class Healed:
    """Seconds from healing to the first write at any node, at each one, and until all are ready."""

    first_write_s: float
    every_write_s: float
    all_ready_s: float


class CutCluster:
    """Real nodes in network namespaces."""

    def __init__(self, nodes: int, network: NamespaceNetwork, processes: NodeCluster) -> None:
        self.numbers = list(range(1, nodes + 1))
        self.network = network
        self.processes = processes
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self, node: int, method: str, path: str, body: bytes = b"", timeout_s: float = TRY_S
    ) -> tuple[int, Any]:
        """Status and document; 0 if no answer came."""
        url = f"http://{self.network.listen_client(node)}{path}"
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            async with self._session.request(method, url, data=body, timeout=timeout) as answer:
                kind = answer.content_type
                return answer.status, await answer.json() if kind == "application/json" else None
        except (TimeoutError, aiohttp.ClientError, OSError):
            return 0, None

    async def put(self, node: int) -> bool:
        status, _ = await self.call(node, "PUT", f"/v1/kv/key-{node}?timeout={TRY_S}", b"x")
        return status == 200

    async def ready(self, node: int) -> bool:
        return (await self.call(node, "GET", "/readyz"))[0] == 200

    async def status(self, node: int) -> dict[str, Any]:
        return (await self.call(node, "GET", "/v1/cluster"))[1] or {}

    async def seconds(self, numbers: Iterable[int], done: Callable[[int], Any]) -> list[float]:
        """How long each of these nodes takes until `done`."""
        began_s = time.monotonic()

        async def one(node: int) -> float:
            while not await done(node):
                assert time.monotonic() - began_s < LIMIT_S, f"node {node} never does"
                await asyncio.sleep(POLL_S)
            return time.monotonic() - began_s

        return list(await asyncio.gather(*map(one, numbers)))

    async def leader(self, among: Iterable[int] = ()) -> int:
        """Who leads, as it says itself."""
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            for node in among or self.numbers:
                own = (await self.status(node)).get("node", {})
                if own.get("role") == "leader" and own.get("ready"):
                    return node
            await asyncio.sleep(POLL_S)
        raise AssertionError("nobody leads")

    def cut(self, pairs: Iterable[Pair]) -> None:
        """Packets in these directions vanish."""
        self.network.links.set(pairs, LinkState(cut=Cut.DROP))

    async def heal(self) -> Healed:
        """Mend all, and watch."""
        self.network.links.heal()
        writes, ready = await asyncio.gather(
            self.seconds(self.numbers, self.put), self.seconds(self.numbers, self.ready)
        )
        return Healed(min(writes), max(writes), max(ready))

    def around(self, some: Iterable[int]) -> list[Pair]:
        """All directions between these nodes and the others."""
        some = list(some)
        return both_ways(some, [node for node in self.numbers if node not in some])

    def all_pairs(self) -> list[Pair]:
        return both_ways(self.numbers, self.numbers)


@asynccontextmanager
async def cut_cluster(nodes: int, directory: Path) -> AsyncIterator[CutCluster]:
    """Ready nodes 1 to `nodes`. Raises NetworkUnavailable."""
    network = NamespaceNetwork(list(range(1, nodes + 1)), random.Random(1))
    try:
        await network.start()
        with NodeCluster(list(range(1, nodes + 1)), network, directory) as processes:
            cluster = CutCluster(nodes, network, processes)
            try:
                processes.start()
                await cluster.seconds(cluster.numbers, cluster.ready)
                yield cluster
            finally:
                await cluster.close()
    finally:
        await network.close()
