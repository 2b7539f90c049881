"""When what a session reads may be shown: behind a barrier, or as this node has it."""

import asyncio

from http_api.core.account_session import AccountSession
from kvstore.errors import NotReady


class ReadingSession(AccountSession):
    """The part of a session that waits until this node's state may be read."""

    __slots__ = ()

    def barrier(self, timeout_s: float, reads: int = 1) -> "asyncio.Future[None]":
        """Once it is done, reads show every write acknowledged before this call; so many `reads`
        wait for it.

        Raises like `Session.submit`, but never OutcomeUnknown.
        """
        return self._store.barrier(timeout_s, reads)

    async def read_barrier(self, timeout_s: float) -> None:
        """`barrier`, waited for."""
        await self._store.barrier(timeout_s)

    async def readable(self, revision: int, serializable: bool, timeout_s: float) -> None:
        """Wait until `revision` (0: the current one) may be read here.

        A revision that this node has is the same on every node, so reading it needs no quorum.
        Raises Unavailable.
        """
        store = self._store
        if serializable:
            self.check_joined()
        elif not (0 < revision <= store.state.revision and store.joined):
            await store.barrier(timeout_s)

    def not_joined(self) -> NotReady | None:
        """Why this node's own state must not be shown without a barrier, None if it may.

        Failing schedule otherwise: a node whose disk was lost comes back, and until it has caught
        up it tells everybody who asks for its own state that there are no keys. And whoever could
        read the keys before authentication was enabled can do so again.
        """
        if self._store.joined:
            return None
        return NotReady("this node has not caught up with its cluster yet: ask another one")

    def check_joined(self) -> None:
        """Raises NotReady; see `not_joined`."""
        if (error := self.not_joined()) is not None:
            raise error
