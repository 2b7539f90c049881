"""A load client on a bare asyncio protocol: closed loop, or open loop at a fixed rate.

python -m benchmarks.clients.raw_client PORT CONNECTIONS SECONDS REQUEST_FILE SEED
    [RATE [WIRE [SLICE_S]]]

prints the same "JSON {...}" line as load.lua does, with a histogram for each slice of time if
SLICE_S is not 0. It stands in for wrk where that is missing, and is the loader.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import uvloop

from benchmarks.clients.kernel_timer import periodic
from benchmarks.clients.traffic import read_requests
from benchmarks.clients.wires import WIRES, Wire
from benchmarks.shared.probe import trust

STALL_S = 20.0
TICK_S = 0.00025
"""An open loop looks no more often for what is due: so much of a latency may be its own."""


@dataclass
class Tally:
    """What a run counted. Latencies are in whole microseconds, in `slices` by when they began."""

    requests: int = 0
    bad_status: int = 0
    socket_errors: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    slice_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    slices: dict[int, Counter[int]] = field(default_factory=dict)

    def count(self, since: float, good: bool) -> None:
        """One answer to what was to be sent at `since`."""
        self.requests += 1
        self.bad_status += not good
        latency_us = int((time.perf_counter() - since) * 1e6)
        self.histogram[latency_us] += 1
        if self.slice_s:
            number = int((since - self.began) / self.slice_s)
            self.slices.setdefault(number, Counter())[latency_us] += 1


class Work(Protocol):
    """Gives connections something to do."""

    def free(self, connection: Connection) -> None:
        """The connection has nothing in flight: let it send, wait or close."""


class Connection(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self, work: Work, tally: Tally, wire: Wire) -> None:
        """It is free once it is open, and greeted if its protocol wants that."""
        self._work, self._tally, self._wire = work, tally, wire
        self._transport: asyncio.Transport
        self._buffer = b""
        self._since: float | None = None
        self._greeted = not wire.greeting
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or begin."""
        self._transport = cast(asyncio.Transport, transport)
        if self._greeted:
            self._work.free(self)
        else:
            self._transport.write(self._wire.greeting)

    def data_received(self, data: bytes) -> None:
        """Count the answer once it is whole, and go on."""
        self._buffer += data
        if not self._wire.whole(self._buffer):
            return
        if self._since is not None:
            self._tally.count(self._since, self._wire.good(self._buffer))
            self._since = None
        self._greeted, self._buffer = True, b""
        self._work.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """An error, unless this side closed the connection."""
        if not self.ended.done():
            self._tally.socket_errors += 1
            self.ended.set_result(None)

    def send(self, since: float, request: bytes) -> None:
        """Send what was to be sent at `since`."""
        self._since = since
        self._transport.write(request)

    def close(self) -> None:
        """Nothing more is to be sent."""
        if not self.ended.done():
            self.ended.set_result(None)
        self._transport.close()


class ClosedLoop:
    """Each connection sends its next request when it has its answer: a slow server is asked less
    often, and so its slow moments are counted less often."""

    def __init__(self, source: Callable[[], bytes | None]) -> None:
        """`source` gives the next request, or None when there is nothing left to send."""
        self._source = source

    def free(self, connection: Connection) -> None:
        """The next one at once."""
        request = self._source()
        if request is None:
            connection.close()
        else:
            connection.send(time.perf_counter(), request)


class OpenLoop:
    """Requests fall due at a fixed rate whatever the server does, and each latency counts from
    then: a request that had to wait for a connection has waited, too.
    """

    def __init__(self, rate_per_s: float, seconds: float, source: Callable[[], bytes]) -> None:
        """Nothing is due before `run`."""
        self._every_s, self._left = 1 / rate_per_s, int(rate_per_s * seconds)
        self._source = source
        self._next_s = 0.0
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._over = False

    def free(self, connection: Connection) -> None:
        """The first that is due, or wait for the next."""
        if self._due:
            connection.send(self._due.popleft(), self._source())
        elif self._over:
            connection.close()
        else:
            self._free.append(connection)

    async def run(self) -> None:
        """Until the last one has fallen due; connections close as they become free."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._next_s = time.perf_counter() + self._every_s
        timer = periodic(self._next_s, max(self._every_s, TICK_S))
        loop.add_reader(timer, self._tick, timer, done)
        try:
            await done
        finally:
            loop.remove_reader(timer)
            os.close(timer)
        self._over = True
        while self._free:
            self.free(self._free.popleft())

    def _tick(self, timer: int, done: asyncio.Future[None]) -> None:
        os.read(timer, 8)
        now = time.perf_counter()
        while self._left and self._next_s <= now:
            self._due.append(self._next_s)
            self._next_s += self._every_s
            self._left -= 1
            if self._free:
                self.free(self._free.popleft())
        if not self._left and not done.done():
            done.set_result(None)


async def connect(
    port: int, connections: int, work: Work, tally: Tally, wire: Wire
) -> list[Connection]:
    """So many connections, which ask `work` for something to do; by TLS if BENCH_CA is set."""
    loop, secure = asyncio.get_running_loop(), trust()
    made = [
        await loop.create_connection(
            lambda: Connection(work, tally, wire), "127.0.0.1", port, ssl=secure
        )
        for _ in range(connections)
    ]
    return [connection for _, connection in made]


async def finish(opened: list[Connection], tally: Tally) -> Tally:
    """Wait until every connection has ended. Raises TimeoutError if nothing is answered."""
    waiting = {connection.ended for connection in opened}
    answered = -1
    while waiting:
        if tally.requests == answered:
            raise TimeoutError(f"no answer in {STALL_S} s")
        answered = tally.requests
        _, waiting = await asyncio.wait(waiting, timeout=STALL_S)
    return tally


async def drive(
    port: int,
    connections: int,
    source: Callable[[], bytes | None],
    wire: Wire = WIRES["http"],
    slice_s: float = 0.0,
) -> Tally:
    """Keep `connections` requests in flight until the source is empty."""
    tally = Tally(slice_s=slice_s)
    opened = await connect(port, connections, ClosedLoop(source), tally, wire)
    return await finish(opened, tally)


async def drive_open(
    port: int,
    connections: int,
    rate_per_s: float,
    seconds: float,
    source: Callable[[], bytes],
    wire: Wire = WIRES["http"],
    slice_s: float = 0.0,
) -> Tally:
    """Let `rate_per_s` requests a second fall due for so many seconds, and answer all of them."""
    work, tally = OpenLoop(rate_per_s, seconds, source), Tally(slice_s=slice_s)
    opened = await connect(port, connections, work, tally, wire)
    tally.began = time.perf_counter()
    await work.run()
    return await finish(opened, tally)


def main() -> None:
    """Load one port for some seconds with random picks from a request file."""
    port, connections, seconds, path, seed, *more = sys.argv[1:]
    rate, wire, slice_s = [*more, *("0", "http", "0")[len(more) :]]
    prepared = read_requests(Path(path))
    pick = random.Random(int(seed))

    def any_request() -> bytes:
        return prepared[int(pick.random() * len(prepared))]

    begun = time.perf_counter()
    deadline = begun + float(seconds)

    def until_deadline() -> bytes | None:
        return any_request() if time.perf_counter() <= deadline else None

    place, how = (int(port), int(connections)), (WIRES[wire], float(slice_s))
    if float(rate):
        run = drive_open(*place, float(rate), float(seconds), any_request, *how)
    else:
        run = drive(*place, until_deadline, *how)
    tally = uvloop.run(run)
    report = {
        "requests": tally.requests,
        "duration_us": int((time.perf_counter() - begun) * 1e6),
        "bad_status": tally.bad_status,
        "socket_errors": tally.socket_errors,
        "histogram": sorted(tally.histogram.items()),
        "began_s": tally.began,
        "slices": {number: sorted(found.items()) for number, found in tally.slices.items()},
    }
    # With PYTHONUNBUFFERED, `print` loses what a full pipe does not take at once.
    with open(1, "w", closefd=False) as out:
        out.write(f"JSON {json.dumps(report)}\n")


if __name__ == "__main__":
    main()
