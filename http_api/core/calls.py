"""A call of either API is one row, and a request for it is one object.

The rows stand beside their handlers. The router, the meters, authentication, the reading of
bodies, the OpenAPI document and the tests of every route read them; nothing else says what a call
needs.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import web

from http_api.core import params
from http_api.core.bodies import Bodies, check_elements, parse_json
from http_api.core.certificates import own_certificate
from http_api.core.load import LoadHistory
from http_api.core.senders import address_of
from http_api.core.session import Session
from http_api.core.streams import Streams
from http_api.incidents.kept import KeptIncidents
from http_api.incidents.neighbours import Neighbours
from http_api.limits.outgoing import Outgoing
from kvstore.commands.accounts import Scope
from kvstore.commands.commands import Once, StoreCommand
from kvstore.commands.results import Result
from kvstore.config import Config
from kvstore.errors import KvError
from kvstore.state.rights import Caller

M = TypeVar("M")
H = TypeVar("H")


class Need(Enum):
    """What a call needs of its sender while authentication is on."""

    OPEN = auto()
    """Nothing: nobody looks at who it is, not even at a bad token."""
    NAMED = auto()
    """To be somebody. While authentication is off nobody looks, not even at a bad token."""
    CALLER = auto()
    """To be whom it says. What it may do is judged by the session, and where a write is applied."""
    ROOT = auto()
    """To have the role root."""
    CLUSTER = auto()
    """That, or the scope of this name (`kvstore.commands.accounts.Scope`); so the ones below."""
    BACKUP = auto()
    USERS = auto()
    METRICS = auto()


SCOPES = {
    Need.CLUSTER: Scope.CLUSTER,
    Need.BACKUP: Scope.BACKUP,
    Need.USERS: Scope.USERS,
    Need.METRICS: Scope.METRICS,
}
ADMINISTRATIVE = frozenset((Need.ROOT, *SCOPES))
"""What is not asked of somebody who only uses keys."""


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


class Logins(Protocol):
    """What handlers need of passwords and tokens. All raise Unavailable."""

    async def hash(self, password: str) -> bytes:
        """What to store of a password. Raises InvalidArgument for one that cannot be."""
        ...

    async def log_in(self, name: str, password: str, address: str, ttl_s: int) -> str:
        """A token that lasts `ttl_s` without being used. Raises AuthError."""
        ...

    async def check(self, name: str, password: str, address: str) -> None:
        """Raise AuthError unless that is the user's password."""
        ...

    async def lend(self, by: Caller) -> str:
        """A token with which this node asks other nodes in the caller's name."""
        ...


class Facilities:
    """What all requests to a server have besides their sessions."""

    def __init__(self, config: Config, logins: Logins) -> None:
        self.config = config
        self.logins = logins
        self.bodies = Bodies(config.pending_bytes_max)
        self.streams = Streams()
        self.outgoing = Outgoing(config.pending_bytes_max)
        self.load = LoadHistory()
        self.incidents = KeptIncidents(config.data_dir / "incidents", config.incidents_max)
        self._began_s = monotonic()
        self.neighbours = Neighbours(config.client_ca)
        self.certificates = own_certificate(config)
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

    @property
    def address(self) -> str:
        """Where the request comes from."""
        return address_of(self.request)

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

    def idempotency_key(self) -> bytes | None:
        """What the Idempotency-Key header stands for; of two users' equal keys different ones, so
        that neither can tell, or spoil, what the other does. Raises InvalidArgument."""
        key = params.idempotency_key(self.request)
        caller = self.session.caller
        if key is None or caller is None:
            return key
        owned = b"%d:%b%b" % (len(caller.user.encode()), caller.user.encode(), key)
        # No client can send a key that begins so.
        return b"\0" + hashlib.blake2b(owned, digest_size=32).digest()

    def once(self, idempotency_key: bytes, command: StoreCommand) -> Once:
        """The command, to be applied once for this key while it is remembered."""
        return Once(idempotency_key, command, self.facilities.idempotency_ttl_ms)

    async def execute(self, command: StoreCommand, timeout_s: float) -> Result:
        """Run a write, at most once if the request has an Idempotency-Key."""
        key = self.idempotency_key()
        wrapped = command if key is None else self.once(key, command)
        return await self.session.execute(wrapped, timeout_s)


Handler = Callable[[Ask[M]], Awaitable[web.StreamResponse]]
"""The handler of a call of the native API."""


@dataclass(frozen=True)
class Call(Row[M, Handler[M]]):
    """One call of the native API."""


NativeCall = Call[Any]
