"""The table of routes: dispatch, 405 and the OpenAPI description all read it."""

import re
from collections.abc import Iterable

from http_api.core.calls import NativeCall
from http_api.core.metrics import HttpMetrics, Meter
from kvstore.errors import MethodNotAllowed, PathNotFound


class Resource:
    """The calls at one path, by method."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.methods: dict[str, tuple[NativeCall, Meter]] = {}

    @property
    def allow(self) -> str:
        """The value of an Allow header."""
        return ", ".join([*sorted(self.methods), "OPTIONS"])


class Router:
    """Finds the call that a request is for. HEAD goes where GET goes; the answer leaves the body
    out."""

    def __init__(self, calls: Iterable[NativeCall], metrics: HttpMetrics) -> None:
        self.calls = tuple(calls)
        self._exact: dict[str, Resource] = {}
        self._patterns: list[tuple[str, str, Resource]] = []
        resources: dict[str, Resource] = {}
        for call in self.calls:
            resource = resources.get(call.path)
            if resource is None:
                resource = resources[call.path] = Resource(call.path)
                self._add(resource)
            resource.methods[call.method] = call, metrics.meter(call.path, call.method)
        for path, resource in resources.items():
            if "GET" in resource.methods and "HEAD" not in resource.methods:
                call, _ = resource.methods["GET"]
                resource.methods["HEAD"] = call, metrics.meter(path, "HEAD")

    def _add(self, resource: Resource) -> None:
        head, brace, rest = resource.path.partition("{")
        if brace:
            self._patterns.append((head, rest.partition("}")[2], resource))
            self._patterns.sort(key=lambda entry: -len(entry[0]) - len(entry[1]))
        else:
            self._exact[resource.path] = resource

    def resolve(self, method: str, path: str) -> tuple[NativeCall, Meter, str]:
        """The call, its meter and the raw path parameter; raises PathNotFound, MethodNotAllowed."""
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
        exact = self._exact.get(path)
        if exact is not None:
            return exact, ""
        for head, tail, resource in self._patterns:
            if path.startswith(head) and path.endswith(tail, len(head)):
                return resource, path[len(head) : len(path) - len(tail)]
        raise PathNotFound(f"there is nothing at {path[:80]}; /openapi.json lists every call")


_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def split_target(target: str) -> tuple[str, str]:
    """Raw path and raw query of a request target, its origin removed if it has one."""
    if not target.startswith("/"):
        target = _ORIGIN.sub("", target, count=1)
    path, _, query = target.partition("?")
    return path or "/", query
