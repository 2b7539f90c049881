"""`/`: a page for people that shows the cluster, without any outside resource."""

from importlib.resources import files

from aiohttp import web

from http_api.core import params
from http_api.core.responses import Answer, answer
from http_api.core.router import Doc, Route
from kvstore.errors import InvalidArgument

_HEADERS = (
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
    b"script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'\r\n"
    b"X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n"
)


class DashboardResource:
    """The handler of the page, which is read once."""

    def __init__(self) -> None:
        self._page = files("http_api.v1").joinpath("static/index.html").read_bytes()

    async def get(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        """The page."""
        params.parse_query(query, ())
        return answer(200, self._page, b"text/html; charset=utf-8", _HEADERS)

    def routes(self) -> list[Route]:
        """The calls of this resource."""
        return [Route("GET", "/", self.get, _DOC)]


_DOC = Doc(
    "A page that shows the cluster",
    answers={200: {"description": "HTML", "type": "text/html"}},
    problems=(InvalidArgument,),
)
