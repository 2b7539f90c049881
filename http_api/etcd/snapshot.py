"""`maintenance/snapshot`: a copy of this node's state, as a client stores it."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import lmdb
import orjson
from aiohttp import web

from http_api.core.calls import Need
from http_api.core.session import Session
from http_api.etcd.calls import DownloadCall, EtcdAsk, download, without_code
from http_api.etcd.encode import document
from http_api.etcd.errors import UNKNOWN, EtcdError, status_of
from http_api.etcd.gateway import CORS_HEADERS
from http_api.etcd.messages import Empty
from kvstore.errors import NoQuorum

BLOB_BYTES = 32 << 10


class Snapshots:
    """Makes and sends copies, one at a time."""

    def __init__(self) -> None:
        self._copying = asyncio.Lock()

    def calls(self) -> tuple[DownloadCall[Empty], ...]:
        """The rows."""
        return (
            download(
                "maintenance/snapshot", Empty, self.snapshot, Need.ROOT,
                "A copy of the state, and a digest of it.",
                told=without_code,
            ),
        )  # fmt: skip

    async def snapshot(self, ask: EtcdAsk[Empty], request: web.BaseRequest) -> web.StreamResponse:
        """The state's file in blobs, and at last a blob with their SHA-256.

        It shows at least every write acknowledged before the request.
        """
        async with self._copying, _copy(ask) as path:
            response = web.StreamResponse(headers=CORS_HEADERS)
            response.content_type = "application/json"
            response.enable_chunked_encoding()
            await response.prepare(request)
            try:
                await _send(path, response)
            except OSError as error:
                if isinstance(error, ConnectionError):
                    raise
                failed = status_of(EtcdError(UNKNOWN, str(error)))
                await response.write(orjson.dumps(failed.stream_document()) + b"\n")
            await response.write_eof()
        return response


@asynccontextmanager
async def _copy(ask: EtcdAsk[Empty]) -> AsyncIterator[Path]:
    """A consistent copy of the state, for the length of the block. Raises KvError."""
    session, config = ask.session, ask.gateway.config
    await ask.barrier()
    await _checkpointed(session, ask.gateway.timeout_s, config.tick_s)
    path = config.data_dir / "snapshot.backup"
    try:
        try:
            await session.copy_state(path)
        except (OSError, lmdb.Error) as error:
            raise EtcdError(UNKNOWN, f"the copy failed: {error}") from error
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


async def _checkpointed(session: Session, timeout_s: float, tick_s: float) -> None:
    """Wait until what is applied now is in the file that is copied."""
    through = session.status().applied_through
    try:
        async with asyncio.timeout(timeout_s):
            while session.status().checkpointed_through < through:
                session.check_running()
                await asyncio.sleep(tick_s)
    except TimeoutError:
        raise NoQuorum("the state was not written to the disk in time") from None


async def _send(path: Path, response: web.StreamResponse) -> None:
    digest = hashlib.sha256()
    left = path.stat().st_size
    with path.open("rb") as file:
        while blob := await asyncio.to_thread(file.read, BLOB_BYTES):
            digest.update(blob)
            left -= len(blob)
            await _send_blob(response, blob, left)
    await _send_blob(response, digest.digest(), 0)


async def _send_blob(response: web.StreamResponse, blob: bytes, left: int) -> None:
    result = document(remaining_bytes=left, blob=blob)
    await response.write(orjson.dumps({"result": result}) + b"\n")
