"""A real node that is its whole cluster, with its server, in a thread of this process: for tests of
commands and of what stands beside a cluster, which block."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from http_api.server import HttpServer
from kvstore.config import Config
from kvstore.replica.open import open_replica

START_S = 120.0


@contextmanager
def thread_node(directory: Path, **settings: Any) -> Iterator[str]:
    """Its address."""
    config = Config(
        node_id=1,
        members={1: ("127.0.0.1", 0)},
        listen_peer=("127.0.0.1", 0),
        listen_client=("127.0.0.1", 0),
        data_dir=directory / "node",
        **{"checkpoint_interval_s": 0.05, "tick_s": 0.01, **settings},
    )
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()
    found: list[str] = []

    async def serve() -> None:
        replica = await open_replica(config)
        http = HttpServer(replica, config)
        await http.start()
        async with asyncio.timeout(START_S):
            while not replica.status().ready:
                await asyncio.sleep(0.01)
        scheme = "http" if config.cert_file is None else "https"
        found.append(f"{scheme}://127.0.0.1:{http.address[1]}")
        started.set()
        await stop.wait()
        await http.stop()
        await replica.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(START_S), "the node did not start"
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
        loop.close()
