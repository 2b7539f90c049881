"""The HTTP server: connections, dispatch, and what happens to errors.

It stands on aiohttp's low-level server. `web.Application` with its routing, signals and per-request
objects halves the throughput, and a table of a dozen paths needs none of it.
"""

import asyncio
import logging
import time
from contextlib import AbstractContextManager, suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from http_api.callers.auditing import Auditing
from http_api.callers.authentication import Access
from http_api.core.browsers import SAFE_METHODS, Browsers, cors_lines, member_hosts
from http_api.core.calls import Ask, Facilities, NativeCall, Row
from http_api.core.connections import ConnectionBound, connections_max
from http_api.core.hot import HotPlace
from http_api.core.load import LoadSampler
from http_api.core.metrics import HttpMetrics
from http_api.core.node_metrics import NodeMetrics
from http_api.core.pipelining import ConnectionServer
from http_api.core.port import ReplicaPort
from http_api.core.problems import problem, storage_failed
from http_api.core.responses import Answer, answer
from http_api.core.router import Router, split_target
from http_api.core.session import Session
from http_api.etcd.metric_names import EtcdNames
from http_api.etcd.routes import EtcdApi, owns
from http_api.fast_lane.hot_requests import HotRequests
from http_api.fast_lane.lane import FastLane, Lanes
from http_api.incidents.watch import IncidentWatch
from http_api.limits.quotas import Quotas
from http_api.v1 import (
    auth,
    backups,
    batch,
    certificates,
    cluster,
    dashboard,
    health,
    hot,
    incidents,
    joining,
    kv,
    leases,
    listing,
    members,
    overview,
    recording,
    roles,
    slots,
    txn,
    users,
)
from http_api.v1.openapi import Description
from http_api.v1.overview import LIVE_PATH
from http_api.v1.snapshot import SnapshotResource
from http_api.v1.watch import WATCH_PATH, WatchResource
from kvstore.audit_log import AuditLog
from kvstore.backup.marks import marks_in
from kvstore.config import Address, Config, exposures, hosts_to_bind
from kvstore.errors import (
    NOT_APPLIED,
    AuthError,
    CrossSite,
    InvalidArgument,
    JoinDenied,
    KvError,
    Malformed,
    SlowDown,
    StorageError,
    Unexpected,
    UnknownHost,
)

if TYPE_CHECKING:
    from kvstore.certificates.contexts import ServerTls

HANDSHAKE_S = 10.0
"""How long a client has for its TLS handshake."""
CERTIFICATES_S = 5.0
"""How often the files of certificates are looked at."""
KEEPALIVE_S = 75.0
"""Connections without a complete request for so long are closed, slow heads included."""
LINGER_S = 1.0
"""How long a body that nobody wants is read on, so that the client gets to see the answer."""
STOP_S = 5.0
"""How long a stop waits for requests in flight, and once more for those it has cancelled."""

_READS = SAFE_METHODS
_STREAMS = frozenset((WATCH_PATH, LIVE_PATH))
"""Calls of the native API that last until somebody ends them."""
_log = logging.getLogger("http_api")


def native_calls() -> list[NativeCall]:
    """The rows of the native API."""
    description = Description()
    calls: list[NativeCall] = [
        *kv.CALLS,
        *listing.CALLS,
        *txn.CALLS,
        *batch.CALLS,
        *WatchResource().calls(),
        *leases.CALLS,
        *cluster.CALLS,
        *auth.CALLS,
        *users.CALLS,
        *roles.CALLS,
        *members.CALLS,
        *joining.CALLS,
        *certificates.CALLS,
        *SnapshotResource().calls(),
        *overview.CALLS,
        *slots.CALLS,
        *recording.CALLS,
        *incidents.CALLS,
        *backups.CALLS,
        *health.CALLS,
        *description.calls(),
        *dashboard.CALLS,
    ]
    description.complete(calls)
    return calls


class HttpServer:
    """Serves the API of one replica on `config.listen_client`.

    One connection has at most one request in work, or a few that were pipelined, and those only
    while there is room. So `config.pending_requests_max` connections bound both; fewer if the file
    descriptors do not suffice (`http_api.core.connections`).
    """

    def __init__(self, replica: ReplicaPort, config: Config) -> None:
        self._config = config
        self._bound = ConnectionBound(connections_max(config), self._connections)
        self.tls = _tls(config)
        self._looking: asyncio.Task[None] | None = None
        requests_max = config.user_requests_max
        if requests_max is None:
            requests_max = max(1, config.pending_requests_max // 2)
        self._quotas = Quotas(requests_max, config.user_streams_max, config.user_bytes_per_s)
        audit_log = _audit_log(config)
        self._audit = Auditing(audit_log, config.audit, config.audit_keys == "hashes")
        self._metrics = HttpMetrics(
            self._bound, self.tls, _is_exposed(config), audit_log, self._quotas
        )
        self._metrics.register(replica.metrics.registry)
        self._register_more(replica, config)
        self._access = Access(replica, config.request_timeout_s)
        self.facilities = Facilities(config, self._access)
        self.calls = native_calls()
        self._router = Router(self.calls, self._metrics)
        self._browsers = Browsers(
            config.listen_client[0],
            config.members.values(),
            (*config.allowed_hosts, *_advertised(config)),
            config.cors_origins,
            lambda: member_hosts(replica.roster),
        )
        self._unmatched = self._metrics.meter("unmatched", "any")
        self._server: ConnectionServer | None = None
        self._listener: asyncio.Server | None = None
        self._stopping = False
        self._lanes: Lanes | None = None
        self._sampler = LoadSampler(
            self.facilities.load,
            replica.metrics,
            self._metrics,
            lambda: len(self.facilities.streams),
            self._connections,
            config.data_dir,
        )
        anonymous = self._access.sessions.anonymous
        self._incidents = IncidentWatch(
            self.facilities.incidents,
            replica.recorder,
            replica.metrics,
            lambda: recording.record(anonymous),
        )
        self._etcd = EtcdApi(
            self._access, self.facilities, self._metrics, self._audit, self._quotas
        )
        self.address: Address = config.listen_client

    def _register_more(self, replica: ReplicaPort, config: Config) -> None:
        """What is known here and by nobody below, and etcd's names for what they know."""
        metrics = replica.metrics

        def connected() -> int:
            return sum(up for up, _ in metrics.peers().values())

        NodeMetrics(
            health.server_version(),
            lambda: replica.recorder.round_trips_s,
            lambda: len(self.facilities.streams),
            lambda: marks_in(replica.state.select),
            lambda: len(self.facilities.incidents.all()),
        ).register(metrics.registry)
        state = config.data_dir / "state.mdb"
        EtcdNames(
            metrics.counters,
            metrics.gauges,
            metrics.stages,
            connected,
            state,
            lambda: replica.recorder.round_trips,
        ).register(metrics.registry)

    @property
    def audit_log(self) -> AuditLog | None:
        """For what no request asked for."""
        return self._audit.log

    async def start(self) -> None:
        """Bind and serve; `address` is then the bound one. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = ConnectionServer(
            self._handle,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            logger=_protocol_log(),
        )
        calls = [*hot.hot_calls(self._hot_place), *self._etcd.hot_calls()]
        if self._audit.all_calls:
            calls = calls[:0]  # the fast lane knows nothing of who does what
        self._lanes = Lanes(
            self._access.sessions.anonymous,
            HotRequests(
                calls,
                self._access.sessions.anonymous,
                lambda: self._access.enabled,
                self._browsers.knows_host,
            ),
            KEEPALIVE_S,
            self._config.pending_requests_max,
            self._config.pending_bytes_max,
            self.facilities.outgoing,
            self._metrics.stages,
            hand_over=self._server,
            quotas=self._quotas,
            guarded_elsewhere=self._audit.log is not None,
        )
        host, port = self._config.listen_client
        self._listener = await loop.create_server(
            self._protocol,
            hosts_to_bind(host),
            port,
            backlog=1024,
            ssl=None if self.tls is None else self.tls.context,
            ssl_handshake_timeout=None if self.tls is None else HANDSHAKE_S,
        )
        if self.tls is not None:
            self._looking = asyncio.create_task(_look(self.tls))
        self._sampler.start()
        self._incidents.start()
        bound = self._listener.sockets[0].getsockname()
        self.address = (host, bound[1])

    def _hot_place(self, method: str) -> HotPlace:
        """Of the native API's row for one key with that method."""
        head, _, _ = kv.PATH.partition("{")
        call, meter, _ = self._router.resolve(method, head + "k")
        return HotPlace(
            paths=(head,),
            meter=meter,
            timeout_s=self._config.request_timeout_s,
            body_bytes_max=call.body_bytes_max or None,
            unproved_bytes_max=call.body_bytes_max,
            session=self._access.known_header,
            problem=problem,
            unexpected=self._unexpected,
        )

    async def stop(self) -> None:
        """Stop accepting, let requests in flight finish for up to STOP_S, close. Idempotent."""
        self._stopping = True
        if self._looking is not None:
            self._looking.cancel()
        if self._listener is not None:
            self._listener.close()
        self.facilities.streams.stop()
        await self._sampler.stop()
        await self._incidents.stop()
        if self._server is not None and self._lanes is not None:
            self._server.pre_shutdown()
            await asyncio.gather(self._lanes.stop(STOP_S), self._server.shutdown(STOP_S))
        await self.facilities.neighbours.close()
        if self._audit.log is not None:
            await asyncio.to_thread(self._audit.log.close)

    def _protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        assert self._lanes is not None
        refusal = self._bound.refuse()
        if refusal is not None:
            return refusal
        lane = FastLane(self._lanes)
        if self.tls is not None:
            self._lanes.expect(lane, HANDSHAKE_S)
        return lane

    def _connections(self) -> int:
        if self._server is None or self._lanes is None:
            return 0
        return len(self._server.connections) + len(self._lanes.open) + len(self._lanes.expected)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request: find its handler, turn errors into problems, count it."""
        began = perf_counter()
        meter = self._unmatched
        path, query = split_target(request.raw_path)
        response: web.StreamResponse
        try:
            self._check_page(request, path)
            if (preflight := self._browsers.preflight(request)) is not None:
                response = preflight
            elif owns(path):
                response, meter = await self._etcd.handle(request, path, query)
            else:
                call, meter, parameter = self._router.resolve(request.method, path)
                response = await self._native(request, call, parameter, query)
        except KvError as error:
            response = self._problem(request, path, error)
        except StorageError:
            response = self._problem(request, path, storage_failed())
        except ConnectionError:
            if request.transport is None or request.transport.is_closing():
                # Nobody will see this one, but the count does.
                response = problem(Malformed("the client has gone"))
            else:
                response = self._unexpected(request.method, request.raw_path)
        except Exception:
            response = self._unexpected(request.method, request.raw_path)
        transport = request.transport
        if isinstance(response, Answer):
            response.counted_in(self.facilities.outgoing)
            if lines := cors_lines(request):
                response.add_lines(lines)
            if request.writer.output_size and transport is not None:
                # An error in the middle of a stream: its end must not look like a proper one.
                transport.abort()
        if self._stopping:
            response.force_close()
        meter.observe(response.status, perf_counter() - began)
        self._audit.end(request, response.status)
        return response

    def _check_page(self, request: web.BaseRequest, path: str) -> None:
        """Raises CrossSite or UnknownHost, which the audit log tells if it is of a call."""
        try:
            self._browsers.check(request)
        except (CrossSite, UnknownHost) as error:
            call: Row[Any, Any] | None = self._etcd.call_at(path)
            if call is None:
                with suppress(KvError):
                    call = self._router.resolve(request.method, path)[0]
            if call is not None:
                self._audit.turned_away(request, call, error)
            raise

    async def _native(
        self, request: web.BaseRequest, call: NativeCall, parameter: str, query: str
    ) -> web.StreamResponse:
        """The answer of a call of the native API. Raises KvError."""
        access, audit = self._access, self._audit
        audit.begin(request, call, parameter)
        try:
            session = access.sessions.anonymous
            if access.enabled:
                prove = audit.proved(request, partial(access.of_header, request))
                session = await access.admit(call.need, prove)
            session = audit.served(request, session)
            ask = Ask(request, session, call, self.facilities, parameter, query)
            if call.path not in _STREAMS:
                await self._quotas.wait_if_over(session.caller, request.content_length or 0)
            with self._quota(request, call, session):
                response = await call.handler(ask)
        except (AuthError, SlowDown, JoinDenied) as error:
            audit.denied(request, error)
            raise
        if isinstance(response, Answer) and request.method in _READS:
            self.facilities.outgoing.check(response.size)
        return response

    def _quota(
        self, request: web.BaseRequest, call: NativeCall, session: Session
    ) -> AbstractContextManager[None]:
        if call.path in _STREAMS:
            return self._quotas.stream(session.caller)
        return self._quotas.request(session.caller, request.content_length or 0)

    def _problem(self, request: web.BaseRequest, path: str, error: KvError) -> Answer:
        if request.method == "OPTIONS":
            try:
                allow = self._router.allow(path)
            except KvError as missing:
                return problem(missing)
            return answer(204, headers=b"Allow: %s\r\n" % allow.encode())
        if isinstance(error, Unexpected):
            return self._unexpected(request.method, request.raw_path)
        return problem(error)

    def _unexpected(self, method: str, target: str) -> Answer:
        """Called while an exception is handled. A read changed nothing, whatever went wrong."""
        _log.exception("unexpected error: %s %s", method, target[:200])
        error = Unexpected("an unexpected error; the log of the server has the details")
        return problem(error, NOT_APPLIED if method in _READS else None)


def _tls(config: Config) -> "ServerTls | None":
    """What the client port speaks; None is plain HTTP. Raises InvalidArgument."""
    if config.cert_file is None or config.key_file is None:
        return None
    # Imported here: it is slow, and most nodes of tests and demos do without.
    from kvstore.certificates.contexts import ServerTls

    return ServerTls(config.cert_file, config.key_file, config.client_ca, time.monotonic)


def _audit_log(config: Config) -> AuditLog | None:
    """Raises InvalidArgument if it cannot be opened."""
    if config.audit_log is None:
        return None
    try:
        return AuditLog(config.audit_log, config.node_id)
    except OSError as error:
        text = f"audit-log: cannot open {config.audit_log}: {error.strerror}"
        raise InvalidArgument("audit-log", text) from None


def _advertised(config: Config) -> tuple[str, ...]:
    """The host by which others are told to reach this node."""
    return () if config.advertise_client is None else (config.advertise_client[0],)


def _is_exposed(config: Config) -> bool:
    """Whether other machines are served without TLS."""
    return bool(exposures(config))


async def _look(tls: "ServerTls") -> None:
    """See changes of the certificate's files."""
    while True:
        await asyncio.sleep(CERTIFICATES_S)
        tls.look()


def _protocol_log() -> logging.Logger:
    """aiohttp's log, without a traceback for each client that does not speak HTTP."""
    log = logging.getLogger("http_api.protocol")
    if not log.filters:
        log.addFilter(_is_ours)
    return log


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
