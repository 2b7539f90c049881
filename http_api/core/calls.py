"""A call of either API is one row, and a request for it is one object.

The rows stand beside their handlers. The router, the meters, authentication, the reading of
bodies, the OpenAPI document and the tests of every route read them; nothing else says what a call
needs.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic
from typing import Any, Generic, TypeVar

from aiohttp import web

from http_api.core import params
from http_api.core.bodies import Bodies, check_elements, parse_json
from http_api.core.load import LoadHistory
from http_api.core.neighbours import Neighbours
from http_api.core.outgoing import Outgoing
from http_api.core.session import Session
from http_api.core.streams import Streams
from kvstore.commands.commands import Once, StoreCommand
from kvstore.commands.results import Result
from kvstore.config import Config
from kvstore.errors import KvError

M = TypeVar("M")
H = TypeVar("H")


class Need(Enum):
    """What a call needs of its sender while authentication is on."""

    OPEN = auto()
    """Nothing: nobody looks at who it is, not even at a bad token."""
    SHOWN = auto()
    """Nothing: but who proves who it is is shown what it may read."""
    CALLER = auto()
    """To be whom it says. What it may do is judged by the session, and where a write is applied.
    The native API refuses who names nobody; etcd's serves it as nobody."""
    ROOT = auto()
    """To be an administrator."""


@dataclass(frozen=True)
class Doc:
    """What a caller may send and will get; `query` is also what the handler accepts.

    `body`: schemas by content type, where the row has no message.
    `limit_max`: how far `limit` goes, and its default, where they are not those of listings.
    """

    summary: str
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    problems: tuple[type[KvError], ...] = ()
    limit_max: int | None = None


@dataclass(frozen=True)
class Row(Generic[M, H]):
    """One call of either API. `M` is what its body holds, `H` the kind of its handler.

    `path` may hold one `{parameter}`, which takes all there is, slashes included. `message` is
    the struct that the body is decoded into; None where the body is not JSON, or there is none.
    """

    method: str
    path: str
    handler: H
    need: Need
    doc: Doc
    body_bytes_max: int = 0
    """A longer body is refused unread. 0: the call takes none, and one that comes is ignored."""
    message: type[M] | None = None
    empty_body: bool = False
    """Whether an empty body stands for a message in which nothing is set."""


class Facilities:
    """What all requests to a server have besides their sessions."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.bodies = Bodies(config.pending_bytes_max)
        self.streams = Streams()
        self.outgoing = Outgoing(config.pending_bytes_max)
        self.load = LoadHistory()
        self._began_s = monotonic()
        self.neighbours = Neighbours()
        self.idempotency_ttl_ms = int(config.idempotency_ttl_s * 1000)

    @property
    def uptime_s(self) -> float:
        """Since the server was made."""
        return monotonic() - self._began_s


class Ask(Generic[M]):
    """One request for a call: all that a handler gets.

    `parameter` is the raw path parameter ("" if the path has none), `query` the raw query.
    """

    __slots__ = ("call", "facilities", "parameter", "query", "request", "session")

    def __init__(
        self,
        request: web.BaseRequest,
        session: Session,
        call: Row[M, Any],
        facilities: Facilities,
        parameter: str = "",
        query: str = "",
    ) -> None:
        self.request = request
        self.session = session
        self.call = call
        self.facilities = facilities
        self.parameter = parameter
        self.query = query

    @property
    def config(self) -> Config:
        return self.facilities.config

    @property
    def streams(self) -> Streams:
        return self.facilities.streams

    def options(self) -> dict[str, bytes]:
        """The query's parameters, of those that the row names. Raises InvalidArgument."""
        return params.parse_query(self.query, self.call.doc.query)

    async def body(self) -> bytes:
        """The whole body, bounded as the row says. Raises like `Bodies.read`."""
        return await self.facilities.bodies.read(self.request, self.call.body_bytes_max)

    async def read(self) -> M:
        """The body as the row's message. Raises InvalidArgument, and like `body`."""
        call = self.call
        assert call.message is not None
        body = await self.body()
        if call.empty_body and not body.strip():
            body = b"{}"
        await check_elements(body)
        return parse_json(call.message, body)

    def once(self, idempotency_key: bytes, command: StoreCommand) -> Once:
        """The command, to be applied once for this key while it is remembered."""
        return Once(idempotency_key, command, self.facilities.idempotency_ttl_ms)

    async def execute(self, command: StoreCommand, timeout_s: float) -> Result:
        """Run a write, at most once if the request has an Idempotency-Key."""
        key = params.idempotency_key(self.request)
        wrapped = command if key is None else self.once(key, command)
        return await self.session.execute(wrapped, timeout_s)


Handler = Callable[[Ask[M]], Awaitable[web.StreamResponse]]
"""The handler of a call of the native API."""


@dataclass(frozen=True)
class Call(Row[M, Handler[M]]):
    """One call of the native API."""


NativeCall = Call[Any]
