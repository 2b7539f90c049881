"""A network of TCP proxies on the loopback address: one for each ordered pair of nodes.

It needs no rights. A TCP proxy sees no packets: a lost one shows as what TCP makes of it, a pause
of a retransmission time-out for everything behind it.
"""

import asyncio
import contextlib
import random

from kvstore_cli.launcher.node_cluster import HOST
from proof.processes.links import Cut, Links, LinkState, Pair
from proof.processes.network import HeldPort

READ_BYTES = 1 << 16
RETRANSMIT_S = (0.2, 0.4)
"""How long a lost segment holds up a stream (RFC 6298 has 1 s at most, Linux 0.2 s at least)."""


class ProxyNetwork:
    """Nodes on the loopback address whose peer links pass through this process."""

    name = "proxy"
    of_packets = False
    lost = 0

    def __init__(self, nodes: list[int], rng: random.Random) -> None:
        self.links = Links()
        self._rng = rng
        self._client_ports = {node: HeldPort() for node in nodes}
        self._peer_ports = {node: HeldPort() for node in nodes}
        self._proxy_ports = {(a, b): HeldPort() for a in nodes for b in nodes if a != b}
        self._proxies: list[_Proxy] = []

    def prefix(self, node: int) -> list[str]:
        """Nodes live in this process's own network."""
        return []

    def listen_client(self, node: int) -> str:
        """A port held for the node."""
        return self._client_ports[node].address

    def listen_peer(self, node: int) -> str:
        """A port held for the node, which only the proxies dial."""
        return self._peer_ports[node].address

    def peer_address(self, dialler: int, node: int) -> str:
        """The proxy of the pair; a node knows itself by its own port."""
        if dialler == node:
            return self._peer_ports[node].address
        return self._proxy_ports[dialler, node].address

    async def start(self) -> None:
        """Let all proxies accept."""
        for pair, port in self._proxy_ports.items():
            proxy = _Proxy(pair, self._peer_ports[pair[1]].number, self.links, self._rng)
            await proxy.start(port)
            self._proxies.append(proxy)

    async def close(self) -> None:
        """End all proxies and give the ports back."""
        for proxy in self._proxies:
            await proxy.close()
        self._proxies.clear()
        for ports in (self._client_ports, self._peer_ports):
            for port in ports.values():
                port.close()
        for port in self._proxy_ports.values():
            port.close()


class _Proxy:
    """Carries the connections that `pair[0]` dials to `pair[1]`, in both directions."""

    def __init__(self, pair: Pair, target: int, links: Links, rng: random.Random) -> None:
        self._pair = pair
        self._target = target
        self._links = links
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: HeldPort) -> None:
        self._server = await asyncio.start_server(self._accept, sock=port.socket)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._is(Cut.RESET):
                with contextlib.suppress(OSError):
                    await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # `close` ends this; asyncio.start_server would log it as an error
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side ends, or a fault ends it."""
        there, back = await asyncio.open_connection(HOST, self._target)
        sender, receiver = self._pair
        tasks = [
            asyncio.ensure_future(self._pump(reader, back, (sender, receiver))),
            asyncio.ensure_future(self._pump(there, writer, (receiver, sender))),
            asyncio.ensure_future(self._until_reset()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            back.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if not await self._passes(pair):
                    # The stream has a hole now. It ends when the cut does.
                    while self._links[pair].cut:
                        await self._links.changed()
                    return
                writer.write(data)
                await writer.drain()

    async def _passes(self, pair: Pair) -> bool:
        """Wait as long as the link holds this piece up; False if it is swallowed."""
        link = self._links[pair]
        if delay_s := self._delay_s(link):
            await asyncio.sleep(delay_s)
        while self._links[pair].cut is Cut.HOLD:
            await self._links.changed()
        return not self._links[pair].cut

    def _delay_s(self, link: LinkState) -> float:
        lost = link.loss > 0 and self._rng.random() < link.loss
        return link.draw_delay_s(self._rng) + (self._rng.uniform(*RETRANSMIT_S) if lost else 0.0)

    async def _until_reset(self) -> None:
        while not self._is(Cut.RESET):
            await self._links.changed()

    def _is(self, cut: Cut) -> bool:
        sender, receiver = self._pair
        return cut in (self._links[sender, receiver].cut, self._links[receiver, sender].cut)
