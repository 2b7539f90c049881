"""What the resources share: the replica, the settings, and the two ways into the replica."""

from aiohttp import web

from http_api.core import params
from http_api.core.authentication import Access, Readable
from http_api.core.bodies import Bodies
from http_api.core.params import ReadOptions
from http_api.core.store import State, Store
from http_api.core.streams import Streams
from kvstore.commands.commands import Command, Once, StoreCommand
from kvstore.commands.results import Result
from kvstore.config import Config


class Context:
    """Handed to every resource. Holds no request."""

    def __init__(self, replica: Store, config: Config) -> None:
        self.replica = replica
        self.config = config
        self._ttl_ms = int(config.idempotency_ttl_s * 1000)
        self.bodies = Bodies(config.pending_bytes_max)
        self.streams = Streams()
        self.access = Access(replica, config.request_timeout_s)

    async def execute(
        self, request: web.BaseRequest, command: StoreCommand, timeout_s: float
    ) -> Result:
        """Run a write, at most once if the request has an Idempotency-Key."""
        once = params.idempotency_key(request)
        wrapped: Command = command if once is None else self.once(once, command)
        return await self.replica.execute(wrapped, timeout_s)

    def once(self, idempotency_key: bytes, command: StoreCommand) -> Once:
        """The command, to be applied once for this key while it is remembered."""
        return Once(idempotency_key, command, self._ttl_ms)

    async def readable(self, options: ReadOptions) -> State:
        """The state to read from, as consistent as asked for.

        A revision that this node has is the same on every node, so reading it needs no quorum.
        """
        replica = self.replica
        revision, serializable, timeout_s = options
        if not serializable and not 0 < revision <= replica.state.revision:
            await replica.read_barrier(timeout_s)
        return self.state

    @property
    def state(self) -> State:
        """This node's state now, as the caller may read it. Look it up again after a wait."""
        state = self.replica.state
        return Readable(state) if state.auth.enabled else state
