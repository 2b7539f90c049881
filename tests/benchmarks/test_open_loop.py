"""An open loop counts from when a request was due; a closed loop cannot see what it did not ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from benchmarks.clients.latencies import Latencies
from benchmarks.clients.raw_client import Tally, drive, drive_open
from benchmarks.clients.traffic import request

STALL_S = 0.2
STALLS_AT = 100
_GET = request("GET", "/")


class Stalling:
    """A server that answers nothing for a while, once: from its hundredth request on."""

    def __init__(self) -> None:
        self.requests = 0
        self.held = 0
        self._stalled: asyncio.Future[None] | None = None

    def ask(self, transport: asyncio.Transport) -> None:
        self.requests += 1
        if self.requests == STALLS_AT:
            loop = asyncio.get_running_loop()
            self._stalled = loop.create_future()
            loop.call_later(STALL_S, self._stalled.set_result, None)
        if self._stalled is not None and not self._stalled.done():
            self.held += 1
            self._stalled.add_done_callback(lambda _: self._answer(transport))
        else:
            self._answer(transport)

    def _answer(self, transport: asyncio.Transport) -> None:
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class Door(asyncio.Protocol):
    def __init__(self, server: Stalling) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._server.ask(self._transport)


def against_stalling(load: Callable[[int], Awaitable[Tally]]) -> tuple[Stalling, Tally]:
    async def run() -> tuple[Stalling, Tally]:
        stalling = Stalling()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Door(stalling), "127.0.0.1", 0)
        async with server:
            return stalling, await load(server.sockets[0].getsockname()[1])

    return asyncio.run(run())


def test_a_stall_is_in_the_p99_of_an_open_loop() -> None:
    rate_per_s, seconds = 400, 1.0
    server, tally = against_stalling(
        lambda port: drive_open(port, 4, rate_per_s, seconds, lambda: _GET, slice_s=0.25)
    )
    assert tally.requests == server.requests == rate_per_s * seconds
    assert tally.bad_status == tally.socket_errors == 0
    assert min(tally.histogram) >= 0, "a request was sent before it was due"
    # 80 requests were due while nobody was answered, whatever else this machine did meanwhile.
    assert server.held == 4
    waited = sum(count for us, count in tally.histogram.items() if us >= STALL_S / 2 * 1e6)
    assert waited >= 30
    assert Latencies(tally.histogram.items()).percentile_ms(99) >= 0.9 * STALL_S * 1000
    assert sum(sum(found.values()) for found in tally.slices.values()) == tally.requests


def test_a_closed_loop_asks_four_times_meanwhile_which_no_p99_of_a_thousand_shows() -> None:
    left = iter(range(1000))
    server, tally = against_stalling(
        lambda port: drive(port, 4, lambda: _GET if next(left, None) is not None else None)
    )
    assert tally.requests == 1000
    assert server.held == 4 < tally.requests / 100


def test_what_is_refused_is_counted() -> None:
    async def run() -> Tally:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(4096):
                writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await drive_open(port, 2, 100, 0.1, lambda: _GET)

    tally = asyncio.run(run())
    assert tally.requests == tally.bad_status == 10
