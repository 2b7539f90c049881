"""`/`: a page for people that shows the cluster, without any outside resource."""

from importlib.resources import files

from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, answer
from kvstore.errors import InvalidArgument

_HEADERS = (
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
    b"script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'\r\n"
    b"Cache-Control: no-cache\r\nReferrer-Policy: no-referrer\r\n"
)


_PAGE = files("http_api.v1").joinpath("static/index.html").read_bytes()


async def get(ask: Ask[None]) -> Answer:
    """The page."""
    ask.options()
    return answer(200, _PAGE, b"text/html; charset=utf-8", _HEADERS)


_DOC = Doc(
    "A page that shows the cluster",
    answers={200: {"description": "HTML", "type": "text/html"}},
    problems=(InvalidArgument,),
)
CALLS = (Call("GET", "/", get, Need.OPEN, _DOC),)
