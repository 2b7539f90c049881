"""How streams run, and the usual carrier of one: a request and its chunked response."""

from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import HttpProcessingError

from http_api.core.bodies import next_piece
from http_api.core.browsers import stream_headers
from http_api.core.responses import JSON, answer
from http_api.core.streams import Streams
from http_api.etcd.calls import EtcdStream, StreamCall
from http_api.etcd.channel import STOPPED, BadDocument, Channel
from http_api.etcd.errors import status_of
from http_api.etcd.gateway import Gateway
from kvstore.errors import AuthError, KvError, Stopping
from kvstore.replica.leader_absence import LeaderAbsence

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpChannel(Channel):
    """A request body and a chunked response: one chunk per message."""

    def __init__(self, request: web.BaseRequest) -> None:
        super().__init__(request)
        self._response: web.StreamResponse | None = None
        self._expected = hdrs.EXPECT in request.headers and request.version.minor > 0

    async def _piece(self) -> bytes | None:
        content = self.request.content
        if self._expected and not content.is_eof() and self.request.transport is not None:
            self.request.transport.write(_CONTINUE)
        self._expected = False
        try:
            return await next_piece(self.request) or None
        except (web.RequestPayloadError, HttpProcessingError):
            return None  # a broken body says no more

    async def _write(self, line: bytes) -> None:
        await self._open()
        writer = self.request.writer
        assert isinstance(writer, StreamWriter)
        await writer.write(line, drain=False)

    async def _open(self) -> web.StreamResponse:
        """The response; its head goes out with the first message, not before."""
        if self._response is None:
            headers = stream_headers(self.request, "application/json")
            self._response = web.StreamResponse(headers=headers)
            await self._response.prepare(self.request)
        return self._response

    async def finish(self) -> web.StreamResponse:
        """An empty response if nothing was sent."""
        return await self._open()

    async def fail(self, gateway: Gateway, error: KvError) -> web.StreamResponse:
        """As the answer if nothing was sent, else as the last chunk."""
        if isinstance(error, BadDocument) and self._response is None:
            return gateway.error(error)
        status = STOPPED if isinstance(error, Stopping) else status_of(error)
        body = orjson.dumps(status.stream_document())
        if self._response is None:
            return answer(status.http_status, body, JSON)
        await self._write(body)
        return self._response


async def run(
    opened: EtcdStream,
    call: StreamCall[Any],
    streams: Streams,
    leader_absence: LeaderAbsence | None,
) -> web.StreamResponse:
    """Serve one stream to its end. A refusal of its caller is told as the row says; other errors
    are told as they are. `leader_absence`: its client asks for a node that has a leader."""
    channel = opened.channel
    try:
        try:
            await streams.run(channel.link, _served(opened, call, leader_absence), leader_absence)
        except AuthError as error:
            raise call.told(error) from None
    except KvError as error:
        return await channel.fail(opened.gateway, error)
    return await channel.finish()


async def _served(
    opened: EtcdStream, call: StreamCall[Any], leader_absence: LeaderAbsence | None
) -> None:
    if leader_absence is not None and leader_absence.leaderless:
        raise leader_absence.error()
    await call.handler(opened)
