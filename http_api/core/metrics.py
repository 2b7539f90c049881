"""HTTP metrics. A request costs a few additions; Prometheus's types are built at scrape time."""

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from http_api.core.connections import ConnectionBound
from http_api.limits.quotas import Quotas
from kvstore.audit_log import AuditLog
from kvstore.replica.metrics import stage_family
from kvstore.replica.stages import Durations

if TYPE_CHECKING:
    from kvstore.certificates.contexts import ServerTls

BOUNDS_S = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip


class Meter:
    """Counts the requests of one route and method."""

    __slots__ = ("durations", "method", "route", "statuses")

    def __init__(self, route: str, method: str) -> None:
        self.route = route
        self.method = method
        self.statuses: dict[int, int] = {}
        self.durations = Durations(BOUNDS_S)

    def observe(self, status: int, seconds: float) -> None:
        """One request that took so long to answer."""
        statuses = self.statuses
        statuses[status] = statuses.get(status, 0) + 1
        self.durations.observe(seconds)


class HttpStages:
    """The stages of plain writes on the side of HTTP, a group of one turn of the loop at a time.

    `into`: from the first request's parsing until the group is given to the replica. `store`: until
    it has an answer. `out`: until all answers are written to their connections.
    """

    __slots__ = ("into", "out", "store")

    def __init__(self) -> None:
        self.into = Durations()
        self.store = Durations()
        self.out = Durations()

    def items(self) -> Iterator[tuple[str, Durations]]:
        """All of them by name, in the order of a write's way."""
        yield from (("in", self.into), ("store", self.store), ("out", self.out))


class HttpMetrics(Collector):
    """All meters of a server. Scrapes and requests share one thread, so nothing is locked."""

    def __init__(
        self,
        bound: ConnectionBound,
        tls: "ServerTls | None",
        exposed: bool,
        audit: AuditLog | None,
        quotas: Quotas,
    ) -> None:
        self._quotas = quotas
        self._audit = audit
        self._meters: list[Meter] = []
        self._tls = tls
        self._exposed = exposed
        self.stages = HttpStages()
        self._bound = bound

    def meter(self, route: str, method: str) -> Meter:
        """A new meter."""
        meter = Meter(route, method)
        self._meters.append(meter)
        return meter

    def durations_of(self, routes: Container[tuple[str, str]]) -> list[Durations]:
        """How long requests for these (route, method) took."""
        return [m.durations for m in self._meters if (m.route, m.method) in routes]

    def collect(self) -> Iterator[Metric]:
        """The families; routes that were never called are left out."""
        requests = CounterMetricFamily(
            "kvstore_http_requests", "HTTP requests answered", labels=("route", "method", "status")
        )
        durations = HistogramMetricFamily(
            "kvstore_http_request_duration_seconds",
            "Time from the end of the request's head to its answer",
            labels=("route", "method"),
        )
        for meter in self._meters:
            for status, count in meter.statuses.items():
                requests.add_metric((meter.route, meter.method, str(status)), count)
            if meter.statuses:
                durations.add_metric((meter.route, meter.method), *meter.durations.histogram())
        yield requests
        yield durations
        yield stage_family(
            "kvstore_http_write_stage_seconds",
            "Time of a group of plain writes in each stage on the side of HTTP",
            self.stages.items(),
        )
        yield CounterMetricFamily(
            "kvstore_http_connections_refused",
            "Connections refused because too many were open",
            value=self._bound.refused,
        )
        yield GaugeMetricFamily(
            "kvstore_http_connections", "Connections that are open", value=self._bound.count()
        )
        yield GaugeMetricFamily(
            "kvstore_http_connections_max",
            "Connections that may be open, as far as the file descriptors suffice",
            value=self._bound.most,
        )
        yield from self._doors()

    def _doors(self) -> Iterator[Metric]:
        """Who gets in, how, and what is written down of it."""
        yield GaugeMetricFamily(
            "kvstore_insecure",
            "1 while clients or peers on other machines are served without TLS",
            value=int(self._exposed),
        )
        yield CounterMetricFamily(
            "kvstore_quota_refused",
            "Requests and streams refused because their user has enough in work",
            value=self._quotas.refused,
        )
        yield CounterMetricFamily(
            "kvstore_audit_lost",
            "Records of the audit log that could not be written",
            value=0 if self._audit is None else self._audit.dropped,
        )
        tls = self._tls
        yield GaugeMetricFamily(
            "kvstore_certificate_ends_timestamp_seconds",
            "When the certificate of the client port ends, in seconds since 1970; 0 without TLS",
            value=0 if tls is None else tls.facts.ends.timestamp(),
        )
        yield CounterMetricFamily(
            "kvstore_tls_refused",
            "TLS handshakes of clients that failed",
            value=0 if tls is None else tls.refused,
        )

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand."""
        return iter(())

    def register(self, registry: CollectorRegistry) -> None:
        """Be scraped through `registry`."""
        registry.register(self)
