"""What the kernel is told of a link's socket."""

import asyncio
import contextlib
import socket


def give_up_after(transport: asyncio.BaseTransport, silence_s: float) -> None:
    """Break the connection if what was sent is not acknowledged for so long.

    Without it the kernel repeats for about 15 minutes, ever more rarely. Where there is no such
    option, the pings find out.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    held = transport.get_extra_info("socket")
    if option is not None and held is not None:
        with contextlib.suppress(OSError):  # closed already
            held.setsockopt(socket.IPPROTO_TCP, option, int(1000 * silence_s))
