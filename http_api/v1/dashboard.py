"""`/`, `/learn` and `/ui/…`: dashboard and lessons, plain modules without any outside resource.

They are the same for everybody: what they show comes from the calls of the API, with the rights
of whoever looks. `PARTS` are also what `kvstore demo` serves.
"""

from importlib.resources import files

from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, answer, json_answer
from http_api.v1.code_shown import answering_code
from http_api.v1.free_play import game_document
from kvstore.errors import InvalidArgument, PathNotFound

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    b"Content-Security-Policy: %s\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-cache\r\n"
) % CONTENT_SECURITY_POLICY.encode()
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
_STATIC = files("http_api.v1").joinpath("static")


def _parts() -> dict[str, tuple[bytes, str]]:
    """Name to content and type of everything in `static/`."""
    found = {}
    for prefix in ("", "vendor/", "learn/"):
        for file in _STATIC.joinpath(prefix).iterdir():
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


async def learn(ask: Ask[None]) -> Answer:
    """The lessons."""
    ask.options()
    body, kind = PARTS["learn.html"]
    return answer(200, body, kind.encode(), _HEADERS)


async def code(ask: Ask[None]) -> Answer:
    """What answers each message of a lesson."""
    ask.options()
    return json_answer(answering_code())


async def play(ask: Ask[None]) -> Answer:
    """A game, played anew by its moves."""
    moves = ask.options().get("moves", b"").decode("latin-1")
    return json_answer(game_document(moves))


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
_LEARN_DOC = Doc(
    "Paxos, step by step: the lessons",
    answers={200: {"description": "HTML", "type": "text/html"}},
    problems=(InvalidArgument,),
)
_CODE_DOC = Doc(
    "The code that answers each kind of message: file, line and text",
    answers={200: {"description": "By the message's name", "schema": {"type": "object"}}},
    problems=(InvalidArgument,),
)
_PLAY_DOC = Doc(
    "Paxos to try oneself: the game after some moves, and what can be done next",
    query=("moves",),
    answers={200: {"description": "As a lesson, with choices", "schema": {"type": "object"}}},
    problems=(InvalidArgument,),
)
CALLS = (
    Call("GET", "/", get, Need.OPEN, _DOC),
    Call("GET", "/learn", learn, Need.OPEN, _LEARN_DOC),
    Call("GET", "/learn/code.json", code, Need.OPEN, _CODE_DOC),
    Call("GET", "/learn/play.json", play, Need.OPEN, _PLAY_DOC),
    Call("GET", "/ui/{file}", part, Need.OPEN, _PART_DOC),
)
