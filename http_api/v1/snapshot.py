"""`GET /v1/snapshot`: a consistent backup of the store, streamed from any node.

The node copies its state as of its last checkpoint into a file that has no name, and sends it in
blocks (`kvstore.backup.frames`). A client whose connection breaks asks for the same copy from the
block on that it has not got; the copy is kept for it for a while.
"""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, BinaryIO

import lmdb
from aiohttp import hdrs, web

from http_api.core import params
from http_api.core.browsers import stream_headers
from http_api.core.calls import Ask, Call, Doc, NativeCall, Need
from http_api.core.responses import stream_head
from http_api.core.state_copy import fresh_copy
from http_api.core.streams import StreamLink
from http_api.v1.health import server_version
from kvstore.backup.frames import (
    BACKUP_MAGIC,
    BLOCK_BYTES,
    Block,
    WholeChecksum,
    encode_block,
    encode_head,
)
from kvstore.backup.headers import BackupHeader, encode_header
from kvstore.backup.state_files import facts_of
from kvstore.errors import (
    BackupError,
    Contradiction,
    InvalidArgument,
    KvError,
    NoQuorum,
    Overloaded,
    Stopping,
)
from kvstore.storage.data_dir import BACKUPS_MAX, backup_name
from kvstore.storage.state import lock_of

OCTETS = "application/octet-stream"
COPIES_MAX = BACKUPS_MAX // 2
"""Copies that are made, sent or kept at a time; the other half of the names is etcd's API's."""
KEPT_S = 60.0
"""A copy that is not sent just now is kept for so long."""
RATE_MIB_S = 32
"""Of the state's file, unless the client asks for another: on two cores the writes of others then
take little longer than without."""
RATE_MIB_S_MAX = 4096
_SNAPSHOT_CHARACTERS = 32


@dataclass(eq=False)
class HeldCopy:
    """A copy of the state, open without a name, and what was sent of it."""

    number: int
    file: BinaryIO
    head: bytes
    total: WholeChecksum
    """Of the blocks that were made once."""
    busy: bool = True
    expiry: asyncio.TimerHandle | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def block(self, number: int) -> Block | None:
        """The block, packed; None behind the last one. To be asked for in order at first, and then
        again from any place. Runs on any thread. Raises OSError."""
        with self._lock:  # a thread may still be at a block whose client has gone
            self.file.seek(number * BLOCK_BYTES)
            data = self.file.read(BLOCK_BYTES)
            if not data:
                return None
            block = encode_block(number, data)
            if number == self.total.blocks:
                self.total.add(block.checksum, len(data))
            return block


class SnapshotResource:
    """Makes, sends and keeps copies."""

    def __init__(self) -> None:
        self._free = list(range(BACKUPS_MAX - COPIES_MAX, BACKUPS_MAX))
        self._held: dict[str, HeldCopy] = {}

    def calls(self) -> list[NativeCall]:
        """The calls of this resource."""
        return [Call("GET", "/v1/snapshot", self.get, Need.BACKUP, _DOC)]

    async def get(self, ask: Ask[None]) -> web.StreamResponse:
        """Stream a new copy, or the rest of one that was begun.

        Raises InvalidArgument for a copy that is not here any more, Overloaded, Unavailable.
        """
        found = ask.options()
        rate = RATE_MIB_S << 20
        if "rate_mib_s" in found:
            rate = params.integer(found["rate_mib_s"], "rate_mib_s", 1, RATE_MIB_S_MAX) << 20
        if ("snapshot" in found) != ("from_block" in found):
            raise Contradiction("snapshot and from_block go together: to resume a backup")
        if ask.request.method == hdrs.METH_HEAD:
            return stream_head(OCTETS)
        if "snapshot" in found:
            name, first = self._resumed(found)
        else:
            name, first = await self._new(ask, params.timeout(found, ask.config)), 0
        held = self._held[name]
        try:
            return await self._stream(ask, held, first, rate, whole="snapshot" not in found)
        finally:
            held.busy = False
            self._expire_later(name, held)

    def _resumed(self, found: dict[str, bytes]) -> tuple[str, int]:
        name = found["snapshot"][:_SNAPSHOT_CHARACTERS].decode("utf-8", "replace")
        held = self._held.get(name)
        if held is None:
            raise InvalidArgument(
                "snapshot",
                f"snapshot: this node has no copy {name!r}, or not any more: begin a new backup",
            )
        if held.busy:
            raise Overloaded("this copy is being sent to somebody: try again in a moment")
        first = params.integer(found["from_block"], "from_block", 0, held.total.blocks)
        held.busy = True
        if held.expiry is not None:
            held.expiry.cancel()
        return name, first

    async def _new(self, ask: Ask[None], timeout_s: float) -> str:
        """Make a copy; its name. Raises Overloaded, Unavailable."""
        if not self._free:
            self._drop_idle()
        if not self._free:
            raise Overloaded(f"{COPIES_MAX} backups are being made already")
        number = self._free.pop()
        try:
            name, held = await self._copy(ask, number, timeout_s)
        except BaseException:
            self._free.append(number)
            raise
        self._held[name] = held
        return name

    async def _copy(self, ask: Ask[None], number: int, timeout_s: float) -> tuple[str, HeldCopy]:
        """The file's name goes before the first byte is sent: however this process ends, the file
        goes with it."""
        session, config = ask.session, ask.config
        path = config.data_dir / backup_name(number)
        name = token_hex(_SNAPSHOT_CHARACTERS // 2)
        try:
            try:
                await fresh_copy(session, path, timeout_s, config.tick_s)
                facts = await asyncio.to_thread(facts_of, path)
                file = path.open("rb")
                size = path.stat().st_size
            finally:
                path.unlink(missing_ok=True)
                lock_of(path).unlink(missing_ok=True)
        except (OSError, lmdb.Error, BackupError) as error:
            raise Overloaded(f"no copy of the state could be made: {error}") from error
        header = BackupHeader(
            snapshot=name,
            cluster_id=session.status().cluster_id,
            node=config.node_id,
            created_ms=int(time.time() * 1000),
            revision=facts.revision,
            compacted_revision=facts.compacted_revision,
            slot=facts.slot,
            digest=facts.digest,
            records=facts.records,
            raw_bytes=size,
            product=server_version(),
        )
        head = encode_head(BACKUP_MAGIC, encode_header(header))
        return name, HeldCopy(number, file, head, WholeChecksum(head))

    async def _stream(
        self, ask: Ask[None], held: HeldCopy, first: int, rate: int, whole: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={**stream_headers(ask.request, OCTETS), hdrs.CACHE_CONTROL: "no-store"}
        )
        link = StreamLink(ask.request)

        async def serve() -> None:
            await response.prepare(ask.request)
            await _send(link, held, first, rate, whole)
            await response.write_eof()

        try:
            await ask.streams.run(link, serve())
        except ConnectionError:
            if not link.closed:
                raise
        except (OSError, Stopping) as error:
            # Its end must not look like a proper one.
            if ask.request.transport is not None and response.prepared:
                ask.request.transport.abort()
            elif isinstance(error, KvError):
                raise
        return response

    def _expire_later(self, name: str, held: HeldCopy) -> None:
        loop = asyncio.get_running_loop()
        held.expiry = loop.call_later(KEPT_S, self._drop, name)

    def _drop_idle(self) -> None:
        """The one that has waited longest makes room."""
        for name, held in self._held.items():
            if not held.busy:
                self._drop(name)
                return

    def _drop(self, name: str) -> None:
        held = self._held.pop(name)
        if held.expiry is not None:
            held.expiry.cancel()
        held.file.close()
        self._free.append(held.number)


async def _send(link: StreamLink, held: HeldCopy, first: int, rate: int, whole: bool) -> None:
    """Blocks from `first` on, and the end; at most `rate` bytes of the file a second."""
    if whole:
        await link.send(held.head)
    loop = asyncio.get_running_loop()
    due_s, number = loop.time(), first
    while (block := await asyncio.to_thread(held.block, number)) is not None:
        await link.send(block.stored)
        number += 1
        due_s = max(due_s + BLOCK_BYTES / rate, loop.time() - BLOCK_BYTES / rate)
        await asyncio.sleep(max(0.0, due_s - loop.time()))
    await link.send(held.total.end)


_INTEGER: dict[str, Any] = {"type": "integer"}
_DOC = Doc(
    "A consistent backup of the store, from any node",
    query=("snapshot", "from_block", "rate_mib_s", "timeout"),
    answers={
        200: {
            "description": "A backup file. It is whole if its end is there, which holds a checksum "
            "over all; each block has one of its own. After a broken connection ask the same node "
            "with `snapshot`, which the header names, and `from_block`, the first block that is "
            "missing: the answer then begins with that block. The node keeps a copy for "
            f"{KEPT_S:.0f} s. `rate_mib_s`: how much of the state's file is read a second.",
            "type": OCTETS,
        }
    },
    problems=(InvalidArgument, Contradiction, NoQuorum, Overloaded, Stopping),
)
