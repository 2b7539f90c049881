"""The same streams over a WebSocket: each frame in is part of what the client says, each out is
one message. Several documents in a frame, or one in several frames, are fine.
"""

import orjson
from aiohttp import WSMsgType, web

from http_api.etcd.channel import DOCUMENT_BYTES_MAX, STOPPED, BadDocument, Channel
from http_api.etcd.errors import INVALID_ARGUMENT, EtcdError, status_of
from http_api.etcd.gateway import Gateway
from kvstore.errors import KvError, Stopping

CLOSE_S = 1.0
"""How long the other side has to answer the closing handshake."""

_NEVER = 1 << 62
_FRAMES = (WSMsgType.TEXT, WSMsgType.BINARY)


class WebSocketChannel(Channel):
    """A WebSocket whose handshake is done. Its client cannot end its requests and still read, as
    at the end of a body: closing the socket ends the stream."""

    def __init__(self, request: web.BaseRequest, socket: web.WebSocketResponse[bool]) -> None:
        super().__init__(request)
        self._socket = socket

    async def _piece(self) -> bytes | None:
        message = await self._socket.receive()
        if message.type not in _FRAMES:
            return None
        data: bytes = message.data
        return data + b"\n"

    async def _write(self, line: bytes) -> None:
        await self._socket.send_frame(line.rstrip(b"\n"), WSMsgType.TEXT)

    async def finish(self) -> web.StreamResponse:
        """Close it."""
        await self._socket.close()
        return self._socket

    async def fail(self, gateway: Gateway, error: KvError) -> web.StreamResponse:
        """The error as the last frame."""
        status = STOPPED if isinstance(error, Stopping) else status_of(error)
        bad = isinstance(error, BadDocument)
        document = status.document() if bad else status.stream_document()
        await self._write(orjson.dumps(document))
        return await self.finish()


async def open_websocket(request: web.BaseRequest) -> WebSocketChannel:
    """Do the handshake. Raises EtcdError if the request is not one."""
    socket = web.WebSocketResponse(
        timeout=CLOSE_S,
        protocols=("Bearer",),  # what browsers offer to etcd; those who offer one insist on it
        compress=False,
        max_msg_size=DOCUMENT_BYTES_MAX,
        writer_limit=_NEVER,  # `StreamLink.drained` waits for the client instead
        decode_text=False,
    )
    try:
        await socket.prepare(request)
    except web.HTTPBadRequest as error:
        raise EtcdError(INVALID_ARGUMENT, error.text or "bad handshake") from None
    return WebSocketChannel(request, socket)
