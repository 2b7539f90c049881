"""The nodes under torture, and what they say of themselves."""

import asyncio
import time
from pathlib import Path
from typing import Any

from kvstore_cli.launcher.node_cluster import NodeCluster, NodePlaces
from proof.torture.requests import Requests

READY_S_MAX = 60.0
_READY_POLL_S = 0.1
IDEMPOTENCY_TTL_S = 60
_SETTINGS = {
    # Every acknowledged write is read back at its revision, so all must stay readable.
    "history-revisions": 0,
    # Short, so that a node which was away sometimes needs a snapshot.
    "log-tail-slots": 200,
    # Short, so that answers expire in the run: not before this time, and in the end.
    "idempotency-ttl-s": IDEMPOTENCY_TTL_S,
}


def torture_nodes(nodes: int, places: NodePlaces, directory: Path) -> NodeCluster:
    """Nodes 1 to `nodes` in `places`, which are there already; nothing is started."""
    return NodeCluster(range(1, nodes + 1), places, directory, settings=_SETTINGS)


async def statuses(requests: Requests, timeout_s: float = 1.0) -> dict[int, dict[str, Any]]:
    """`GET /v1/cluster` of every node; {} for one that does not answer."""
    nodes = list(requests.endpoints)
    replies = await asyncio.gather(
        *(requests.send(n, "GET", "/v1/cluster", timeout_s=timeout_s) for n in nodes)
    )
    return {n: r.document() if r.status == 200 else {} for n, r in zip(nodes, replies, strict=True)}


async def leader_of(requests: Requests) -> int | None:
    """The node that leads under the highest ballot, if any says that it leads."""
    views = await statuses(requests, 0.5)
    leading = {n: v for n, v in views.items() if v and v["node"]["role"] == "leader"}
    return max(leading, key=lambda n: _ballot(leading[n]), default=None)


def _ballot(view: dict[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, str(view["ballot"]).split(".")))


async def wait_ready(requests: Requests, limit_s: float = READY_S_MAX) -> list[int]:
    """Wait until every node serves; those that do not in time."""
    deadline = time.monotonic() + limit_s
    while True:
        replies = await asyncio.gather(
            *(requests.send(n, "GET", "/readyz", timeout_s=1.0) for n in requests.endpoints)
        )
        late = [n for n, r in zip(requests.endpoints, replies, strict=True) if r.status != 200]
        if not late or time.monotonic() > deadline:
            return late
        await asyncio.sleep(_READY_POLL_S)


async def wait_ready_one(requests: Requests, node: int, limit_s: float) -> bool:
    """Wait until `node` serves; whether it did in time."""
    deadline = time.monotonic() + limit_s
    while (await requests.send(node, "GET", "/readyz", timeout_s=1.0)).status != 200:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_READY_POLL_S)
    return True
