"""One node of PySyncObj, a Raft library in Python, behind as little HTTP as a load client needs.

python -m benchmarks.systems.pysyncobj_node DIRECTORY LISTEN SELF PEER...

It takes our API's plain PUT, GET and batches of puts. The library ticks in a thread of its own; a
PUT is answered once its command is applied here.
"""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

TICK_S, SEND_S = 0.005, 0.01
"""How often the library looks for commands, and sends them. By its defaults, 50 and 100 ms, that
is most of each latency; without its batches it does half as much."""


class Store(SyncObj):  # type: ignore[misc]
    """A dictionary that is replicated."""

    def __init__(self, address: str, peers: list[str], conf: SyncObjConf) -> None:
        """Begins to tick, and to look for its peers."""
        self.values: dict[bytes, bytes] = {}
        super().__init__(address, peers, conf)

    @replicated  # type: ignore[untyped-decorator]
    def put(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write these together."""
        self.values.update(pairs)


class StoreDoor(asyncio.Protocol):
    """One connection with one request in work."""

    def __init__(self, store: Store) -> None:
        """Of a running loop."""
        self._store, self._buffer = store, b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Begin once the request is whole."""
        self._buffer += data
        head, _, body = self._buffer.partition(b"\r\n\r\n")
        length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        if b"\r\n\r\n" not in self._buffer or len(body) < int(length or 0):
            return
        self._buffer = b""
        method, path, _ = head.split(b" ", 2)
        key = path.removeprefix(b"/v1/kv/")
        if method == b"PUT":
            self._put([(key, body)])
        elif method == b"POST":
            self._put(
                [
                    (put["put"]["key"].encode(), b64decode(put["put"]["value_base64"]))
                    for put in json.loads(body)
                ]
            )
        elif path == b"/":
            store = self._store
            state = {"ready": store.isReady(), "leads": store._isLeader()}
            self._answer(200, json.dumps(state).encode())
        else:
            value = self._store.values.get(key)
            self._answer(200 if value is not None else 404, value or b"")

    def _put(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._store.put(pairs, callback=self._applied)

    def _applied(self, _: Any, reason: int) -> None:
        """On the library's thread."""
        status = 200 if reason == FAIL_REASON.SUCCESS else 503
        self._loop.call_soon_threadsafe(self._answer, status, b"")

    def _answer(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)


async def serve(directory: Path, listen: str, address: str, peers: list[str]) -> None:
    """Until the process is ended."""
    directory.mkdir(parents=True, exist_ok=True)
    conf = SyncObjConf(
        autoTickPeriod=TICK_S,
        appendEntriesPeriod=SEND_S,
        journalFile=str(directory / "journal"),
        fullDumpFile=str(directory / "dump"),
    )
    store = Store(address, peers, conf)
    host, _, port = listen.rpartition(":")
    server = await asyncio.get_running_loop().create_server(
        lambda: StoreDoor(store), host, int(port)
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))
