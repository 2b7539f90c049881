"""Python client of the HTTP API: async `Client`, and `BlockingClient`, which runs the same one.

::

    async with Client("http://127.0.0.1:2379,http://127.0.0.1:2389") as store:
        written = await store.put("greeting", "hello")
        entry = await store.get("greeting")             # Entry | None
        await store.put("greeting", "bye", if_revision=entry.mod_revision)
        async for entry in store.list(prefix="gre"):
            print(entry.key, entry.value)
        await store.txn(Value("greeting") == "bye", then=[delete("greeting")])
        async with store.lock("reports"):
            ...
        async for event in store.watch(prefix="gre"):   # for ever, also when nodes fail
            print(event.key, event.value)

    with BlockingClient("http://127.0.0.1:2379") as store:
        store.put("greeting", "hello")

Errors are those of `kvstore.errors`, so their type says whether the write may have happened; and
`LeaseLost` and `NotAcquired` of locks and elections.
"""

from kvstore.client.aio import Client
from kvstore.client.blocking import BlockingClient
from kvstore.client.blocking_handles import (
    BlockingLeadership,
    BlockingLease,
    BlockingTurn,
    BlockingWatch,
)
from kvstore.client.leasing import Lease, LeaseLost
from kvstore.client.locking import Leadership, Lock, NotAcquired
from kvstore.client.operations import (
    Compare,
    CreateRevision,
    LeaseId,
    ModRevision,
    Operation,
    Value,
    Version,
    absent,
    delete,
    exists,
    get,
    put,
    txn,
)
from kvstore.client.results import (
    BatchResult,
    Change,
    ClusterStatus,
    CompactResult,
    DeleteResult,
    Entry,
    Event,
    GetResult,
    HandOverResult,
    History,
    Leader,
    LeaseStatus,
    Member,
    NodeStatus,
    OperationResult,
    Page,
    PutResult,
    Selection,
    TxnResult,
)
from kvstore.client.watching import Watch

__all__ = [
    "BatchResult",
    "BlockingClient",
    "BlockingLeadership",
    "BlockingLease",
    "BlockingTurn",
    "BlockingWatch",
    "Change",
    "Client",
    "ClusterStatus",
    "CompactResult",
    "Compare",
    "CreateRevision",
    "DeleteResult",
    "Entry",
    "Event",
    "GetResult",
    "HandOverResult",
    "History",
    "Leader",
    "Leadership",
    "Lease",
    "LeaseId",
    "LeaseLost",
    "LeaseStatus",
    "Lock",
    "Member",
    "ModRevision",
    "NodeStatus",
    "NotAcquired",
    "Operation",
    "OperationResult",
    "Page",
    "PutResult",
    "Selection",
    "TxnResult",
    "Value",
    "Version",
    "Watch",
    "absent",
    "delete",
    "exists",
    "get",
    "put",
    "txn",
]
