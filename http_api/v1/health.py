"""`/healthz`, `/readyz`, `/metrics` and `/v1/version`: for orchestrators, Prometheus and people."""

import platform
from importlib.metadata import PackageNotFoundError, version

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from http_api.core import params
from http_api.core.context import Context
from http_api.core.problems import NotReady
from http_api.core.responses import Answer, answer, json_answer
from http_api.core.router import Doc, Route
from kvstore.errors import InvalidArgument

DISTRIBUTION = "paxos-kvstore"


def server_version() -> str:
    """The installed version; "unknown" when run from a tree that was not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


class HealthResource:
    """The handlers that look at the process rather than at the data."""

    def __init__(self, context: Context, registry: CollectorRegistry) -> None:
        self._replica = context.replica
        self._registry = registry

    async def alive(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """200 as long as the process can answer at all."""
        params.parse_query(query, ())
        return json_answer({"status": "ok"})

    async def ready(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """200 while the node serves, else 503 and why not."""
        params.parse_query(query, ())
        status = self._replica.status()
        if not status.ready:
            raise NotReady(status.reason or "the node does not serve yet")
        return json_answer({"status": "ready"})

    async def metrics(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """Everything for Prometheus, in its text format. Queries are left to scrapers."""
        body = generate_latest(self._registry)
        return answer(200, body, CONTENT_TYPE_PLAIN_0_0_4.encode())

    async def version(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """What runs here."""
        params.parse_query(query, ())
        return json_answer(
            {"name": DISTRIBUTION, "version": server_version(), "python": platform.python_version()}
        )

    def routes(self) -> list[Route]:
        """The calls of this resource."""
        return [
            Route("GET", "/healthz", self.alive, _ALIVE),
            Route("GET", "/readyz", self.ready, _READY),
            Route("GET", "/metrics", self.metrics, _METRICS),
            Route("GET", "/v1/version", self.version, _VERSION),
        ]


_STATUS = {"status": {"type": "string"}}
_ALIVE = Doc(
    "Whether the process answers",
    answers={200: {"description": "It does", "properties": _STATUS}},
    problems=(InvalidArgument,),
)
_READY = Doc(
    "Whether the node serves reads and writes",
    answers={200: {"description": "It does", "properties": _STATUS}},
    problems=(InvalidArgument, NotReady),
)
_METRICS = Doc(
    "Metrics in Prometheus's text format",
    answers={200: {"description": "All metrics", "type": "text/plain"}},
)
_VERSION = Doc(
    "What runs here",
    answers={
        200: {
            "description": "Name and versions",
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "python": {"type": "string"},
            },
        }
    },
    problems=(InvalidArgument,),
)
