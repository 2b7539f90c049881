"""`POST /v1/txn`: compare, then one list of operations or the other, all of it or nothing."""

from collections.abc import Sized
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from http_api.core import params
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.problems import refusal
from http_api.core.responses import Answer, json_answer
from http_api.v1.documents import (
    INTEGER,
    ITEM,
    LEASE_MAX,
    Base64,
    KeyRange,
    LeaseIdText,
    Revision,
    Text,
    checked_key,
    checked_value,
    item_document,
    lease_id,
    octets,
)
from http_api.v1.kv import BODY_PROBLEMS, WRITE_PROBLEMS
from kvstore.commands.operations import (
    Comparison,
    Field,
    Order,
    Relation,
    Select,
    Selected,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnDeleteDone,
    TxnOperation,
    TxnOperationResult,
    TxnPut,
    TxnPutDone,
)
from kvstore.errors import (
    AnswerNotKept,
    Contradiction,
    DuplicateKey,
    InvalidArgument,
    KeyNotFound,
    LeaseNotFound,
    RevisionCompacted,
    RevisionInFuture,
    TooManyOperations,
    WorkTooLarge,
)
from kvstore.state.transactions import OPERATIONS_MAX, check

TXN_BYTES_MAX = 2 << 20
DEPTH_MAX = 8
"""Transactions inside transactions. Every replica must be able to walk what one accepted."""
ITEMS_MAX = 1000
"""Of one get; its answer says if there were more."""

_FIELDS = {
    "value": Field.VALUE,
    "version": Field.VERSION,
    "create_revision": Field.CREATE,
    "mod_revision": Field.MOD,
    "lease": Field.LEASE,
    "key": Field.KEY,
}
_RELATIONS = {
    "=": Relation.EQUAL,
    "!=": Relation.NOT_EQUAL,
    "<": Relation.LESS,
    ">": Relation.GREATER,
}


# -- requests -------------------------------------------------------------------------------


class CompareRequest(KeyRange, kw_only=True, forbid_unknown_fields=True):
    """Holds if it holds for every key of the range. Of an absent key every number is 0, and no
    value compares with anything."""

    field: Literal["value", "version", "create_revision", "mod_revision", "lease"]
    op: Literal["=", "!=", "<", ">"] = "="
    operand: str | Annotated[int, Meta(ge=-LEASE_MAX, le=LEASE_MAX)] | None = None
    operand_base64: Base64 = None


class PutDocument(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Write a key, or keep its value or its lease as it is. `previous`: answer what was there."""

    key: Text = None
    key_base64: Base64 = None
    value: Text = None
    value_base64: Base64 = None
    lease: LeaseIdText | None = None
    previous: bool = False
    keep_value: bool = False
    keep_lease: bool = False


class GetRequest(KeyRange, kw_only=True, forbid_unknown_fields=True):
    """Read a range: filter, then sort, then limit. 0 stands for now, or no filter."""

    revision: Revision = 0
    limit: Annotated[int, Meta(ge=1, le=ITEMS_MAX)] = ITEMS_MAX
    sort_by: Literal["key", "version", "create_revision", "mod_revision", "value"] = "key"
    descending: bool = False
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: Revision = 0
    max_mod_revision: Revision = 0
    min_create_revision: Revision = 0
    max_create_revision: Revision = 0


class DeleteRequest(KeyRange, kw_only=True, forbid_unknown_fields=True):
    """Delete a range. `previous`: answer what was there."""

    previous: bool = False


class OperationRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of them."""

    put: PutDocument | None = None
    get: GetRequest | None = None
    delete: DeleteRequest | None = None
    txn: "TxnDocument | None" = None


class TxnDocument(
    msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"otherwise": "else"}
):
    """If all of `compare` hold, do `then`, else do `else`. Compares, those of inner transactions
    too, look at the state before; operations see what earlier ones did."""

    compare: list[CompareRequest] = []
    then: list[OperationRequest] = []
    otherwise: list[OperationRequest] = []


# -- to commands ----------------------------------------------------------------------------


def transaction(request: TxnDocument, depth: int = 1) -> Transaction:
    """The command. Raises InvalidArgument, Contradiction or TooManyOperations."""
    if depth > DEPTH_MAX:
        raise InvalidArgument("txn", f"txn: transactions are nested at most {DEPTH_MAX} deep")
    lists: tuple[Sized, ...] = (request.compare, request.then, request.otherwise)
    if max(map(len, lists)) > OPERATIONS_MAX:
        raise TooManyOperations(OPERATIONS_MAX)
    return Transaction(
        tuple(map(_compare, request.compare)),
        tuple(_operation(operation, depth) for operation in request.then),
        tuple(_operation(operation, depth) for operation in request.otherwise),
    )


def _compare(request: CompareRequest) -> Comparison:
    start, end = request.bounds()
    return Comparison(_FIELDS[request.field], _RELATIONS[request.op], start, end, _operand(request))


def _operand(request: CompareRequest) -> int | bytes:
    operand = request.operand
    if request.field == "value":
        if isinstance(operand, int):
            raise InvalidArgument("operand", "operand: a value compares with a string")
        found = octets("operand", operand, request.operand_base64)
        if found is None:
            raise InvalidArgument("operand", "operand: missing")
        return found
    if request.operand_base64 is not None:
        raise Contradiction("operand_base64 is for values; send operand, a number")
    if request.field == "lease" and operand is not None:
        return 0 if str(operand) == "0" else lease_id(operand, "operand")
    if not isinstance(operand, int):
        raise InvalidArgument("operand", f"operand: {request.field} compares with a number")
    return operand


def _operation(request: OperationRequest, depth: int) -> TxnOperation:
    given = (request.put, request.get, request.delete, request.txn)
    if sum(each is not None for each in given) != 1:
        raise Contradiction("an operation is exactly one of put, get, delete and txn")
    if request.put is not None:
        return _write(request.put)
    if request.get is not None:
        return _select(request.get)
    if request.delete is not None:
        return TxnDelete(*request.delete.bounds(), request.delete.previous)
    assert request.txn is not None
    return transaction(request.txn, depth + 1)


def _write(request: PutDocument) -> TxnPut:
    key = checked_key(octets("key", request.key, request.key_base64))
    value = octets("value", request.value, request.value_base64)
    if request.keep_value == (value is not None):
        raise Contradiction("a put has a value, or keep_value, and not both")
    lease: int | None = None if request.keep_lease else 0
    if request.lease is not None:
        if request.keep_lease:
            raise Contradiction("a put has a lease or keep_lease, not both")
        lease = lease_id(request.lease)
    return TxnPut(key, None if value is None else checked_value(value), lease, request.previous)


def _select(request: GetRequest) -> Select:
    return Select(
        *request.bounds(),
        revision=request.revision,
        limit=request.limit,
        order=Order.DESCEND if request.descending else Order.NONE,
        sort_by=_FIELDS[request.sort_by],
        keys_only=request.keys_only,
        count_only=request.count_only,
        min_mod_revision=request.min_mod_revision,
        max_mod_revision=request.max_mod_revision,
        min_create_revision=request.min_create_revision,
        max_create_revision=request.max_create_revision,
    )


# -- from results ---------------------------------------------------------------------------


def done_document(done: TransactionDone, command: Transaction) -> dict[str, Any]:
    """What the transaction answered."""
    branch = command.success if done.succeeded else command.failure
    results = [_result(*pair) for pair in zip(done.results, branch, strict=True)]
    return {"succeeded": done.succeeded, "revision": done.revision, "results": results}


def _result(result: TxnOperationResult, operation: TxnOperation) -> dict[str, Any]:
    match result:
        case TxnPutDone():
            document: dict[str, Any] = {"revision": result.revision, "version": result.version}
            if result.previous is not None:
                document["previous"] = item_document(result.previous)
            return {"put": document}
        case TxnDeleteDone():
            document = {"deleted": result.deleted}
            if isinstance(operation, TxnDelete) and operation.previous:
                document["previous"] = [item_document(item) for item in result.previous]
            return {"delete": document}
        case Selected():
            keys_only = isinstance(operation, Select) and operation.keys_only
            items = [item_document(item, keys_only) for item in result.items]
            return {"get": {"items": items, "count": result.count, "more": result.more}}
        case TransactionDone():
            assert isinstance(operation, Transaction)
            return {"txn": done_document(result, operation)}


async def post(ask: Ask[TxnDocument]) -> Answer:
    """Run one."""
    timeout_s = params.write_timeout(ask.options(), ask.config)
    command = transaction(await ask.read())
    check(command)
    result = await ask.execute(command, timeout_s)
    if not isinstance(result, TransactionDone):
        raise refusal(result)
    return json_answer(done_document(result, command))


_RESULTS = {
    "type": "array",
    "description": "One for each operation that ran, in order",
    "items": {
        "type": "object",
        "properties": {
            "put": {
                "type": "object",
                "properties": {"revision": INTEGER, "version": INTEGER, "previous": ITEM},
                "required": ["revision", "version"],
                "additionalProperties": False,
            },
            "get": {
                "type": "object",
                "properties": {
                    "items": {"type": "array", "items": ITEM},
                    "count": {"type": "integer", "description": "Keys in the range, unfiltered"},
                    "more": {"type": "boolean", "description": "The limit left some out"},
                },
                "required": ["items", "count", "more"],
                "additionalProperties": False,
            },
            "delete": {
                "type": "object",
                "properties": {"deleted": INTEGER, "previous": {"type": "array", "items": ITEM}},
                "required": ["deleted"],
                "additionalProperties": False,
            },
            "txn": {"$ref": "#/components/schemas/TxnDone"},
        },
        "additionalProperties": False,
    },
}
TXN_DONE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "succeeded": {"type": "boolean", "description": "Whether all compares held"},
        "revision": {"type": "integer", "description": "The store's revision"},
        "results": _RESULTS,
    },
    "required": ["succeeded", "revision", "results"],
}
_DOC = Doc(
    "Compare, then do one list of operations or another, atomically",
    query=("timeout",),
    headers=("Idempotency-Key",),
    answers={
        200: {
            "description": "Which list ran, and what its operations answered",
            "schema": {"$ref": "#/components/schemas/TxnDone"},
        }
    },
    problems=(
        TooManyOperations,
        DuplicateKey,
        KeyNotFound,
        LeaseNotFound,
        RevisionInFuture,
        RevisionCompacted,
        WorkTooLarge,
        AnswerNotKept,
        *WRITE_PROBLEMS,
        *BODY_PROBLEMS,
    ),
)
CALLS = (Call("POST", "/v1/txn", post, Need.CALLER, _DOC, TXN_BYTES_MAX, TxnDocument),)
