"""The paths of etcd's API, and what happens to a request on one of them."""

import logging
from contextlib import ExitStack
from typing import Any

import msgspec
from aiohttp import hdrs, web

from http_api.callers.auditing import Auditing
from http_api.callers.authentication import Access
from http_api.core.calls import Facilities
from http_api.core.hot import HotCall, HotPlace
from http_api.core.metrics import HttpMetrics, Meter
from http_api.core.problems import storage_failed
from http_api.core.responses import JSON, Answer, answer
from http_api.core.senders import address_of
from http_api.core.session import Session
from http_api.core.streams import StreamLink
from http_api.etcd import (
    auth,
    cluster,
    election,
    hot,
    keepalive,
    kv,
    lease,
    lock,
    maintenance,
    ranges,
    watch,
)
from http_api.etcd.admission import UNPROVED_BYTES_MAX, CallAdmission, needs_leader
from http_api.etcd.calls import (
    PREFIX,
    AnyEtcdCall,
    DownloadCall,
    EtcdAsk,
    EtcdStream,
    SizeRule,
    StreamCall,
    UnaryCall,
    WaitingCall,
)
from http_api.etcd.decode import decode
from http_api.etcd.errors import UNKNOWN, EtcdError
from http_api.etcd.gateway import Gateway
from http_api.etcd.maintenance import CLUSTER_VERSION, SERVER_VERSION
from http_api.etcd.sizes import (
    MESSAGE_BYTES_MAX,
    REQUEST_BYTES_MAX,
    logged_bytes,
    message_bytes,
    message_too_large,
)
from http_api.etcd.snapshot import Snapshots
from http_api.etcd.streams import HttpChannel, run
from http_api.etcd.websocket import open_websocket
from http_api.limits.quotas import Quotas
from kvstore.errors import (
    AuthError,
    KvError,
    NoQuorum,
    RequestError,
    SlowDown,
    StorageError,
    TooLarge,
)

PREFIXES = (PREFIX, "/v3beta/")
PAGES = ("/version", "/health")
HOT_BODY_BYTES_MAX = 1 << 20
"""A body so short is within all limits on the size of a message (`check_etcd_size`)."""

_TEXT = b"text/plain; charset=utf-8"
_VERSION = b'{"etcdserver":"%s","etcdcluster":"%s"}' % (
    SERVER_VERSION.encode(),
    CLUSTER_VERSION.encode(),
)
_OWN = frozenset((*PAGES, *(prefix.rstrip("/") for prefix in PREFIXES)))
_log = logging.getLogger("http_api.etcd")


def owns(path: str) -> bool:
    """Whether a path is one of this API."""
    return path.startswith(PREFIXES) or path in _OWN


def etcd_calls(access: Access) -> tuple[AnyEtcdCall, ...]:
    """The rows of all calls."""
    return (
        *kv.CALLS,
        *ranges.CALLS,
        *lease.CALLS,
        *keepalive.CALLS,
        *watch.WatchStreams().calls(),
        *lock.CALLS,
        *election.CALLS,
        *cluster.CALLS,
        *maintenance.CALLS,
        *Snapshots().calls(),
        *auth.CALLS,
        *auth.Passwords(access).calls(),
    )


class EtcdApi:
    """Serves `/v3/...`, `/v3beta/...`, `/version` and `/health`."""

    def __init__(
        self,
        access: Access,
        facilities: Facilities,
        metrics: HttpMetrics,
        audit: Auditing,
        quotas: Quotas,
    ) -> None:
        self._audit = audit
        self._quotas = quotas
        self.calls = etcd_calls(access)
        self._access = access
        self._node = access.sessions.anonymous
        self._gateway = Gateway(self._node, facilities.config, facilities.bodies)
        self._admission = CallAdmission(access, audit)
        self._streams = facilities.streams
        self._outgoing = facilities.outgoing
        self._by_name = {call.name: call for call in self.calls}
        self._meters = {call.name: metrics.meter(call.path, call.method) for call in self.calls}
        self._meters |= {path: metrics.meter(path, "GET") for path in PAGES}
        self._unmatched = metrics.meter(PREFIX, "any")

    def call_at(self, path: str) -> AnyEtcdCall | None:
        """The row of the call at a path, None if there is none."""
        return self._by_name.get(_name(path)) if owns(path) else None

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
            return self._gateway.error(error), meter
        except StorageError:
            return self._gateway.error(storage_failed()), meter
        except ConnectionError:
            raise
        except Exception:
            if request.writer.output_size and request.transport is not None:
                request.transport.abort()  # an answer has begun, and cannot be finished
            return self._unexpected(request.method, path), meter

    def _unexpected(self, method: str, path: str) -> Answer:
        """Called while an exception is handled."""
        _log.exception("unexpected error: %s %s", method, path[:200])
        text = "an unexpected error; the log of the server has the details"
        return self._gateway.error(EtcdError(UNKNOWN, text))

    def hot_calls(self) -> list[HotCall]:
        """What the fast lane may serve."""

        def place(name: str) -> HotPlace:
            return HotPlace(
                paths=tuple(prefix + name for prefix in PREFIXES),
                meter=self._meters[name],
                timeout_s=self._gateway.timeout_s,
                body_bytes_max=HOT_BODY_BYTES_MAX,
                unproved_bytes_max=UNPROVED_BYTES_MAX,
                session=self._access.known,
                problem=self._gateway.error,
                unexpected=self._unexpected,
            )

        return hot.hot_calls(self._gateway, place)

    async def _answer(self, request: web.BaseRequest, name: str, query: str) -> web.StreamResponse:
        method = request.method
        if method == "OPTIONS":
            return answer(200, b"", _TEXT)
        call = self._by_name.get(name)
        if call is not None:
            self._audit.begin(request, call)
        if isinstance(call, StreamCall):
            if method != call.method and not _upgrades(request):
                return _not_allowed()
            return await self._stream(request, call)
        if call is not None:
            return await self._call(request, call) if method == call.method else _not_allowed()
        if name in PAGES:
            return await self._page(method, name, query)
        if not name and not request.raw_path.partition("?")[0].endswith("/"):
            location = b"Location: %s/\r\n" % request.raw_path.partition("?")[0].encode()
            return answer(301, b"", _TEXT, location)
        return answer(404, b"Not Found\n", _TEXT)

    # -- calls ------------------------------------------------------------------------------

    async def _call(
        self,
        request: web.BaseRequest,
        call: UnaryCall[Any] | WaitingCall[Any] | DownloadCall[Any],
    ) -> web.StreamResponse:
        """A call that takes one message."""
        assert call.message is not None
        try:
            await self._admission.check_sender(call, request)
        except AuthError as error:
            self._audit.denied(request, error)
            raise call.told(error) from None
        body = await self._gateway.receive(request, call.body_bytes_max)
        message = decode(call.message, body)
        absence = self._node.leader_absence
        if needs_leader(request.headers) and absence.leaderless:
            raise absence.error()
        if len(body) > REQUEST_BYTES_MAX:  # JSON is never shorter than protobuf
            check_etcd_size(message, call.size)
        del body
        try:
            session = await self._admission.session(call, request, message)
            session = self._audit.served(request, session)
            ask = EtcdAsk(self._gateway, session, message, address_of(request))
            if isinstance(call, WaitingCall):
                with self._quotas.stream(session.caller):
                    link = StreamLink(request)
                    return self._gateway.reply(await self._streams.run(link, call.handler(ask)))
            size = request.content_length or 0
            await self._quotas.wait_if_over(session.caller, size)
            with self._quotas.request(session.caller, size):
                if isinstance(call, UnaryCall):
                    return self._gateway.reply(await call.handler(ask))
                sent = await call.handler(ask, request)
                if isinstance(sent, Answer):
                    self._outgoing.check(sent.size)
                return sent
        except RequestError as error:
            self._audit.denied(request, error)
            raise call.told(error) from None
        except SlowDown as error:
            self._audit.denied(request, error)
            raise

    async def _stream(self, request: web.BaseRequest, call: StreamCall[Any]) -> web.StreamResponse:
        """A call that takes and sends messages, by a POST or as a WebSocket."""

        held, counted = ExitStack(), list[Session]()

        async def admit(message: msgspec.Struct) -> Session:
            try:
                session = await self._admission.session(call, request, message)
            except AuthError as error:
                self._audit.denied(request, error)
                raise
            if not counted:  # who sends the first message has the stream
                held.enter_context(self._quotas.stream(session.caller))
                counted.append(session)
            return self._audit.served(request, session)

        by_post = request.method == call.method
        absence = self._node.leader_absence if needs_leader(request.headers) else None
        channel = HttpChannel(request) if by_post else await open_websocket(request)
        opened = EtcdStream(self._gateway, channel, admit)
        with held:
            return await run(opened, call, self._streams, absence)

    # -- pages ------------------------------------------------------------------------------

    async def _page(self, method: str, name: str, query: str) -> Answer:
        if method != "GET":
            return _not_allowed(b"Allow: GET\r\n")
        if name == "/version":
            return answer(200, _VERSION, JSON)
        return await self._health("serializable=true" in query.split("&"))

    async def _health(self, serializable: bool) -> Answer:
        """`/health`: whether there is a leader and, unless `serializable`, whether it answers."""
        reason = b""
        if self._node.failure:
            reason = b"FAILED"
        elif self._node.status().leader is None:
            reason = b"RAFT NO LEADER"
        elif not serializable:
            try:
                await self._node.read_barrier(self._gateway.timeout_s)
            except KvError as error:
                no_leader = isinstance(error, NoQuorum)
                reason = b"RAFT NO LEADER" if no_leader else b"QGET ERROR"
        healthy = b"false" if reason else b"true"
        body = b'{"health":"%s","reason":"%s"}' % (healthy, reason)
        return answer(503 if reason else 200, body, _TEXT)


def _name(path: str) -> str:
    """A path without its prefix; those of pages are whole."""
    for prefix in PREFIXES:
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path if path in PAGES else ""


def _not_allowed(headers: bytes = b"") -> Answer:
    return answer(405, b"Method Not Allowed\n", _TEXT, headers)


def _upgrades(request: web.BaseRequest) -> bool:
    upgrade: str = request.headers.get(hdrs.UPGRADE, "")
    return request.method == "GET" and upgrade.lower() == "websocket"


def check_etcd_size(message: msgspec.Struct, rule: SizeRule) -> None:
    """Raise EtcdError or TooLarge if etcd would not take a message, or not write it to its log."""
    if rule not in (SizeRule.MESSAGE, SizeRule.LOGGED):
        return
    size = message_bytes(message)
    if size > MESSAGE_BYTES_MAX:
        raise message_too_large(size)
    if rule is SizeRule.LOGGED and logged_bytes(message) > REQUEST_BYTES_MAX:
        raise TooLarge("the request is over the limit")
