"""Links do what the faults ask: over proxies with streams, over the switch with packets."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proof.processes.links import Cut, Links, LinkState, both_ways
from proof.processes.proxies import ProxyNetwork
from proof.processes.switch import Switch

LIMIT_S = 10.0
QUIET_S = 0.2
"""Long enough for a byte that does pass, on a loaded machine, ten times over."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def two_nodes(
    accepted: asyncio.Queue[Streams] | None = None,
) -> AsyncIterator[tuple[ProxyNetwork, Streams, Streams]]:
    """A network of two, and a connection that node 1 dials to node 2: both its ends.

    `accepted` gets what else node 2 accepts.
    """
    network = ProxyNetwork([1, 2], random.Random(1))
    await network.start()
    accepted = accepted or asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait((reader, writer))

    server = await asyncio.start_server(accept, *network.listen_peer(2).split(":"))
    try:
        dialled = await asyncio.open_connection(*network.peer_address(1, 2).split(":"))
        async with asyncio.timeout(LIMIT_S):
            theirs = await accepted.get()
        yield network, dialled, theirs
        for _, writer in (dialled, theirs):
            writer.transport.abort()
    finally:
        server.close()
        await network.close()


async def passes(sender: Streams, receiver: Streams) -> bool:
    """Whether a byte arrives within QUIET_S."""
    sender[1].write(b"x")
    try:
        async with asyncio.timeout(QUIET_S):
            return await receiver[0].readexactly(1) == b"x"
    except TimeoutError:
        return False


async def ends(streams: Streams) -> None:
    """Wait until the connection is over."""
    async with asyncio.timeout(LIMIT_S):
        try:
            while await streams[0].read(100):
                pass
        except OSError:
            pass


def test_a_whole_link_carries_both_ways():
    async def go() -> None:
        async with two_nodes() as (_, here, there):
            assert await passes(here, there) and await passes(there, here)

    asyncio.run(go())


def test_a_held_link_delivers_late():
    """Nothing passes in the direction that is cut; after the cut it arrives, in order."""

    async def go() -> None:
        async with two_nodes() as (network, here, there):
            network.links.set([(1, 2)], LinkState(cut=Cut.HOLD))
            assert not await passes(here, there)
            assert await passes(there, here), "the other direction is whole"
            here[1].write(b"yz")
            network.links.heal()
            async with asyncio.timeout(LIMIT_S):
                assert await there[0].readexactly(3) == b"xyz"

    asyncio.run(go())


def test_a_dropped_link_breaks_the_connection():
    """What was swallowed is missing, so the stream must not go on after the cut."""

    async def go() -> None:
        async with two_nodes() as (network, here, there):
            network.links.set([(1, 2)], LinkState(cut=Cut.DROP))
            assert not await passes(here, there)
            network.links.heal()
            await ends(there)
            await ends(here)

    asyncio.run(go())


def test_a_reset_link_refuses():
    """Old connections end at once, new ones too, until the link is whole."""

    async def go() -> None:
        accepted: asyncio.Queue[Streams] = asyncio.Queue()
        async with two_nodes(accepted) as (network, here, there):
            network.links.set([(2, 1)], LinkState(cut=Cut.RESET))
            await ends(there)
            await ends(here)
            again = await asyncio.open_connection(*network.peer_address(1, 2).split(":"))
            await ends(again)
            again[1].close()
            assert accepted.empty(), "node 2 must not hear of it"
            network.links.heal()
            again = await asyncio.open_connection(*network.peer_address(1, 2).split(":"))
            async with asyncio.timeout(LIMIT_S):
                assert await passes(again, await accepted.get())
            again[1].close()

    asyncio.run(go())


def test_slow_and_lossy_links_hold_up():
    """Delay, and the pause that a lost segment makes."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        for link, least_s in ((LinkState(delay_s=0.3), 0.3), (LinkState(loss=1.0), 0.2)):
            async with two_nodes() as (network, here, there):
                network.links.set(both_ways([1], [2]), link)
                began = loop.time()
                here[1].write(b"x")
                async with asyncio.timeout(LIMIT_S):
                    assert await there[0].readexactly(1) == b"x"
                assert loop.time() - began >= 0.9 * least_s

    asyncio.run(go())


# -- packets ----------------------------------------------------------------------------------


def packet(to: int, text: bytes = b"") -> bytes:
    """An IPv4 packet to address 9.9.9.`to`, as far as the switch reads it."""
    return b"\x45" + bytes(15) + bytes([9, 9, 9, to]) + text


@asynccontextmanager
async def switched() -> AsyncIterator[tuple[Links, Switch, list[socket.socket]]]:
    """A switch between nodes 0 and 1, and the nodes' ends of their devices."""
    links = Links()
    switch = Switch(links, random.Random(1))
    ends_ = []
    for node in (0, 1):
        outer, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        outer.setblocking(False)
        inner.settimeout(QUIET_S)
        switch.add(node, outer.detach(), bytes([9, 9, 9, node]))
        ends_.append(inner)
    try:
        yield links, switch, ends_
    finally:
        switch.close()
        for end in ends_:
            end.close()


async def receive(end: socket.socket) -> bytes | None:
    """The next packet, or None."""
    try:
        return await asyncio.to_thread(end.recv, 1000)
    except TimeoutError:
        return None


def test_packets_go_where_they_are_addressed():
    """Those to nobody and those of another version vanish."""

    async def go() -> None:
        async with switched() as (_, _, (zero, one)):
            for data in (packet(7), b"\x60" + packet(1)[1:], packet(1, b"it")):
                zero.send(data)
            assert await receive(one) == packet(1, b"it")
            assert await receive(one) is None

    asyncio.run(go())


@pytest.mark.parametrize(
    "link", [LinkState(cut=Cut.HOLD), LinkState(cut=Cut.RESET), LinkState(loss=1.0)]
)
def test_packets_that_are_lost(link):
    """One way only; healed, the next one arrives."""

    async def go() -> None:
        async with switched() as (links, switch, (zero, one)):
            links.set([(0, 1)], link)
            zero.send(packet(1))
            one.send(packet(0))
            assert await receive(one) is None and await receive(zero) == packet(0)
            assert switch.lost == 1
            links.heal()
            zero.send(packet(1, b"later"))
            assert await receive(one) == packet(1, b"later")

    asyncio.run(go())


def test_packets_that_are_late():
    """Not before the delay; and none is forgotten."""

    async def go() -> None:
        async with switched() as (links, _, (zero, one)):
            links.set([(0, 1)], LinkState(delay_s=1.5 * QUIET_S))
            zero.send(packet(1))
            assert await receive(one) is None
            assert await receive(one) == packet(1)

    asyncio.run(go())
