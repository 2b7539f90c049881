"""The table of routes: dispatch, 405 and the OpenAPI description all read it."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from http_api.core.metrics import HttpMetrics, Meter
from http_api.core.problems import MethodNotAllowed, PathNotFound
from kvstore.errors import KvError

Handler = Callable[[web.BaseRequest, str, str], Awaitable[web.StreamResponse]]
"""Takes the request, the raw path parameter ("" if the path has none) and the raw query."""


@dataclass(frozen=True)
class Doc:
    """What a caller may send and will get; `query` is also what the handler accepts.

    `limit_max`: how far `limit` goes, and its default, where they are not those of listings.
    """

    summary: str
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    problems: tuple[type[KvError], ...] = ()
    limit_max: int | None = None


class Route(NamedTuple):
    """One call. A path may hold one `{parameter}`, which takes all there is, slashes included."""

    method: str
    path: str
    handler: Handler
    doc: Doc


class Resource:
    """The handlers of one path, by method."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.methods: dict[str, tuple[Handler, Meter]] = {}

    @property
    def allow(self) -> str:
        """The value of an Allow header."""
        return ", ".join([*sorted(self.methods), "OPTIONS"])


class Router:
    """Finds the handler of a request. HEAD goes where GET goes; the answer leaves the body out."""

    def __init__(self, routes: Iterable[Route], metrics: HttpMetrics) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, Resource] = {}
        self._patterns: list[tuple[str, str, Resource]] = []
        resources: dict[str, Resource] = {}
        for route in self.routes:
            resource = resources.get(route.path)
            if resource is None:
                resource = resources[route.path] = Resource(route.path)
                self._add(resource)
            meter = metrics.meter(route.path, route.method)
            resource.methods[route.method] = route.handler, meter
        for path, resource in resources.items():
            if "GET" in resource.methods and "HEAD" not in resource.methods:
                handler, _ = resource.methods["GET"]
                resource.methods["HEAD"] = handler, metrics.meter(path, "HEAD")

    def _add(self, resource: Resource) -> None:
        head, brace, rest = resource.path.partition("{")
        if brace:
            self._patterns.append((head, rest.partition("}")[2], resource))
            self._patterns.sort(key=lambda entry: -len(entry[0]) - len(entry[1]))
        else:
            self._exact[resource.path] = resource

    def resolve(self, method: str, path: str) -> tuple[Handler, Meter, str]:
        """Handler, its meter and the raw path parameter; raises PathNotFound, MethodNotAllowed."""
        resource, parameter = self.find(path)
        found = resource.methods.get(method)
        if found is None:
            raise MethodNotAllowed(method, resource.allow)
        return *found, parameter

    def allow(self, path: str) -> str:
        """The methods that a raw path takes, `*` standing for the server; or PathNotFound."""
        if path == "*":
            return "GET, HEAD, PUT, POST, DELETE, OPTIONS"
        return self.find(path)[0].allow

    def find(self, path: str) -> tuple[Resource, str]:
        """The resource at a raw path, and the path parameter; raises PathNotFound."""
        for head, tail, resource in self._patterns:
            if path.startswith(head) and path.endswith(tail, len(head)):
                return resource, path[len(head) : len(path) - len(tail)]
        exact = self._exact.get(path)
        if exact is None:
            raise PathNotFound(f"there is nothing at {path[:80]}; /openapi.json lists every call")
        return exact, ""


_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def split_target(target: str) -> tuple[str, str]:
    """Raw path and raw query of a request target, its origin removed if it has one."""
    if not target.startswith("/"):
        target = _ORIGIN.sub("", target, count=1)
    path, _, query = target.partition("?")
    return path or "/", query
