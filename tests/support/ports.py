"""Ports for programs that must be told the number of a port."""

import socket
from contextlib import ExitStack


def free_base(*offsets: int) -> int:
    """A port such that the ports at these distances from it are free now.

    Somebody else may take them before they are used; where a port can be held, hold it instead.
    """
    while True:
        with ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            base: int = first.getsockname()[1]
            try:
                for offset in offsets:
                    if offset:
                        held.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            except (OSError, OverflowError):
                continue
            return base
