"""What the handlers of etcd's API share: the replica, headers, decoding, answers.

A unary handler is `async def handler(gateway, message) -> dict`, where `message` is of the struct
type that stands beside it in its module's table, and the result is built with `encode.document`::

    HANDLERS: dict[str, tuple[type[Struct], Unary]] = {"lock/lock": (LockRequest, lock), ...}

A stream is `async def handler(gateway, request) -> StreamResponse`; it decodes its documents with
`gateway.decode`, calls `gateway.authorize` for each, and does its own errors::

    STREAMS: dict[str, Stream] = {"watch": watch, ...}

Paths are without their prefix (`/v3/`, `/v3beta/`). Handlers raise EtcdError or any KvError.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from http_api.core.authentication import Access
from http_api.core.bodies import Bodies
from http_api.core.problems import refusal
from http_api.core.responses import JSON, Answer, answer
from http_api.etcd.decode import decode
from http_api.etcd.encode import document, to_json
from http_api.etcd.errors import status_of
from http_api.etcd.sizes import message_too_large
from kvstore.commands.commands import Command
from kvstore.commands.results import Result
from kvstore.config import Config
from kvstore.errors import KvError, TooLarge

if TYPE_CHECKING:
    from kvstore.replica.replica import Replica
    from kvstore.state.state_machine import StateMachine

RAFT_TERM = 2
"""Clients take a term that goes back for a stale node, and a node that lags knows a ballot late.
So every node says the same for ever."""

CORS = (
    b"Access-Control-Allow-Headers: accept, content-type, authorization\r\n"
    b"Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
    b"Access-Control-Allow-Origin: *\r\n"
)
"""Whole header lines, on every answer of this API."""
CORS_HEADERS = dict(line.split(": ", 1) for line in CORS.decode().splitlines())
"""The same for aiohttp's responses."""

TIMEOUT_S_MAX = 5.0
"""etcd gives up after 7 s; clients that try the next node then want to know sooner."""

BODY_BYTES_MAX = 4 << 20
"""Of JSON; no message within etcd's limit is longer, unless it is mostly white space."""

Struct = TypeVar("Struct", bound=msgspec.Struct)
Unary = Callable[["Gateway", Any], Awaitable[dict[str, Any]]]
Stream = Callable[["Gateway", web.BaseRequest], Awaitable[web.StreamResponse]]
Guard = Callable[["Gateway", web.BaseRequest, msgspec.Struct, str], Awaitable[None]]


class Gateway:
    """Handed to every handler. Holds no request.

    `guard(gateway, request, message, path)` raises what speaks against serving a request; None
    lets everything pass.
    """

    def __init__(
        self,
        replica: "Replica",
        config: Config,
        bodies: Bodies,
        access: Access,
        guard: Guard | None = None,
    ) -> None:
        self.replica = replica
        self.access = access
        self.config = config
        self.stopping = asyncio.Event()
        """Set when the server stops; streams then end with the error of their kind."""
        self.copying = asyncio.Lock()
        """Held while a snapshot is made and sent."""
        self._bodies = bodies
        self.timeout_s = min(config.request_timeout_s, TIMEOUT_S_MAX)
        self._guard = guard
        self._cluster = ""
        self._header: dict[str, Any] = {}
        self._member_ids: dict[int, int] = {}

    # -- who this is ------------------------------------------------------------------------

    @property
    def state(self) -> "StateMachine":
        """This node's state now. Look it up again after every `await`."""
        return self.replica.state

    @property
    def cluster_id(self) -> int:
        """The same on every node; 0 until the cluster has formed."""
        self._refresh()
        return int(self._cluster or "0", 16)

    def member_id(self, node: int) -> int:
        """etcd's id (64 bits, unsigned) of a node; the same on every node, 0 before forming."""
        self._refresh()
        if not self._cluster:
            return 0
        found = self._member_ids.get(node)
        if found is None:
            text = f"{self._cluster}/{node}".encode()
            digest = hashlib.blake2b(text, digest_size=8).digest()
            found = self._member_ids[node] = int.from_bytes(digest)
        return found

    def node_of(self, member_id: int) -> int | None:
        """The node whose member id that is."""
        nodes = self.config.members
        return next((node for node in nodes if self.member_id(node) == member_id), None)

    def _refresh(self) -> None:
        if self._cluster:
            return
        self._cluster = self.replica.membership.cluster_id
        self._header = document(
            cluster_id=int(self._cluster or "0", 16),
            member_id=self.member_id(self.config.node_id) if self._cluster else 0,
        )

    def header(self, revision: int | None = None) -> dict[str, Any]:
        """A ResponseHeader that shows `revision`; None is the revision now, 0 leaves it out."""
        self._refresh()
        header = dict(self._header)
        shown = self.replica.state.revision if revision is None else revision
        if shown:
            header["revision"] = str(shown)
        header["raft_term"] = str(RAFT_TERM)
        return header

    # -- requests ---------------------------------------------------------------------------

    async def body(self, request: web.BaseRequest) -> bytes:
        """The whole body. Raises EtcdError or another KvError."""
        try:
            return await self._bodies.read(request, BODY_BYTES_MAX)
        except TooLarge:
            size = (request.content_length or BODY_BYTES_MAX) * 3 // 4
            raise message_too_large(size) from None

    def decode(self, struct: type[Struct], body: bytes) -> Struct:
        """The first JSON document in `body`, empty meaning `{}`. Raises EtcdError (code 3)."""
        return decode(struct, body)

    async def authorize(self, request: web.BaseRequest, message: msgspec.Struct, path: str) -> None:
        """Raise EtcdError unless whoever sent `request` may do what `message` asks at `path`
        (without prefix, like "kv/put")."""
        if self._guard is not None:
            await self._guard(self, request, message, path)

    # -- the replica ------------------------------------------------------------------------

    async def execute(self, command: Command, expected: type[Struct]) -> Struct:
        """Replicate a command. Raises the KvError that another result than `expected` means."""
        result: Result = await self.replica.execute(command, self.timeout_s)
        if not isinstance(result, expected):
            raise refusal(result)
        return result

    async def barrier(self) -> None:
        """After it, `state` shows every write acknowledged before. Raises Unavailable."""
        await self.replica.read_barrier(self.timeout_s)

    # -- answers ----------------------------------------------------------------------------

    def reply(self, document: dict[str, Any]) -> Answer:
        """200 with a finished document (see `encode.document`)."""
        return answer(200, to_json(document), JSON, CORS)

    def error(self, error: KvError) -> Answer:
        """The answer for an error."""
        status = status_of(error)
        return answer(status.http_status, to_json(status.document()), JSON, CORS)
