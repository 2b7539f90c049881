"""`GET /v1/kv`: keys in order, page by page, all pages from one revision."""

import base64
import binascii
import zlib
from typing import NamedTuple

import msgspec
from aiohttp import web

from http_api.core import params
from http_api.core.context import Context
from http_api.core.params import ReadOptions
from http_api.core.problems import Contradiction
from http_api.core.responses import Answer, json_answer
from http_api.core.router import Doc, Route
from http_api.core.store import State
from http_api.v1.documents import ITEM, item_document
from http_api.v1.kv import READ_PROBLEMS
from kvstore.commands.operations import KeyValue, prefix_end
from kvstore.errors import InvalidArgument
from kvstore.state.mvcc import KeyPage

QUERY = (
    "prefix", "start", "end", "limit", "order", "keys_only", "cursor",
    "revision", "consistency", "timeout",
)  # fmt: skip
LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
PAGE_BYTES_MAX = 4 << 20
"""A page ends early once its values pass this, so that large values do not make it unbounded."""
_STEP = 16
"""Items read at once where values count: with the largest values a step is 16 MiB."""


class PageCursor(msgspec.Struct, array_like=True, frozen=True):
    """Where the next page begins. `query` ties it to the range, order and fields it came from."""

    revision: int
    last_key: bytes
    query: int


class Query(NamedTuple):
    """A range of keys: `start` inclusive, `end` exclusive, None = no end."""

    start: bytes
    end: bytes | None
    reverse: bool
    keys_only: bool

    def fingerprint(self) -> int:
        """Equal for equal queries."""
        return zlib.crc32(msgspec.msgpack.encode(self))


_decode_cursor = msgspec.msgpack.Decoder(PageCursor).decode


def parse_range(found: dict[str, bytes]) -> Query:
    """`prefix`, or `start` and `end`; `order` and `keys_only`."""
    start, end = found.get("start", b""), found.get("end")
    if "prefix" in found:
        if "start" in found or end is not None:
            raise Contradiction("prefix gives a range already; send it without start and end")
        start, end = found["prefix"], prefix_end(found["prefix"])
    if end is not None and end <= start:
        raise Contradiction("the range is empty: end must be greater than start")
    order = params.choice(found.get("order", b"asc"), "order", ("asc", "desc"))
    keys_only = params.flag(found["keys_only"], "keys_only") if "keys_only" in found else False
    return Query(start, end, order == "desc", keys_only)


def resume(text: bytes, query: Query) -> tuple[Query, int]:
    """The rest of the range after a cursor, and the revision that the cursor pins."""
    try:
        padded = text + b"=" * (-len(text) % 4)
        cursor = _decode_cursor(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.DecodeError):
        raise InvalidArgument(
            "cursor", "cursor: not a cursor of this store; send the last page's as it is"
        ) from None
    if cursor.query != query.fingerprint() or not 1 <= cursor.revision <= params.REVISION_MAX:
        raise InvalidArgument(
            "cursor",
            "cursor: it belongs to another query; repeat prefix, start, end, order and "
            "keys_only as in the first request",
        )
    if query.reverse:
        return query._replace(end=cursor.last_key), cursor.revision
    return query._replace(start=cursor.last_key + b"\0"), cursor.revision


def read_page(state: State, query: Query, revision: int, limit: int) -> KeyPage:
    """Up to `limit` items, fewer where their values pass PAGE_BYTES_MAX.

    Reads in steps without giving way to other tasks, so all steps see one state.
    """
    items: list[KeyValue] = []
    size = 0
    while True:
        step = limit - len(items)
        if not query.keys_only:
            step = min(step, _STEP)
        page = state.range(
            query.start,
            query.end,
            revision=revision,
            limit=step,
            reverse=query.reverse,
            keys_only=query.keys_only,
        )
        items += page.items
        size += sum(len(item.value) for item in page.items)
        if not page.more or not page.items or len(items) >= limit or size >= PAGE_BYTES_MAX:
            return KeyPage(items, page.more, page.revision)
        last = page.items[-1].key
        query = query._replace(end=last) if query.reverse else query._replace(start=last + b"\0")


class ListingResource:
    """The handler of ranges of keys."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, request: web.BaseRequest, _: str, raw_query: str) -> Answer:
        """One page, and the cursor of the next."""
        found = params.parse_query(raw_query, QUERY)
        query = parse_range(found)
        limit = LIMIT_DEFAULT
        if "limit" in found:
            limit = params.integer(found["limit"], "limit", 1, LIMIT_MAX)
        options = params.read_options(found, self._context.config)
        rest = query
        if "cursor" in found:
            rest, pinned = resume(found["cursor"], query)
            if options.revision not in (0, pinned):
                raise Contradiction(f"the cursor pins revision {pinned}; send it without revision")
            options = ReadOptions(pinned, options.serializable, options.timeout_s)
        state = await self._context.readable(options)
        page = read_page(state, rest, options.revision, limit)
        # A page of the current state says the revision to stay with; a page at an older one
        # must not move on, whatever revision the store has reached since.
        revision = options.revision or page.revision
        cursor = None
        if page.more and page.items:
            packed = msgspec.msgpack.encode(
                PageCursor(revision, page.items[-1].key, query.fingerprint())
            )
            cursor = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
        items = [item_document(item, query.keys_only) for item in page.items]
        return json_answer({"revision": revision, "items": items, "cursor": cursor})

    def routes(self) -> list[Route]:
        """The calls of this resource."""
        return [Route("GET", "/v1/kv", self.get, _DOC)]


_DOC = Doc(
    "List keys in order, page by page",
    query=QUERY,
    answers={
        200: {
            "description": "A page; all pages of one listing show the same revision",
            "properties": {
                "revision": {"type": "integer", "description": "The revision that it shows"},
                "items": {"type": "array", "items": ITEM},
                "cursor": {
                    "type": ["string", "null"],
                    "description": "Send it to get the next page; null at the end",
                },
            },
        }
    },
    problems=(Contradiction, *READ_PROBLEMS),
)
