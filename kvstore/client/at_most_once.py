"""Requests that leave at most once.

aiohttp sends an idempotent method a second time by itself when a connection that it kept breaks. A
PUT without an idempotency key may then be applied twice, and if the second attempt reaches nobody
the error says that it never left, though the first one did.
"""

from typing import Any

import aiohttp


class SentBefore(aiohttp.ClientError):
    """The connection broke, and the request is not sent again."""


class Attempt:
    """One request: its `trace_request_ctx`. `again`: it may be sent twice, as a read may."""

    __slots__ = ("again", "sent")

    def __init__(self, again: bool = False) -> None:
        self.again = again
        self.sent = False
        """Whether a part of it may have left."""


def at_most_once() -> aiohttp.TraceConfig:
    """For a session all of whose requests have an `Attempt`. Such a request raises SentBefore, or
    another aiohttp.ClientError, TimeoutError or OSError."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_leaves)
    return trace


async def _leaves(_: aiohttp.ClientSession, context: Any, __: Any) -> None:
    """Called before the first byte leaves."""
    attempt: Attempt = context.trace_request_ctx
    if attempt.sent and not attempt.again:
        raise SentBefore("the connection broke before the answer")
    attempt.sent = True
