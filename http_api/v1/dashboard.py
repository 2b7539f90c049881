"""`/` and `/ui/…`: the dashboard, a page of plain modules without any outside resource.

The page is the same for everybody: what it shows comes from the calls of the API, with the rights
of whoever looks. `page` and `part` are also what `kvstore demo` serves.
"""

from importlib.resources import files

from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, answer
from kvstore.errors import InvalidArgument, PathNotFound

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    b"Content-Security-Policy: %s\r\n"
    b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
    b"Cache-Control: no-cache\r\n"
) % CONTENT_SECURITY_POLICY.encode()
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_STATIC = files("http_api.v1").joinpath("static")


def _parts() -> dict[str, tuple[bytes, str]]:
    """Name to content and type of everything in `static/`."""
    found = {}
    for folder, prefix in ((_STATIC, ""), (_STATIC.joinpath("vendor"), "vendor/")):
        for file in folder.iterdir():
            kind = TYPES.get(file.name[file.name.rfind(".") :])
            if kind is not None and file.is_file():
                found[prefix + file.name] = file.read_bytes(), kind
    return found


PARTS = _parts()


async def get(ask: Ask[None]) -> Answer:
    """The page."""
    ask.options()
    body, kind = PARTS["index.html"]
    return answer(200, body, kind.encode(), _HEADERS)


async def part(ask: Ask[None]) -> Answer:
    """One of its modules or styles."""
    ask.options()
    found = PARTS.get(ask.parameter)
    if found is None:
        raise PathNotFound(f"the dashboard has no part {ask.parameter[:80]!r}")
    body, kind = found
    return answer(200, body, kind.encode(), _HEADERS)


_DOC = Doc(
    "The dashboard",
    answers={200: {"description": "HTML", "type": "text/html"}},
    problems=(InvalidArgument,),
)
_PART_DOC = Doc(
    "A module or a style of the dashboard",
    answers={
        200: {
            "description": "The file",
            "content": {kind.partition(";")[0]: {"type": "string"} for kind in TYPES.values()},
        }
    },
    problems=(InvalidArgument, PathNotFound),
)
CALLS = (
    Call("GET", "/", get, Need.OPEN, _DOC),
    Call("GET", "/ui/{file}", part, Need.OPEN, _PART_DOC),
)
