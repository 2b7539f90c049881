"""An answer that is made piece by piece: sent whole while it is short, streamed once it is long."""

from collections.abc import Awaitable

from aiohttp import web

from http_api.core.browsers import stream_headers
from http_api.core.responses import JSON, answer
from http_api.core.streams import StreamLink

WHOLE_BYTES_MAX = 1 << 20
"""What is longer is sent as it is made, and never lies in memory as a whole."""
BYTES_PER_WRITE = 256 << 10


class GrowingAnswer:
    """A JSON answer with status 200."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._waiting: list[bytes] = []
        self._size = 0
        self._response: web.StreamResponse | None = None
        self._link: StreamLink | None = None

    @property
    def begun(self) -> bool:
        """Whether a part of it has left: then no other answer can be given."""
        return self._response is not None

    async def add(self, data: bytes) -> None:
        """The next bytes. Raises ConnectionResetError if the client has gone, or reads nothing."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= (BYTES_PER_WRITE if self.begun else WHOLE_BYTES_MAX):
            await self._flush()

    async def send(self, writing: Awaitable[None]) -> web.StreamResponse:
        """The answer that `writing` adds. What is cut short once a part of it has left breaks the
        connection; before that, what is raised can still be answered."""
        try:
            await writing
            return await self.finish()
        except BaseException:
            if self.begun:
                self.abandon()
                raise ConnectionResetError("an answer that had begun cannot be finished") from None
            raise

    async def finish(self) -> web.StreamResponse:
        """No more comes."""
        if not self.begun:
            return answer(200, b"".join(self._waiting), JSON)
        await self._flush()
        assert self._response is not None
        self.close()
        return self._response

    def abandon(self) -> None:
        """It cannot be finished: a client must not take it for whole."""
        transport = self._request.transport
        if transport is not None:
            transport.abort()
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        if self._link is not None:
            self._link.release()
            self._link = None

    async def _flush(self) -> None:
        if self._response is None:
            headers = stream_headers(self._request, JSON.decode())
            self._response = web.StreamResponse(headers=headers)
            await self._response.prepare(self._request)
            self._link = StreamLink(self._request)
        assert self._link is not None
        data, self._waiting, self._size = b"".join(self._waiting), [], 0
        if data:
            await self._link.send(data)
