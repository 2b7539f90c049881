"""Python client of the HTTP API: async `Client`, and `BlockingClient`, generated from it.

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

The classes of errors say whether the write may have happened: `RequestError` and `Unavailable`
changed nothing, `OutcomeUnknown` leaves it open. All can be imported from here; `LeaseLost` and
`NotAcquired` come from locks and elections.
"""

from kvstore.client.aio import Client
from kvstore.client.blocking import (
    BlockingClient,
    BlockingLeadership,
    BlockingLease,
    BlockingLock,
    BlockingTurn,
    BlockingWatch,
)
from kvstore.client.leasing import Lease, LeaseLost
from kvstore.client.locking import Leadership, Lock, NotAcquired, Turn
from kvstore.client.loop_thread import BlockingEvent
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
from kvstore.errors import (
    AnswerNotKept,
    AuthChangeRefused,
    AuthError,
    BadRequest,
    BodyTimeout,
    ConditionFailed,
    Contradiction,
    DuplicateKey,
    ExpectationFailed,
    IdempotencyMismatch,
    InvalidArgument,
    KeyNotFound,
    KvError,
    LeaseExists,
    LeaseNotFound,
    Malformed,
    MethodNotAllowed,
    NoQuorum,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    PathNotFound,
    PermissionDenied,
    Reason,
    RequestError,
    RevisionCompacted,
    RevisionInFuture,
    Stopping,
    TooLarge,
    TooManyOperations,
    Unauthenticated,
    Unavailable,
    Unexpected,
    UnsupportedMedia,
    WorkTooLarge,
)

__all__ = [
    "AnswerNotKept",
    "AuthChangeRefused",
    "AuthError",
    "BadRequest",
    "BatchResult",
    "BlockingClient",
    "BlockingEvent",
    "BlockingLeadership",
    "BlockingLease",
    "BlockingLock",
    "BlockingTurn",
    "BlockingWatch",
    "BodyTimeout",
    "Change",
    "Client",
    "ClusterStatus",
    "CompactResult",
    "Compare",
    "ConditionFailed",
    "Contradiction",
    "CreateRevision",
    "DeleteResult",
    "DuplicateKey",
    "Entry",
    "Event",
    "ExpectationFailed",
    "GetResult",
    "HandOverResult",
    "History",
    "IdempotencyMismatch",
    "InvalidArgument",
    "KeyNotFound",
    "KvError",
    "Leader",
    "Leadership",
    "Lease",
    "LeaseExists",
    "LeaseId",
    "LeaseLost",
    "LeaseNotFound",
    "LeaseStatus",
    "Lock",
    "Malformed",
    "Member",
    "MethodNotAllowed",
    "ModRevision",
    "NoQuorum",
    "NodeStatus",
    "NotAcquired",
    "NotReady",
    "Operation",
    "OperationResult",
    "OutcomeUnknown",
    "Overloaded",
    "Page",
    "PathNotFound",
    "PermissionDenied",
    "PutResult",
    "Reason",
    "RequestError",
    "RevisionCompacted",
    "RevisionInFuture",
    "Selection",
    "Stopping",
    "TooLarge",
    "TooManyOperations",
    "Turn",
    "TxnResult",
    "Unauthenticated",
    "Unavailable",
    "Unexpected",
    "UnsupportedMedia",
    "Value",
    "Version",
    "Watch",
    "WorkTooLarge",
    "absent",
    "delete",
    "exists",
    "get",
    "put",
    "txn",
]
