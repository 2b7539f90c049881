"""`kv/range`: an answer of any length, read in slices at one revision and sent as it is read."""

import orjson
from aiohttp import web

from http_api.core.calls import Need
from http_api.core.growing import GrowingAnswer
from http_api.etcd.calls import EtcdAsk, SizeRule, download
from http_api.etcd.encode import key_value, to_json
from http_api.etcd.kv import has_key, select_of
from http_api.etcd.messages import RangeRequest
from http_api.limits.slices import SlicedSelection


async def get_range(ask: EtcdAsk[RangeRequest], request: web.BaseRequest) -> web.StreamResponse:
    """kv/range, linearizable unless it asks not to be."""
    wanted = select_of(ask.message)
    await ask.session.readable(0, ask.message.serializable, ask.gateway.timeout_s)
    selection = ask.session.selection(wanted)
    out = GrowingAnswer(request)
    return await out.send(_write(out, to_json(ask.header(selection.revision)), selection))


async def _write(out: GrowingAnswer, header: bytes, selection: SlicedSelection) -> None:
    """A RangeResponse, its fields in the order in which etcd writes them."""
    await out.add(b'{"header":' + header)
    before = b',"kvs":['
    async for items in selection.pieces():
        if items:
            await out.add(before + orjson.dumps([key_value(item) for item in items])[1:-1])
            before = b","
    tail = b"]" if before == b"," else b""
    if selection.more:
        tail += b',"more":true'
    if selection.count:
        tail += b',"count":"%d"' % selection.count
    await out.add(tail + b"}")


CALLS = (
    download(
        "kv/range", RangeRequest, get_range, Need.CALLER,
        "Read a key or a range, now or at a revision.",
        size=SizeRule.MESSAGE, check=has_key,
    ),
)  # fmt: skip
