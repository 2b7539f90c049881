"""The fixture that all HTTP tests stand on; what it serves is chosen here only."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest
import uvloop

from http_api.server import HttpServer
from kvstore.config import Config
from tests.support.memory_replica import MemoryReplica


class Served(NamedTuple):
    """A running server and the replica behind it."""

    address: tuple[str, int]
    replica: MemoryReplica
    http: HttpServer


Server = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serve_memory(**settings: Any) -> AsyncIterator[Served]:
    """A server over a replica in memory, on a free port; `settings` go into its Config."""
    config = Config(
        node_id=1, members={1: ("127.0.0.1", 1)}, listen_client=("127.0.0.1", 0), **settings
    )
    replica = MemoryReplica()
    http = HttpServer(replica, config)
    await http.start()
    try:
        yield Served(http.address, replica, http)
    finally:
        await http.stop()
        replica.close()


@pytest.fixture(autouse=True)
def production_loop() -> Iterator[None]:
    """`asyncio.run` gives the loop that the server runs on, whose transports differ in details."""
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    yield
    asyncio.set_event_loop_policy(before)


@pytest.fixture
def server() -> Server:
    """Opens a server for the length of an `async with` block."""
    return serve_memory
