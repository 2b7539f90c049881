"""A copy of this node's state, which both APIs send to clients."""

import asyncio
import os
from pathlib import Path

from http_api.core.session import Session
from kvstore.errors import NoQuorum
from kvstore.storage.disk import ROOM_BYTES, require_room

STATE_NAME = "state.mdb"
"""The state's file in the directory that copies are written to."""


async def fresh_copy(session: Session, path: Path, timeout_s: float, tick_s: float) -> None:
    """Write a consistent copy of the state to `path`. It shows at least every write acknowledged
    before this call, and not the secret that signs tokens. Takes the scope backup.

    Raises Unavailable, OSError, lmdb.Error.
    """
    await session.read_barrier(timeout_s)
    await _checkpointed(session, timeout_s, tick_s)
    _check_room(path)
    await session.copy_state(path)


def _check_room(path: Path) -> None:
    """A copy must not fill the disk of the log, whose failure stops the node. Raises OSError."""
    state = path.with_name(STATE_NAME)
    if state.exists():
        require_room(os.statvfs(path.parent), state.stat().st_size + ROOM_BYTES)


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
