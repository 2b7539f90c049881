"""Fetches a backup from a node into a file, and goes on after a break where it stopped.

What came is in `FILE.part`: the head, then whole blocks, each checked before it is written. A later
run goes on with it as long as the node keeps its copy, and else begins anew. The file gets its name
once it is whole and on the disk.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import aiohttp

from kvstore.backup.asking import DownloadHttp
from kvstore.backup.frames import (
    BACKUP_MAGIC,
    CHECKSUM_BYTES,
    END_BYTES,
    LENGTHS,
    PREFIX,
    WholeChecksum,
    check_block,
    check_end,
    check_head,
    check_lengths,
    header_bytes,
)
from kvstore.backup.headers import BackupHeader, decode_header
from kvstore.backup.parts import PartialBackup, part_of, private, read_part
from kvstore.backup.targets import sync_directory
from kvstore.client.attempts import parse_endpoints
from kvstore.client.credentials import NOBODY, Login
from kvstore.client.verdict import HttpReply, error_of, error_of_failure
from kvstore.errors import InvalidArgument, KvError, NoQuorum, Unavailable

CONNECT_S = 5.0
SILENCE_S = 60.0
"""A node that sends nothing for so long is given up. It copies its state before the first byte."""
PATIENCE_S = 60.0
"""Without a new block for so long, from whichever node, the download fails."""
PAUSE_S = 0.5
PATH = "/v1/snapshot"


class DownloadProgress(NamedTuple):
    """How far a download is: bytes of the state's file, of how many, and bytes stored so far."""

    raw_bytes: int
    of_bytes: int
    stored_bytes: int


Watch = Callable[[DownloadProgress], None]


class Gone(Exception):
    """No node has the copy any more that was begun."""


class Download:
    """One backup into the file `to`, which is replaced once the backup is whole. `login`: who asks
    for it, and which nodes are trusted."""

    def __init__(
        self,
        endpoints: str,
        to: Path,
        watch: Watch,
        rate_mib_s: int | None = None,
        login: Login = NOBODY,
    ) -> None:
        """Raises InvalidArgument."""
        self._http = DownloadHttp(login)
        self._endpoints = parse_endpoints(endpoints, secure=self._http.secure)
        self._to = to
        self._watch = watch
        self._query = {} if rate_mib_s is None else {"rate_mib_s": str(rate_mib_s)}
        self._part: PartialBackup | None = None
        self.resumed_at = 0
        """The block at which an earlier run's file was gone on with."""

    async def run(self) -> BackupHeader:
        """Until the file is there. Raises KvError, BackupError, OSError."""
        self._part = read_part(self._to)
        self.resumed_at = 0 if self._part is None else self._part.total.blocks
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        async with self._http.opened(timeout) as http:
            try:
                return await self._until_whole(http)
            finally:
                if self._part is not None:
                    self._part.file.close()

    async def _until_whole(self, http: aiohttp.ClientSession) -> BackupHeader:
        loop = asyncio.get_running_loop()
        give_up_s, turn = loop.time() + PATIENCE_S, 0
        while True:
            had = -1 if self._part is None else self._part.total.blocks
            endpoint = self._endpoints[turn % len(self._endpoints)]
            try:
                return await self._from(http, endpoint)
            except Gone:
                self._begin_anew()
                continue
            except (KvError, aiohttp.ClientError, OSError) as error:
                failure = self._failure(error, endpoint)
            now_s = loop.time()
            if (-1 if self._part is None else self._part.total.blocks) > had:
                give_up_s = now_s + PATIENCE_S
            if now_s >= give_up_s:
                raise failure
            turn += 1
            if turn % len(self._endpoints) == 0:
                await asyncio.sleep(PAUSE_S)

    def _failure(self, error: Exception, endpoint: str) -> KvError:
        """To be tried again; what cannot get better by that is raised at once."""
        if isinstance(error, Unavailable):
            return error
        if isinstance(error, KvError):
            raise error
        if isinstance(error, aiohttp.ClientError | TimeoutError | ConnectionError):
            return NoQuorum(str(error_of_failure(error, endpoint, sent=False)))
        raise error  # of this machine's disk

    async def _from(self, http: aiohttp.ClientSession, endpoint: str) -> BackupHeader:
        """Fetch from this node what is missing. Raises Gone if no node has the copy."""
        query = dict(self._query)
        part = self._part
        if part is not None:
            query |= {"snapshot": part.header.snapshot, "from_block": str(part.total.blocks)}
        async with self._http.get(http, endpoint, PATH, query) as response:
            if response.status != 200:
                reply = HttpReply(response.status, response.headers, await response.read())
                error = error_of(reply)
                if part is not None and isinstance(error, InvalidArgument):
                    await self._ask_others(http, endpoint, query)
                raise error
            return await self._take(response.content, endpoint)

    async def _ask_others(
        self, http: aiohttp.ClientSession, refused: str, query: dict[str, str]
    ) -> None:
        """`refused` does not have the copy. Raises Gone unless another one may have it: one that
        does not refuse it."""
        for endpoint in self._endpoints:
            if endpoint == refused:
                continue
            with suppress(aiohttp.ClientError, TimeoutError, Unavailable):
                async with self._http.get(http, endpoint, PATH, query) as response:
                    if response.status in (200, 503):
                        raise NoQuorum(f"{refused} has no copy, and {endpoint} may have one")
        raise Gone

    def _begin_anew(self) -> None:
        if self._part is not None:
            self._part.file.close()
        self._part = None
        self.resumed_at = 0

    async def _take(self, stream: aiohttp.StreamReader, endpoint: str) -> BackupHeader:
        part = self._part
        if part is None:
            part = self._part = await self._head(stream, endpoint)
        while await self._block(stream, part, endpoint):
            self._tell(part)
        end = bytes(LENGTHS.size) + await _exactly(stream, END_BYTES - LENGTHS.size)
        check_end(end, part.total, endpoint)
        part.append(end)
        finish(part, self._to)
        self._part = None
        return part.header

    def _tell(self, part: PartialBackup) -> None:
        self._watch(DownloadProgress(part.total.raw_bytes, part.header.raw_bytes, part.size))

    async def _head(self, stream: aiohttp.StreamReader, endpoint: str) -> PartialBackup:
        prefix = await _exactly(stream, PREFIX.size)
        length = header_bytes(prefix, BACKUP_MAGIC, endpoint)
        head = prefix + await _exactly(stream, length + CHECKSUM_BYTES)
        check_head(head, endpoint)
        header = decode_header(head[PREFIX.size : -CHECKSUM_BYTES], endpoint)
        flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR
        file: BinaryIO = os.fdopen(private(str(part_of(self._to)), flags), "w+b")
        part = PartialBackup(file, header, WholeChecksum(head), 0)
        part.append(head)
        return part

    async def _block(
        self, stream: aiohttp.StreamReader, part: PartialBackup, endpoint: str
    ) -> bool:
        """The next block into the part; False at the end."""
        number = part.total.blocks
        lengths = await _exactly(stream, LENGTHS.size)
        raw, stored = check_lengths(lengths, number, endpoint)
        if not raw:
            return False
        block = check_block(number, lengths, await _exactly(stream, stored), endpoint)
        part.append(block.stored)
        part.total.add(block.checksum, raw)
        return True


async def _exactly(stream: aiohttp.StreamReader, count: int) -> bytes:
    try:
        return await stream.readexactly(count)
    except asyncio.IncompleteReadError:
        raise aiohttp.ClientPayloadError("the answer ended too soon") from None


def finish(part: PartialBackup, to: Path) -> None:
    """The part is whole: it gets its name, durably. Raises OSError."""
    part.file.flush()
    os.fsync(part.file.fileno())
    part.file.close()
    os.replace(part_of(to), to)
    sync_directory(to.parent)


async def download(
    endpoints: str,
    to: Path,
    watch: Watch = lambda _: None,
    rate_mib_s: int | None = None,
    login: Login = NOBODY,
) -> BackupHeader:
    """Fetch a backup of the cluster into the file `to`. Raises KvError, BackupError, OSError."""
    return await Download(endpoints, to, watch, rate_mib_s, login).run()
