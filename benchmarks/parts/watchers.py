"""1,000 watchers of one key: how long until all have seen a put."""

from __future__ import annotations

import asyncio
import time

from benchmarks.clients.latencies import Latencies
from benchmarks.clients.traffic import key_of, request, value_of
from benchmarks.parts.plan import BenchPlan, Section
from benchmarks.shared.probe import call
from benchmarks.systems.clusters import OurBenchCluster
from proof.processes.waiting import until

WATCHERS = 1000
WAIT_S_MAX = 20.0
_EVENT = b"event: change\n"


class Audience:
    """Watchers over several nodes, and how many events they have seen together."""

    def __init__(self, ports: list[int], count: int) -> None:
        """Nothing is opened yet."""
        self._ports, self._count = ports, count
        self.seen = 0
        self._heads = 0
        self._wanted = 0
        self._reached = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Until each has the head of its answer. Raises TimeoutError."""
        self._tasks = [
            asyncio.create_task(self._watch(self._ports[n % len(self._ports)]))
            for n in range(self._count)
        ]
        if not await until(lambda: self._heads == self._count, WAIT_S_MAX):
            raise TimeoutError(f"{self._heads} of {self._count} watchers have an answer")

    async def wait(self, events: int) -> None:
        """Until so many were seen since the beginning. Raises TimeoutError."""
        self._wanted = events
        self._reached.clear()
        try:
            if self.seen < events:
                await asyncio.wait_for(self._reached.wait(), WAIT_S_MAX)
        except TimeoutError:
            raise TimeoutError(f"{self.seen} of {events} events were seen") from None

    async def close(self) -> None:
        """All go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request("GET", f"/v1/watch?key={key_of(0).decode()}"))
            await reader.readuntil(b"\r\n\r\n")
            self._heads += 1
            rest = b""
            while data := await reader.read(65536):
                whole = rest + data
                self.seen += whole.count(_EVENT)
                rest = whole[whole.rfind(b"\n") + 1 :]
                if self.seen >= self._wanted:
                    self._reached.set()
        finally:
            writer.transport.abort()


async def measured(ports: list[int], writer_port: int, count: int, seconds: float) -> Latencies:
    """One put after the other; each when all have seen the one before."""
    audience, latencies = Audience(ports, count), Latencies()
    try:
        await audience.open()
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            number += 1
            began = time.perf_counter()
            put = request("PUT", f"/v1/kv/{key_of(0).decode()}", value_of(0, number % 10_000))
            status, body = await asyncio.to_thread(call, writer_port, put)
            if status != 200:
                raise TimeoutError(f"a put was answered with {status}: {body[:80]!r}")
            await audience.wait(number * count)
            latencies.add([(int((time.perf_counter() - began) * 1e6), 1)])
    finally:
        await audience.close()
    return latencies


def run(plan: BenchPlan, count: int = WATCHERS) -> Section:
    """Watchers at all three nodes, the writer at the leader."""
    seconds = max(2.0, 5 * plan.effort.seconds)
    with OurBenchCluster(plan.home("watchers")) as cluster:
        cluster.start()
        cluster.wait_ready()
        ports = [node.client_port for node in cluster.nodes]
        leader = cluster.wait_leader().client_port
        latencies = asyncio.run(measured(ports, leader, count, seconds))
    p50, p99 = (latencies.percentile_ms(percent) for percent in (50, 99))
    per_s = latencies.count * count / seconds
    return Section(
        f"{count:,} watchers",
        f"All of one key, over three nodes. From a put to the moment when all have seen it: p50 "
        f"{p50:.0f} ms, p99 {p99:.0f} ms ({latencies.count} puts, one after the other: "
        f"{per_s:,.0f} events/s, read by one process of the client).",
        {"puts": latencies.count, "p50_ms": p50, "p99_ms": p99, "events_per_s": per_s},
        problems=() if latencies.count else ("no put was seen by all",),
    )
