"""A node whose clients speak TLS, and connections to it."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from http_api.server import HttpServer
from kvstore.config import Config
from kvstore.event_log import EventLog
from kvstore.replica.open import open_replica
from tests.support.certificates import authority, settings
from tests.support.etcd_node import EtcdNode
from tests.support.raw_http import Connection


def trusting(directory: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(directory / "ca.crt"))


async def raw(place: tuple[str, int], context: ssl.SSLContext) -> Connection:
    host, port = place
    opened = await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")
    return Connection(*opened)


def on_tls(path: Path, test: Callable[[EtcdNode, Path], Any], **more: Any) -> None:
    """A test against a node that speaks TLS; its plain helper connection is of no use."""
    directory = path / "certs"
    authority(directory)

    async def run() -> None:
        config = Config(
            node_id=1,
            members={1: ("127.0.0.1", 0)},
            tick_s=0.005,
            listen_client=("127.0.0.1", 0),
            listen_peer=("127.0.0.1", 0),
            data_dir=path / "node",
            **settings(directory),
            **more,
        )
        replica = await open_replica(config, EventLog(1))
        http = HttpServer(replica, config)
        await http.start()
        opened = await raw(http.address, trusting(directory))
        node = EtcdNode(replica, http, opened)
        try:
            async with asyncio.timeout(60):
                while not replica.status().ready:
                    await asyncio.sleep(0.005)
                await test(node, directory)
        finally:
            node.connection.close()
            await http.stop()
            await replica.stop()

    asyncio.run(run())
