"""Python client of the HTTP API: async `Client`, and `BlockingClient`, which runs the same one.

::

    async with Client("http://127.0.0.1:2379,http://127.0.0.1:2389") as store:
        written = await store.put("greeting", "hello")
        entry = await store.get("greeting")             # Entry | None
        await store.put("greeting", "bye", if_revision=entry.mod_revision)
        async for entry in store.list(prefix="gre"):
            print(entry.key, entry.value)

    with BlockingClient("http://127.0.0.1:2379") as store:
        store.put("greeting", "hello")

Errors are those of `kvstore.errors`, so their type says whether the write may have happened.
"""

from kvstore.client.aio import Client
from kvstore.client.blocking import BlockingClient
from kvstore.client.results import (
    ClusterStatus,
    CompactResult,
    DeleteResult,
    Entry,
    HandOverResult,
    Leader,
    Member,
    NodeStatus,
    Page,
    PutResult,
    Selection,
)

__all__ = [
    "BlockingClient",
    "Client",
    "ClusterStatus",
    "CompactResult",
    "DeleteResult",
    "Entry",
    "HandOverResult",
    "Leader",
    "Member",
    "NodeStatus",
    "Page",
    "PutResult",
    "Selection",
]
