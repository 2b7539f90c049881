"""Real replicas on this machine's loopback: their settings, and when they have met."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kvstore.config import Config
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from tests.support.ports import free_ports


def configs_of(count: int, directory: Path) -> list[Config]:
    """One cluster, with its data below `directory`."""
    members = {n: ("127.0.0.1", port) for n, port in enumerate(free_ports(count), 1)}
    return [
        Config(node_id=n, members=members, listen_peer=members[n], data_dir=directory / str(n))
        for n in members
    ]


@asynccontextmanager
async def opened(configs: Sequence[Config]) -> AsyncIterator[list[Replica]]:
    """A replica of each, until the block ends."""
    replicas = list(await asyncio.gather(*(open_replica(config) for config in configs)))
    try:
        yield replicas
    finally:
        await asyncio.gather(*(replica.stop() for replica in replicas))


async def settled(replicas: list[Replica]) -> None:
    """Until all are ready and have applied the same."""
    async with asyncio.timeout(60):
        while len({(r.state.applied_through, r.state.digest) for r in replicas}) > 1 or not all(
            r.status().ready for r in replicas
        ):
            await asyncio.sleep(0.01)


def run(test: Coroutine[Any, Any, None], limit_s: float = 20) -> None:
    """Run `test` on a loop of its own; it fails after `limit_s` seconds."""

    async def bounded() -> None:
        async with asyncio.timeout(limit_s):
            await test

    asyncio.run(bounded())
