"""How long others wait while somebody asks for much: a put every 10 ms beside one hostile request.

python -m benchmarks.stalls [--keys 1000000] [--only TEXT] [--output FILE]

Three nodes of ours on loopback. Each request runs alone, with puts to the three nodes in turn
beside it, each begun on time however late the one before was. A put's time counts from when it was
due, so a stall is seen whole. The request is made by another process than the puts, which reads its
answer and throws it away: what it takes to do so is no stall of the puts. With 1,000,000 keys all
of it takes about seven minutes on two cores; the first row says how long puts take beside nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.shared.procfs import machine, resident_mb
from benchmarks.shared.session import publish, say, workspace
from benchmarks.shared.tables import table
from benchmarks.systems.clusters import ClusterFailed, OurBenchCluster
from kvstore.state.budget import KEYS_MAX, LEASE_KEYS_MAX

EVERY_S = 0.010
IDLE_S = 3.0
SETTLE_S = 1.0
WATCH_S = 5.0
LEASE, EMPTY_LEASES = 7, 20_000
DELETED_MAX = KEYS_MAX // 2
LARGE_KEYS, OFTEN = 64, 5_000
WHOLE = (b"k", b"l")
NOTHING = "nothing"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def span(start: bytes, end: bytes, **more: Any) -> dict[str, Any]:
    """A range as etcd's API takes it."""
    return {"key": b64(start), "range_end": b64(end), **more}


@dataclass
class StallLoad:
    """The cluster under test, and the client that asks it."""

    session: aiohttp.ClientSession
    addresses: list[str]
    keys: int
    waits: list[float] = field(default_factory=list)
    failed: int = 0

    async def send(self, method: str, path: str, body: Any = None, node: int = 0) -> str:
        """The status and the size of an answer."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        url = f"http://{self.addresses[node]}{path}"
        async with self.session.request(method, url, data=data) as reply:
            size = 0
            async for piece in reply.content.iter_any():
                size += len(piece)
        return f"{reply.status}, {size / 1e6:.1f} MB" if size > 99_999 else f"{reply.status}"

    async def etcd(self, call: str, body: Any) -> str:
        return await self.send("POST", f"/v3/{call}", body)

    async def batch(self, operations: list[dict[str, Any]]) -> None:
        await self.send("POST", "/v1/batch", operations)

    async def revision(self) -> int:
        async with self.session.get(f"http://{self.addresses[0]}/v1/cluster") as reply:
            return int((await reply.json())["revision"])

    async def compacted_revision(self) -> int:
        async with self.session.get(f"http://{self.addresses[0]}/v1/cluster") as reply:
            return int((await reply.json())["compacted_revision"])

    async def ballot(self) -> str:
        async with self.session.get(f"http://{self.addresses[0]}/v1/cluster") as reply:
            return str((await reply.json())["ballot"])

    async def put_for_ever(self) -> None:
        """A put every 10 ms."""
        due_s, number = time.monotonic(), 0
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._put(number, due_s))
                running.add(task)
                task.add_done_callback(running.discard)
                number, due_s = number + 1, due_s + EVERY_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        finally:
            await asyncio.gather(*running, return_exceptions=True)

    async def _put(self, number: int, due_s: float) -> None:
        status = "none"
        try:
            path = f"/v1/kv/put-{number % 50}"
            status = await self.send("PUT", path, b"v" * 64, number % len(self.addresses))
        except (aiohttp.ClientError, TimeoutError):
            pass
        self.failed += status != "200"
        self.waits.append(time.monotonic() - due_s)


async def fill(load: StallLoad) -> None:
    """Many small keys, some large values, one key that is written often, one lease with many."""
    say(f"loading {load.keys} keys")
    await load.etcd("lease/grant", {"ID": LEASE, "TTL": 100_000})
    waiting: set[asyncio.Task[None]] = set()
    for some in range(0, load.keys, 1000):
        puts = [
            {"put": {"key": f"k{at:08d}", "value": "v" * 16}} for at in range(some, some + 1000)
        ]
        waiting.add(asyncio.create_task(load.batch(puts)))
        if len(waiting) >= 4:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*waiting)
    for some in range(0, LEASE_KEYS_MAX, 500):
        leased = [{"key": f"lease-{at:06d}", "value": ""} for at in range(some, some + 500)]
        await load.batch([{"put": {**each, "lease": str(LEASE)}} for each in leased])
    for some in range(0, EMPTY_LEASES, 200):
        ids = range(LEASE + 1 + some, LEASE + 201 + some)
        await asyncio.gather(*(load.etcd("lease/grant", {"ID": i, "TTL": 100_000}) for i in ids))
    for at in range(LARGE_KEYS):
        await load.send("PUT", f"/v1/kv/large-{at:03d}", b"v" * (1 << 20))
    for at in range(0, OFTEN, 100):
        await asyncio.gather(
            *(load.send("PUT", "/v1/kv/often", str(n).encode()) for n in range(at, at + 100))
        )


async def _pages(load: StallLoad) -> str:
    pages, cursor = 0, ""
    while pages < 300:
        path = f"/v1/kv?prefix=k&limit=1000{cursor}"
        async with load.session.get(f"http://{load.addresses[0]}{path}") as reply:
            found = json.loads(await reply.read())
        pages += 1
        if not found.get("cursor"):
            break
        cursor = f"&cursor={found['cursor']}"
    return f"200, {pages} pages"


async def _watch(load: StallLoad) -> str:
    first = await load.compacted_revision() + 1
    url = f"http://{load.addresses[0]}/v1/watch?prefix=&from_revision={first}"
    size = 0
    try:
        async with asyncio.timeout(WATCH_S), load.session.get(url) as reply:
            async for piece in reply.content.iter_any():
                size += len(piece)
    except TimeoutError:
        pass
    return f"{reply.status}, {size / 1e6:.1f} MB"


async def _times(count: int, ask: Callable[[], Awaitable[str]]) -> str:
    answers = await asyncio.gather(*(ask() for _ in range(count)))
    return f"{count} x {answers[0]}"


Request = Callable[[StallLoad], Awaitable[str]]


def _txn(*operations: dict[str, Any], put: bool = False) -> dict[str, Any]:
    writes = [{"request_put": {"key": b64(b"txn"), "value": ""}}] if put else []
    return {"success": [*operations, *writes]}


def requests() -> dict[str, Request]:
    """All that is tried, by name."""
    whole, large = span(*WHOLE), span(b"large", b"largf")
    count = {"request_range": span(*WHOLE, count_only=True)}
    get_large = {"request_range": large}
    compare = {**span(*WHOLE), "target": "VERSION", "result": "GREATER", "version": "0"}
    few = span(b"k00000000", b"k%08d" % DELETED_MAX)
    puts = [{"put": {"key": f"b{at}", "value": "v" * 8000}} for at in range(1000)]
    return {
        NOTHING: lambda load: asyncio.sleep(IDLE_S, "-"),
        "range of all keys": lambda load: load.etcd("kv/range", whole),
        "three of them at once": lambda load: _times(3, lambda: load.etcd("kv/range", whole)),
        "keys only, descending": lambda load: load.etcd(
            "kv/range", {**whole, "keys_only": True, "sort_order": "DESCEND"}
        ),
        "count": lambda load: load.etcd("kv/range", {**whole, "count_only": True}),
        "20 counts at once": lambda load: _times(
            20, lambda: load.etcd("kv/range", {**whole, "count_only": True})
        ),
        "the ten newest": lambda load: load.etcd(
            "kv/range", {**whole, "sort_target": "MOD", "sort_order": "DESCEND", "limit": 10}
        ),
        "all, sorted by value": lambda load: load.etcd(
            "kv/range", {**whole, "sort_target": "VALUE", "sort_order": "DESCEND"}
        ),
        "all that is newer than all": lambda load: load.etcd(
            "kv/range", {**whole, "min_mod_revision": 1 << 40}
        ),
        "range of 64 values of 1 MiB": lambda load: load.etcd("kv/range", large),
        "four of them at once": lambda load: _times(4, lambda: load.etcd("kv/range", large)),
        "range at an old revision": _old,
        "transaction of 32 counts": lambda load: load.etcd("kv/txn", _txn(*[count] * 32)),
        "the same, and a put": lambda load: load.etcd("kv/txn", _txn(*[count] * 32, put=True)),
        "128 gets of 64 MiB": lambda load: load.etcd("kv/txn", _txn(*[get_large] * 127)),
        "the same, and a put ": lambda load: load.etcd(
            "kv/txn", _txn(*[get_large] * 127, put=True)
        ),
        "128 compares of all keys": lambda load: load.etcd(
            "kv/txn", {"compare": [compare] * 128, **_txn(put=True)}
        ),
        "page of 1,000": lambda load: load.send("GET", "/v1/kv?prefix=k&limit=1000"),
        "300 pages, one by one": _pages,
        "history of a key": lambda load: load.send("GET", "/v1/kv/often?history&limit=1000"),
        "watch from the beginning": _watch,
        "keys of a lease": lambda load: load.send("GET", f"/v1/leases/{LEASE}"),
        "batch of 1,000 x 8 kB": lambda load: load.send("POST", "/v1/batch", puts),
        "a copy of the state": lambda load: load.send("POST", "/v3/maintenance/snapshot", {}),
        "all leases": lambda load: load.etcd("lease/leases", {}),
        f"end of a lease, {LEASE_KEYS_MAX:,} keys": lambda load: load.send(
            "DELETE", f"/v1/leases/{LEASE}"
        ),
        f"deletion of {DELETED_MAX:,} keys": lambda load: load.etcd("kv/deleterange", few),
        "deletion of all keys": lambda load: load.etcd("kv/deleterange", whole),
        "compaction": _compact,
    }


async def _old(load: StallLoad) -> str:
    return await load.etcd("kv/range", span(*WHOLE, revision=await load.revision() - OFTEN))


async def _compact(load: StallLoad) -> str:
    return await load.etcd("kv/compaction", {"revision": await load.revision()})


@asynccontextmanager
async def load_of(addresses: list[str], keys: int) -> AsyncIterator[StallLoad]:
    """A client of the cluster."""
    timeout = aiohttp.ClientTimeout(total=300)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield StallLoad(session, addresses, keys)


def ask(addresses: list[str], keys: int, name: str) -> str:
    """Make one request, in a process of its own."""

    async def run() -> str:
        async with load_of(addresses, keys) as load:
            try:
                return await requests()[name](load)
            except (aiohttp.ClientError, TimeoutError) as error:
                return type(error).__name__

    return asyncio.run(run())


async def measure(
    load: StallLoad, cluster: OurBenchCluster, asker: ProcessPoolExecutor, name: str
) -> list[str]:
    """One row of the table."""
    load.waits, load.failed = [], 0
    before, memory = await load.ballot(), _memory(cluster)
    putting = asyncio.create_task(load.put_for_ever())
    await asyncio.sleep(SETTLE_S / 2)
    began_s = time.monotonic()
    loop = asyncio.get_running_loop()
    answer = await loop.run_in_executor(asker, ask, load.addresses, load.keys, name)
    took_s = time.monotonic() - began_s
    await asyncio.sleep(SETTLE_S)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    after = await load.ballot()
    longest_ms, waits = max(load.waits) * 1000, sorted(load.waits)
    row = [
        name.strip(), answer, f"{took_s:.2f}", f"{longest_ms:.0f}",
        f"{waits[len(waits) * 99 // 100] * 1000:.0f}", str(load.failed),
        f"{_memory(cluster) - memory:+.0f}", "0" if before == after else f"{before} to {after}",
    ]  # fmt: skip
    say("  ".join(row))
    return row


def _memory(cluster: OurBenchCluster) -> float:
    """The most that any node holds now, in MB."""
    return max(resident_mb(pid)[0] for pid in cluster.pids())


HEAD = (
    "request", "answer", "s", "longest put, ms", "p99, ms", "failed puts", "memory, MB",
    "leader changes",
)  # fmt: skip


async def run(cluster: OurBenchCluster, keys: int, only: str) -> str:
    """The whole table."""
    addresses = [node.client_address for node in cluster.nodes]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as asker:
        asker.submit(ask, addresses, keys, NOTHING).result()  # it is started, and has all it needs
        async with load_of(addresses, keys) as load:
            await fill(load)
            await asyncio.sleep(SETTLE_S)
            names = [name for name in requests() if only in name]
            rows = [await measure(load, cluster, asker, name) for name in names]
    before, after = os.getloadavg()[1:]
    return f"{table(HEAD, rows)}\nload of the machine: {before:.1f}, {after:.1f} (5 and 15 min)\n"


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--only", default="", metavar="TEXT", help="requests whose name holds it")
    parser.add_argument("--output", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    with workspace() as directory, OurBenchCluster(directory) as cluster:
        try:
            cluster.start()
            cluster.wait_ready()
            found = asyncio.run(run(cluster, options.keys, options.only))
        except ClusterFailed as error:
            say(str(error))
            return 1
        head = f"{cluster.version()}, {options.keys} keys, {machine()}\n\n"
    publish(head + found, "stalls", options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
