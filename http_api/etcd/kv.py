"""`kv/...`: etcd's requests become selections, transactions and plain commands. `kv/range` itself
is in `http_api.etcd.ranges`."""

from typing import Any

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdAsk, SizeRule, unary
from http_api.etcd.encode import document, key_value
from http_api.etcd.errors import INVALID_ARGUMENT, EtcdError
from http_api.etcd.messages import (
    CompactionRequest,
    CompareMessage,
    CompareTarget,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    SortTarget,
    TxnRequest,
)
from kvstore.commands import operations as operation
from kvstore.commands.commands import KEY_BYTES_MAX, Compact, Delete, Put
from kvstore.commands.operations import (
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
    only,
)
from kvstore.commands.results import Compacted, Deleted, Written
from kvstore.errors import KeyNotFound, LeaseNotFound, TooManyOperations
from kvstore.state.transactions import OPERATIONS_MAX, check

NO_END = b"\0"

_FIELDS = {
    CompareTarget.VERSION: Field.VERSION,
    CompareTarget.CREATE: Field.CREATE,
    CompareTarget.MOD: Field.MOD,
    CompareTarget.VALUE: Field.VALUE,
    CompareTarget.LEASE: Field.LEASE,
}
_SORT_FIELDS = {
    SortTarget.KEY: Field.KEY,
    SortTarget.VERSION: Field.VERSION,
    SortTarget.CREATE: Field.CREATE,
    SortTarget.MOD: Field.MOD,
    SortTarget.VALUE: Field.VALUE,
}


# -- requests -------------------------------------------------------------------------------


def bounds(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    """Start and end of what a key and a range_end mean."""
    if not range_end:
        return _bound(key), _bound(only(key))
    return _bound(key), None if range_end == NO_END else _bound(range_end)


def _bound(bound: bytes) -> bytes:
    """A bound that the tables can look up: between it and a longer one there are no keys."""
    return bound if len(bound) <= KEY_BYTES_MAX else bound[:KEY_BYTES_MAX] + b"\0"


def _check_key(key: bytes) -> None:
    if not key:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: key is not provided")


def select_of(message: RangeRequest) -> Select:
    """The selection. Raises EtcdError."""
    _check_key(message.key)
    start, end = bounds(message.key, message.range_end)
    return Select(
        start,
        end,
        revision=message.revision,
        limit=message.limit,
        order=Order(message.sort_order),
        sort_by=_SORT_FIELDS[message.sort_target],
        keys_only=message.keys_only,
        count_only=message.count_only,
        min_mod_revision=message.min_mod_revision,
        max_mod_revision=message.max_mod_revision,
        min_create_revision=message.min_create_revision,
        max_create_revision=message.max_create_revision,
    )


def write_of(message: PutRequest) -> TxnPut:
    """The write. Raises EtcdError."""
    _check_key(message.key)
    if len(message.key) > KEY_BYTES_MAX:
        raise EtcdError(INVALID_ARGUMENT, f"etcdserver: key is longer than {KEY_BYTES_MAX} bytes")
    if message.ignore_value and message.value:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: value is provided")
    if message.ignore_lease and message.lease:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: lease is provided")
    return TxnPut(
        message.key,
        None if message.ignore_value else message.value,
        None if message.ignore_lease else message.lease,
        message.prev_kv,
    )


def remove_of(message: DeleteRangeRequest) -> TxnDelete:
    """The removal. Raises EtcdError."""
    _check_key(message.key)
    return TxnDelete(*bounds(message.key, message.range_end), message.prev_kv)


def transaction_of(message: TxnRequest, operations_max: int = OPERATIONS_MAX) -> Transaction:
    """The transaction, checked. Raises EtcdError, TooManyOperations or DuplicateKey."""
    transaction = _transaction(message, operations_max)
    check(transaction, operations_max)
    return transaction


def _transaction(message: TxnRequest, operations_max: int) -> Transaction:
    """A nested transaction gets what the ones around it leave, which also bounds the depth."""
    longest = max(len(message.compare), len(message.success), len(message.failure))
    if longest > operations_max:
        raise TooManyOperations(operations_max)
    left = operations_max - longest
    for compare in message.compare:
        _check_key(compare.key)
    return Transaction(
        tuple(_compare(compare) for compare in message.compare),
        tuple(_operation(op, left) for op in message.success),
        tuple(_operation(op, left) for op in message.failure),
    )


def _compare(message: CompareMessage) -> operation.Comparison:
    operand: int | bytes
    match message.target:
        case CompareTarget.VERSION:
            operand = message.version
        case CompareTarget.CREATE:
            operand = message.create_revision
        case CompareTarget.MOD:
            operand = message.mod_revision
        case CompareTarget.VALUE:
            operand = message.value
        case CompareTarget.LEASE:
            operand = message.lease
    start, end = bounds(message.key, message.range_end)
    field, relation = _FIELDS[message.target], Relation(message.result)
    return operation.Comparison(field, relation, start, end, operand)


def _operation(op: RequestOp, operations_max: int) -> TxnOperation:
    found: list[TxnOperation] = []
    if op.request_range is not None:
        found.append(select_of(op.request_range))
    if op.request_put is not None:
        found.append(write_of(op.request_put))
    if op.request_delete_range is not None:
        found.append(remove_of(op.request_delete_range))
    if op.request_txn is not None:
        found.append(_transaction(op.request_txn, operations_max))
    if not found:
        raise KeyNotFound  # so etcd says
    if len(found) > 1:
        # etcd runs one of them, which one is chance.
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: more than one request in an operation")
    return found[0]


# -- answers --------------------------------------------------------------------------------


def range_document(header: dict[str, Any], selected: Selected) -> dict[str, Any]:
    """A RangeResponse."""
    kvs = [key_value(item) for item in selected.items]
    return document(header=header, kvs=kvs, more=selected.more, count=selected.count)


def put_document(header: dict[str, Any], done: TxnPutDone) -> dict[str, Any]:
    """A PutResponse."""
    previous = done.previous
    return document(header=header, prev_kv=None if previous is None else key_value(previous))


def delete_document(header: dict[str, Any], done: TxnDeleteDone) -> dict[str, Any]:
    """A DeleteRangeResponse."""
    previous = [key_value(item) for item in done.previous]
    return document(header=header, deleted=done.deleted, prev_kvs=previous)


def txn_document(header: dict[str, Any], done: TransactionDone) -> dict[str, Any]:
    """A TxnResponse."""
    responses = [_response(result) for result in done.results]
    return document(header=header, succeeded=done.succeeded, responses=responses)


def _response(result: TxnOperationResult) -> dict[str, Any]:
    """A ResponseOp. In it a header shows only a revision, and that of a transaction nothing."""
    header = {"revision": str(result.revision)}
    match result:
        case Selected():
            return {"response_range": range_document(header, result)}
        case TxnPutDone():
            return {"response_put": put_document(header, result)}
        case TxnDeleteDone():
            return {"response_delete_range": delete_document(header, result)}
        case TransactionDone():
            return {"response_txn": txn_document({}, result)}


# -- handlers -------------------------------------------------------------------------------


async def put(ask: EtcdAsk[PutRequest]) -> dict[str, Any]:
    """kv/put."""
    write = write_of(ask.message)
    if write.value is not None and write.lease is not None and not write.previous:
        command = Put(write.key, write.value, lease=write.lease)
        written = await ask.execute(command, Written)
        return document(header=ask.header(written.revision))
    try:
        done = await ask.execute(Transaction((), (write,)), TransactionDone)
    except KeyNotFound:
        # Outside of transactions etcd looks at the lease first.
        if write.lease and ask.session.lease_ttl_s(write.lease) is None:
            raise LeaseNotFound(write.lease) from None
        raise
    (result,) = done.results
    assert isinstance(result, TxnPutDone)
    return put_document(ask.header(done.revision), result)


async def delete_range(ask: EtcdAsk[DeleteRangeRequest]) -> dict[str, Any]:
    """kv/deleterange."""
    remove = remove_of(ask.message)
    if remove.end == only(remove.start) and not remove.previous:
        deleted = await ask.execute(Delete(remove.start), Deleted)
        return document(header=ask.header(deleted.revision), deleted=deleted.deleted)
    done = await ask.execute(Transaction((), (remove,)), TransactionDone)
    (result,) = done.results
    assert isinstance(result, TxnDeleteDone)
    return delete_document(ask.header(done.revision), result)


async def txn(ask: EtcdAsk[TxnRequest]) -> dict[str, Any]:
    """kv/txn."""
    done = await ask.execute(transaction_of(ask.message), TransactionDone)
    return txn_document(ask.header(done.revision), done)


async def compaction(ask: EtcdAsk[CompactionRequest]) -> dict[str, Any]:
    """kv/compaction."""
    await ask.execute(Compact(ask.message.revision), Compacted)
    return document(header=ask.header())


def has_key(message: RangeRequest | PutRequest | DeleteRangeRequest) -> None:
    """That the key is missing is told to everybody, as by etcd."""
    _check_key(message.key)


CALLS = (
    unary(
        "kv/put", PutRequest, put, Need.CALLER,
        "Write a key.",
        size=SizeRule.LOGGED, check=has_key,
    ),
    unary(
        "kv/deleterange", DeleteRangeRequest, delete_range, Need.CALLER,
        "Delete a key or a range.",
        size=SizeRule.LOGGED, check=has_key,
    ),
    unary(
        "kv/txn", TxnRequest, txn, Need.CALLER,
        "Compare, then do one or the other list of operations, all at one revision.",
        size=SizeRule.LOGGED,
    ),
    unary(
        "kv/compaction", CompactionRequest, compaction, Need.CALLER,
        "Forget the history before a revision.",
    ),
)  # fmt: skip
