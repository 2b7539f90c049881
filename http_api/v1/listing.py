"""`GET /v1/kv`: keys in order, page by page, all pages from one revision."""

import base64
import zlib
from typing import NamedTuple

import msgspec

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.params import ReadOptions
from http_api.core.responses import Answer, json_answer
from http_api.v1.documents import ITEM, bounded, item_document
from http_api.v1.kv import READ_PROBLEMS
from kvstore.commands.operations import Order, Select, prefix_end
from kvstore.errors import Contradiction, InvalidArgument

QUERY = (
    "prefix", "start", "end", "limit", "order", "keys_only", "cursor",
    "revision", "consistency", "timeout",
)  # fmt: skip
LIMIT_DEFAULT = 100
LIMIT_MAX = 1000


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
    for name in ("start", "end", "prefix"):
        bounded(name, found.get(name, b""))
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
    except (msgspec.DecodeError, ValueError, RecursionError):
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


async def get(ask: Ask[None]) -> Answer:
    """One page, and the cursor of the next. Large values make a page shorter."""
    found = ask.options()
    query = parse_range(found)
    limit = LIMIT_DEFAULT
    if "limit" in found:
        limit = params.integer(found["limit"], "limit", 1, LIMIT_MAX)
    options = params.read_options(found, ask.config)
    rest = query
    if "cursor" in found:
        rest, pinned = resume(found["cursor"], query)
        if options.revision not in (0, pinned):
            raise Contradiction(f"the cursor pins revision {pinned}; send it without revision")
        options = ReadOptions(pinned, options.serializable, options.timeout_s)
    await ask.session.readable(*options)
    order = Order.DESCEND if rest.reverse else Order.ASCEND
    wanted = Select(rest.start, rest.end, options.revision, order=order, keys_only=rest.keys_only)
    page = await ask.session.selection(wanted).page(limit)
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
CALLS = (Call("GET", "/v1/kv", get, Need.CALLER, _DOC),)
