"""A closed-loop HTTP client on a bare asyncio protocol: the stand-in for wrk, and the loader.

python -m benchmarks.raw_client PORT CONNECTIONS SECONDS REQUEST_FILE SEED

prints the same "JSON {...}" line as load.lua does.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.traffic import read_requests

STALL_S = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Tally:
    """What a run counted. Latencies are in whole microseconds."""

    requests: int = 0
    bad_status: int = 0
    socket_errors: int = 0
    histogram: Counter[int] = field(default_factory=Counter)


class Connection(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self, source: Callable[[], bytes | None], tally: Tally) -> None:
        """`source` gives the next request, or None when there is nothing left to send."""
        self._source, self._tally = source, tally
        self._transport: asyncio.Transport
        self._buffer = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count the answer once it is whole, and send the next request."""
        self._buffer += data
        if not whole(self._buffer):
            return
        tally = self._tally
        tally.requests += 1
        tally.bad_status += self._buffer[9:10] != b"2"
        tally.histogram[int((time.perf_counter() - self._sent_at) * 1e6)] += 1
        self._buffer = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """An error, unless this side closed the connection."""
        if not self.ended.done():
            self._tally.socket_errors += 1
            self.ended.set_result(None)

    def _send(self) -> None:
        request = self._source()
        if request is None:
            self.ended.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def whole(answer: bytes) -> bool:
    """Whether one HTTP/1.1 answer (content length or chunks) has arrived completely."""
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    if length := _LENGTH.search(answer, 0, head_end):
        return len(answer) >= head_end + 4 + int(length[1])
    return answer.endswith(b"\r\n0\r\n\r\n") or answer[9:12] in (b"204", b"304")


async def drive(port: int, connections: int, source: Callable[[], bytes | None]) -> Tally:
    """Keep `connections` requests in flight until the source is empty."""
    loop, tally = asyncio.get_running_loop(), Tally()
    opened = [
        await loop.create_connection(lambda: Connection(source, tally), "127.0.0.1", port)
        for _ in range(connections)
    ]
    waiting = {connection.ended for _, connection in opened}
    answered = -1
    while waiting:
        if tally.requests == answered:
            raise TimeoutError(f"no answer from port {port} in {STALL_S} s")
        answered = tally.requests
        _, waiting = await asyncio.wait(waiting, timeout=STALL_S)
    return tally


def main() -> None:
    """Load one port for some seconds with random picks from a request file."""
    port, connections, seconds, path, seed = sys.argv[1:]
    prepared = read_requests(Path(path))
    pick = random.Random(int(seed))
    begun = time.perf_counter()
    deadline = begun + float(seconds)

    def source() -> bytes | None:
        if time.perf_counter() > deadline:
            return None
        return prepared[int(pick.random() * len(prepared))]

    tally = uvloop.run(drive(int(port), int(connections), source))
    report = {
        "requests": tally.requests,
        "duration_us": int((time.perf_counter() - begun) * 1e6),
        "bad_status": tally.bad_status,
        "socket_errors": tally.socket_errors,
        "histogram": sorted(tally.histogram.items()),
    }
    print("JSON", json.dumps(report))


if __name__ == "__main__":
    main()
