"""Waiting for conditions, always with a deadline."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.02
DEADLINE_S = 20.0
"""For things that take well under a second on an idle machine."""

T = TypeVar("T")


def eventually(
    condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S, poll_s: float = POLL_S
) -> T:
    """Poll until `condition()` is true and return what it gave.

    Raises TimeoutError, which says `what` was awaited.
    """
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline_s:g} s: {what}")
        time.sleep(poll_s)
    return found


async def until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Poll until `condition()` is true or the time is up; whether it came."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True
