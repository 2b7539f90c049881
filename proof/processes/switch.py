"""Carries the packets between the nodes' TUN devices, as the links allow."""

import asyncio
import os
import random

from proof.processes.links import Links

PACKET_BYTES_MAX = 1 << 16
PACKETS_PER_TURN = 64
DELAYED_MAX = 20_000
"""Packets on their way at once; beyond, they are lost, as in any full queue."""


class Switch:
    """Reads packets from one device and writes them to that of their destination."""

    def __init__(self, links: Links, rng: random.Random) -> None:
        self._links = links
        self._rng = rng
        self._devices: dict[int, int] = {}
        self._nodes: dict[bytes, int] = {}
        self._delayed = 0
        self.carried = 0
        self.lost = 0

    def add(self, node: int, device: int, address: bytes) -> None:
        """Serve `device`, an open TUN descriptor, as that of `node` with this IPv4 address."""
        self._devices[node] = device
        self._nodes[address] = node
        asyncio.get_running_loop().add_reader(device, self._read, node, device)

    def close(self) -> None:
        """Close all devices; packets on their way are lost."""
        loop = asyncio.get_running_loop()
        for device in self._devices.values():
            loop.remove_reader(device)
            os.close(device)
        self._devices.clear()

    def _read(self, node: int, device: int) -> None:
        for _ in range(PACKETS_PER_TURN):
            try:
                packet = os.read(device, PACKET_BYTES_MAX)
            except OSError:  # nothing to read, or the device is going
                return
            # Version 4, destination address: RFC 791, section 3.1.
            to = self._nodes.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if to is not None:
                self._carry(node, to, packet)

    def _carry(self, sender: int, to: int, packet: bytes) -> None:
        link = self._links[sender, to]
        if link.cut or (link.loss and self._rng.random() < link.loss):
            self.lost += 1
            return
        delay_s = link.draw_delay_s(self._rng)
        if not delay_s:
            self._write(to, packet)
        elif self._delayed < DELAYED_MAX:
            self._delayed += 1
            asyncio.get_running_loop().call_later(delay_s, self._late, to, packet)
        else:
            self.lost += 1

    def _late(self, to: int, packet: bytes) -> None:
        self._delayed -= 1
        self._write(to, packet)

    def _write(self, to: int, packet: bytes) -> None:
        device = self._devices.get(to)
        if device is None:
            return
        try:
            os.write(device, packet)
            self.carried += 1
        except OSError:  # its queue is full
            self.lost += 1
