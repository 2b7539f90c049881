"""What a browser may do here: pages of other sites may not use the person's access.

A browser sends requests on behalf of any page that it shows, from inside the network that the
person is in. Two attacks follow. A page of another site sends a write, as a form does: such a
request says where it comes from (`Origin`, or `Sec-Fetch-Site`), and is refused unless that is this
node, or a site that the operator allows. Or the site's own name is made to lead to this node's
address, so that the browser takes it for the site (DNS rebinding): then `Host` is that name, and is
refused unless it is a name of this node. Programs send none of this and are not held up.
"""

import socket
from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from http_api.core.responses import Answer, answer
from kvstore.config import Address, is_loopback
from kvstore.errors import CrossSite, UnknownHost
from kvstore.peers.roster import Roster

ANY = "*"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
NOSNIFF = "X-Content-Type-Options", "nosniff"
_CORS: Any = web.RequestKey("cors", dict) if hasattr(web, "RequestKey") else "cors"
"""Under which a request holds the header lines that its answer needs; releases of aiohttp before
3.14 take text only."""
_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, "
    "If-None-Match, Last-Event-ID, X-Keep-Alive-S",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = "ETag, X-Create-Revision, X-Version, X-Lease, Retry-After"
_BROWSER_AGENT = "Mozilla/"


class Browsers:
    """The rules of one server. `names`: hosts that it goes by besides addresses and names without
    a dot, which nobody can register; `listening` is the host that it is bound to. `origins` may
    use it from their pages; "*" in either is all of them. `members()` are the hosts at which the
    members are now: they come and go."""

    def __init__(
        self, listening: str, peers: Iterable[Address], names: tuple[str, ...],
        origins: tuple[str, ...], members: Callable[[], Collection[str]] = tuple,
    ) -> None:  # fmt: skip
        self._members = members
        self._any_name = ANY in names
        known = {listening, *(host for host, _ in peers), *names, socket.gethostname()}
        self._names = {name.lower().rstrip(".") for name in known}
        self._any_origin = ANY in origins
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._local = is_loopback(listening)

    def knows_host(self, host: str) -> bool:
        """Whether a Host header can be meant for this node."""
        if self._any_name:
            return True
        name = _hostname(host)
        if not name:
            return host == ""  # HTTP/1.0, or an empty one, names nothing
        if "." not in name or name in self._names or name.endswith(".localhost"):
            return True
        return _is_address(name) or name in self._members()

    def check(self, request: web.BaseRequest) -> None:
        """Raise UnknownHost or CrossSite for what a page of another site may not do; and remember
        what the answer must say to an allowed one."""
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        origin = headers.get(hdrs.ORIGIN)
        site = headers.get("Sec-Fetch-Site")
        if not self.knows_host(host) and (self._local or _from_browser(request)):
            raise UnknownHost(host)
        if origin is not None and self._allows(origin):
            request[_CORS] = self._cors_lines(origin)
            return
        if request.method in SAFE_METHODS and headers.get(hdrs.UPGRADE) is None:
            return
        if not _own_page(origin, site, headers.get(hdrs.REFERER), host):
            raise CrossSite(origin or "another site")

    def preflight(self, request: web.BaseRequest) -> Answer | None:
        """The answer to a browser that asks whether an allowed page may send something."""
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        if _CORS not in request:
            return None
        lines = "".join(f"{name}: {text}\r\n" for name, text in _ALLOWED.items())
        return answer(204, headers=lines.encode())

    def _allows(self, origin: str) -> bool:
        return self._any_origin or origin.lower() in self._origins

    def _cors_lines(self, origin: str) -> dict[str, str]:
        shown = ANY if self._any_origin else origin
        lines = {
            "Access-Control-Allow-Origin": shown,
            "Access-Control-Expose-Headers": _EXPOSED,
        }
        return lines if self._any_origin else {**lines, hdrs.VARY: "Origin"}


def cors_lines(request: web.BaseRequest) -> dict[str, str]:
    """What the answer to an allowed page must say; nothing to anybody else."""
    found: dict[str, str] = request.get(_CORS, {})
    return found


def stream_headers(request: web.BaseRequest, content_type: str) -> dict[str, str]:
    """The headers of an answer that is sent piece by piece."""
    return {hdrs.CONTENT_TYPE: content_type, NOSNIFF[0]: NOSNIFF[1], **cors_lines(request)}


def _own_page(origin: str | None, site: str | None, referer: str | None, host: str) -> bool:
    """Whether what a browser says of where a request comes from names this node; the surest of
    what it says counts, and who says nothing is no browser."""
    if origin is not None:
        return _same(origin, host)
    if site is not None:
        return site in ("same-origin", "none")
    return referer is None or _same(referer, host)


def _from_browser(request: web.BaseRequest) -> bool:
    headers = request.headers
    return (
        hdrs.ORIGIN in headers
        or hdrs.REFERER in headers
        or "Sec-Fetch-Site" in headers
        or headers.get(hdrs.USER_AGENT, "").startswith(_BROWSER_AGENT)
    )


def member_hosts(roster: Roster | None) -> set[str]:
    """The hosts by which the members are reached, in lower case."""
    members = () if roster is None else roster.members
    addresses = [text for one in members for text in (one.peer_address, one.client_address)]
    return {_hostname(text.rpartition("://")[2]) for text in addresses} - {""}


def _hostname(host: str) -> str:
    """A Host header without its port, in lower case; "" if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _same(origin: str, host: str) -> bool:
    """Whether a page of that origin was got from this very host and port."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
