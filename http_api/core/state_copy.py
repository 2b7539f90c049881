"""A copy of this node's state, which both APIs send to clients."""

import asyncio
from pathlib import Path

from http_api.core.session import Session
from kvstore.errors import NoQuorum


async def fresh_copy(session: Session, path: Path, timeout_s: float, tick_s: float) -> None:
    """Write a consistent copy of the state to `path`. It shows at least every write acknowledged
    before this call. For administrators.

    Raises Unavailable, OSError, lmdb.Error.
    """
    await session.read_barrier(timeout_s)
    await _checkpointed(session, timeout_s, tick_s)
    await session.copy_state(path)


async def _checkpointed(session: Session, timeout_s: float, tick_s: float) -> None:
    """Wait until what is applied now is in the file that is copied."""
    through = session.status().applied_through
    try:
        async with asyncio.timeout(timeout_s):
            while session.status().checkpointed_through < through:
                session.check_running()
                await asyncio.sleep(tick_s)
    except TimeoutError:
        raise NoQuorum("the state was not written to the disk in time") from None
