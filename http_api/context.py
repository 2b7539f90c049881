"""What the resources share: the replica, the settings, and the two ways into the replica."""

from aiohttp import web

from http_api import params
from http_api.bodies import Bodies
from http_api.params import ReadOptions
from http_api.store import State, Store
from kvstore.command import Command, Once, Result, Write
from kvstore.config import Config


class Context:
    """Handed to every resource. Holds no request."""

    def __init__(self, replica: Store, config: Config) -> None:
        self.replica = replica
        self.config = config
        self._ttl_ms = int(config.idempotency_ttl_s * 1000)
        self.bodies = Bodies(config.pending_bytes_max)

    async def execute(self, request: web.BaseRequest, command: Write, timeout_s: float) -> Result:
        """Run a write, at most once if the request has an Idempotency-Key."""
        once = params.idempotency_key(request)
        wrapped: Command = command if once is None else Once(once, command, self._ttl_ms)
        return await self.replica.execute(wrapped, timeout_s)

    async def readable(self, options: ReadOptions) -> State:
        """The state to read from, as consistent as asked for.

        A revision that this node has is the same on every node, so reading it needs no quorum.
        """
        replica = self.replica
        revision, serializable, timeout_s = options
        if not serializable and not 0 < revision <= replica.state.revision:
            await replica.read_barrier(timeout_s)
        # Looked up again: a snapshot may have replaced the state in the meantime.
        return replica.state
