"""The paths of etcd's API, and what happens to a request on one of them."""

import logging
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import hdrs, web

from http_api.core.authentication import Access
from http_api.core.bodies import Bodies
from http_api.core.metrics import HttpMetrics, Meter
from http_api.core.responses import JSON, Answer, answer
from http_api.etcd import (
    auth,
    cluster,
    election,
    keepalive,
    kv,
    lease,
    lock,
    maintenance,
    watch,
)
from http_api.etcd.errors import UNKNOWN, EtcdError
from http_api.etcd.gateway import CORS, Gateway, Stream, Unary
from http_api.etcd.maintenance import CLUSTER_VERSION, SERVER_VERSION
from http_api.etcd.sizes import (
    MESSAGE_BYTES_MAX,
    REQUEST_BYTES_MAX,
    logged_bytes,
    message_bytes,
    message_too_large,
)
from kvstore.config import Config
from kvstore.errors import KvError, NoQuorum, TooLarge

if TYPE_CHECKING:
    from kvstore.replica.replica import Replica

UNARY: dict[str, tuple[type[Any], Unary]] = {
    **kv.HANDLERS,
    **lease.HANDLERS,
    **cluster.HANDLERS,
    **maintenance.HANDLERS,
    **auth.HANDLERS,
    **lock.HANDLERS,
    **election.HANDLERS,
}
"""Calls with one answer, by path without prefix."""
STREAMS: dict[str, Stream] = {
    **watch.STREAMS,
    **keepalive.STREAMS,
    **lock.STREAMS,
    **election.STREAMS,
    **maintenance.STREAMS,
}
"""Calls that answer in pieces, or when their time comes."""
SOCKETS = frozenset(("watch", "lease/keepalive", "election/observe"))
"""Streams that a WebSocket can carry too."""

PREFIXES = ("/v3/", "/v3beta/")
PAGES = ("/version", "/health")

_LOGGED = frozenset(("kv/put", "kv/deleterange", "kv/txn"))
"""Calls that write what they are sent."""
_TEXT = b"text/plain; charset=utf-8"
_NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"
_VERSION = b'{"etcdserver":"%s","etcdcluster":"%s"}' % (
    SERVER_VERSION.encode(),
    CLUSTER_VERSION.encode(),
)
_log = logging.getLogger("http_api.etcd")


def owns(path: str) -> bool:
    """Whether a path is one of this API."""
    return path.startswith(PREFIXES) or path in _OWN


_OWN = frozenset((*PAGES, *(prefix.rstrip("/") for prefix in PREFIXES)))


class EtcdApi:
    """Serves `/v3/...`, `/v3beta/...`, `/version` and `/health`."""

    def __init__(
        self,
        replica: "Replica",
        config: Config,
        bodies: Bodies,
        access: Access,
        metrics: HttpMetrics,
    ) -> None:
        self.gateway = Gateway(replica, config, bodies, access, auth.authorize)
        paths = [*UNARY, *STREAMS]
        self._meters = {path: metrics.meter(f"/v3/{path}", "POST") for path in paths}
        self._meters |= {path: metrics.meter(path, "GET") for path in PAGES}
        self._unmatched = metrics.meter("/v3/", "any")

    def stop(self) -> None:
        """The server stops: streams must end."""
        self.gateway.stopping.set()

    async def handle(
        self, request: web.BaseRequest, path: str, query: str
    ) -> tuple[web.StreamResponse, Meter]:
        """The answer to a request, and the meter that counts it. Raises ConnectionError only."""
        meter = self._unmatched
        try:
            name = _name(path)
            meter = self._meters.get(name, meter)
            return await self._answer(request, name, query), meter
        except KvError as error:
            return self.gateway.error(error), meter
        except ConnectionError:
            raise
        except Exception:
            _log.exception("unexpected error: %s %s", request.method, path[:200])
            if request.writer.output_size and request.transport is not None:
                request.transport.abort()  # an answer has begun, and cannot be finished
            text = "an unexpected error; the log of the server has the details"
            return self.gateway.error(EtcdError(UNKNOWN, text)), meter

    async def _answer(self, request: web.BaseRequest, name: str, query: str) -> web.StreamResponse:
        method = request.method
        if method == "OPTIONS":
            return answer(200, b"", _TEXT, CORS)
        if name in PAGES:
            return await self._page(method, name, query)
        if name in UNARY:
            return await self._call(request, name) if method == "POST" else _not_allowed()
        stream = STREAMS.get(name)
        if stream is not None:
            if method != "POST" and not (_upgrades(request) and name in SOCKETS):
                return _not_allowed()
            return await stream(self.gateway, request)
        if not name and not request.raw_path.partition("?")[0].endswith("/"):
            location = b"Location: %s/\r\n" % request.raw_path.partition("?")[0].encode()
            return answer(301, b"", _TEXT, CORS + location)
        return answer(404, b"Not Found\n", _TEXT, CORS + _NOSNIFF)

    async def _call(self, request: web.BaseRequest, name: str) -> Answer:
        """A unary call."""
        struct, handler = UNARY[name]
        body = await self.gateway.body(request)
        message = self.gateway.decode(struct, body)
        if len(body) > REQUEST_BYTES_MAX:  # JSON is never shorter than protobuf
            _check_size(message, name)
        await self.gateway.authorize(request, message, name)
        return self.gateway.reply(await handler(self.gateway, message))

    async def _page(self, method: str, name: str, query: str) -> Answer:
        if method != "GET":
            return _not_allowed(b"Allow: GET\r\n")
        if name == "/version":
            return answer(200, _VERSION, JSON, CORS)
        return await self._health("serializable=true" in query.split("&"))

    async def _health(self, serializable: bool) -> Answer:
        """`/health`: whether there is a leader and, unless `serializable`, whether it answers."""
        gateway = self.gateway
        reason = b""
        if gateway.replica.failure:
            reason = b"FAILED"
        elif gateway.replica.node.leader is None:
            reason = b"RAFT NO LEADER"
        elif not serializable:
            try:
                await gateway.barrier()
            except KvError as error:
                no_leader = isinstance(error, NoQuorum)
                reason = b"RAFT NO LEADER" if no_leader else b"QGET ERROR"
        healthy = b"false" if reason else b"true"
        body = b'{"health":"%s","reason":"%s"}' % (healthy, reason)
        return answer(503 if reason else 200, body, _TEXT, CORS)


def _name(path: str) -> str:
    """A path without its prefix; those of pages are whole."""
    for prefix in PREFIXES:
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path if path in PAGES else ""


def _not_allowed(headers: bytes = b"") -> Answer:
    return answer(405, b"Method Not Allowed\n", _TEXT, CORS + _NOSNIFF + headers)


def _upgrades(request: web.BaseRequest) -> bool:
    upgrade: str = request.headers.get(hdrs.UPGRADE, "")
    return request.method == "GET" and upgrade.lower() == "websocket"


def _check_size(message: msgspec.Struct, name: str) -> None:
    size = message_bytes(message)
    if size > MESSAGE_BYTES_MAX:
        raise message_too_large(size)
    if name in _LOGGED and logged_bytes(message) > REQUEST_BYTES_MAX:
        raise TooLarge("the request is over the limit")
