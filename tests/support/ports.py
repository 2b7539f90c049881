"""Ports for programs that must be told one before they start."""

import random
import socket
from contextlib import ExitStack

BELOW_EPHEMERAL = range(10_000, 32_000)
"""Systems give ports above these to whoever asks for any, and to each connection it dials."""

_random = random.SystemRandom()


def free_base(*offsets: int) -> int:
    """A port such that the ports at these distances from it are free now, and stay so unless
    somebody asks for just these.

    Where a port can be held, hold it instead.
    """
    while True:
        base = _random.choice(BELOW_EPHEMERAL)
        with ExitStack() as held:
            try:
                for offset in {0, *offsets}:
                    held.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base


def free_ports(count: int) -> list[int]:
    """So many ports that are free in the same way."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_base())
    return list(ports)
