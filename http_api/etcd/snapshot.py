"""`maintenance/snapshot`: a copy of this node's state, as a client stores it."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import lmdb
import orjson
from aiohttp import web

from http_api.core.browsers import stream_headers
from http_api.core.calls import Need
from http_api.core.state_copy import fresh_copy
from http_api.core.streams import StreamLink
from http_api.etcd.calls import DownloadCall, EtcdAsk, download, without_code
from http_api.etcd.encode import document
from http_api.etcd.errors import UNKNOWN, EtcdError, status_of
from http_api.etcd.messages import Empty
from kvstore.errors import Overloaded
from kvstore.storage.data_dir import backup_name

BLOB_BYTES = 32 << 10
COPIES_MAX = 4
"""Copies that are made or sent at a time, each as large as the state; more are refused. One that
its client does not read holds up no other, and is cut off (`http_api.core.streams`)."""


class Snapshots:
    """Makes and sends copies."""

    def __init__(self) -> None:
        self._free = list(range(COPIES_MAX))

    def calls(self) -> tuple[DownloadCall[Empty], ...]:
        """The rows."""
        return (
            download(
                "maintenance/snapshot", Empty, self.snapshot, Need.BACKUP,
                "A copy of the state, and a digest of it.",
                told=without_code,
            ),
        )  # fmt: skip

    async def snapshot(self, ask: EtcdAsk[Empty], request: web.BaseRequest) -> web.StreamResponse:
        """The state's file in blobs, and at last a blob with their SHA-256.

        It shows at least every write acknowledged before the request.
        """
        if not self._free:
            raise Overloaded(f"{COPIES_MAX} snapshots are being sent already")
        number = self._free.pop()
        try:
            async with _copy(ask, number) as file:
                return await self._stream(request, file)
        finally:
            self._free.append(number)

    async def _stream(self, request: web.BaseRequest, file: BinaryIO) -> web.StreamResponse:
        response = web.StreamResponse(headers=stream_headers(request, "application/json"))
        response.enable_chunked_encoding()
        link = StreamLink(request)
        try:
            await response.prepare(request)
            try:
                await _send(file, link)
            except OSError as error:
                if isinstance(error, ConnectionError):
                    raise
                failed = status_of(EtcdError(UNKNOWN, str(error)))
                await link.send(orjson.dumps(failed.stream_document()) + b"\n")
            await response.write_eof()
        finally:
            link.release()
        return response


@asynccontextmanager
async def _copy(ask: EtcdAsk[Empty], number: int) -> AsyncIterator[BinaryIO]:
    """A consistent copy of the state, open for the length of the block. Raises KvError.

    Its name goes before the first byte is sent: however this process ends, the file goes with it.
    """
    session, config = ask.session, ask.gateway.config
    path = config.data_dir / backup_name(number)
    try:
        try:
            await fresh_copy(session, path, ask.gateway.timeout_s, config.tick_s)
            file = path.open("rb")
        finally:
            path.unlink(missing_ok=True)
    except (OSError, lmdb.Error) as error:
        raise EtcdError(UNKNOWN, f"the copy failed: {error}") from error
    with file:
        yield file


async def _send(file: BinaryIO, link: StreamLink) -> None:
    digest = hashlib.sha256()
    left = os.fstat(file.fileno()).st_size
    while blob := await asyncio.to_thread(file.read, BLOB_BYTES):
        digest.update(blob)
        left -= len(blob)
        await _send_blob(link, blob, left)
    await _send_blob(link, digest.digest(), 0)


async def _send_blob(link: StreamLink, blob: bytes, left: int) -> None:
    result = document(remaining_bytes=left, blob=blob)
    await link.send(orjson.dumps({"result": result}) + b"\n")
