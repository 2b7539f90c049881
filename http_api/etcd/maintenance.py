"""`maintenance/...`: status, hash, snapshot, leadership; alarms and downgrades are never there."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import lmdb
import orjson
from aiohttp import web

from http_api.etcd.encode import Uint32, document
from http_api.etcd.errors import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    UNIMPLEMENTED,
    UNKNOWN,
    EtcdError,
    status_of,
)
from http_api.etcd.gateway import CORS_HEADERS, RAFT_TERM, Gateway, Stream, Unary
from http_api.etcd.messages import (
    AlarmAction,
    AlarmRequest,
    AlarmType,
    DowngradeAction,
    DowngradeRequest,
    Empty,
    MoveLeaderRequest,
)
from kvstore.errors import NoQuorum

SERVER_VERSION = "3.5.1"
"""The etcd whose behaviour this is; clients choose their dialect by it."""
CLUSTER_VERSION = "3.5.0"

BLOB_BYTES = 32 << 10

_VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?)?")


async def status(gateway: Gateway, _: Empty) -> dict[str, Any]:
    """maintenance/status: this node's own view, without a quorum too."""
    node, state = gateway.replica.node, gateway.state
    size = _state_path(gateway).stat().st_size
    return document(
        header=gateway.header(),
        version=SERVER_VERSION,
        dbSize=size,
        leader=0 if node.leader is None else gateway.member_id(node.leader),
        raftIndex=node.chosen_through,
        raftTerm=RAFT_TERM,
        raftAppliedIndex=state.applied_through,
        errors=["etcdserver: no leader"] if node.leader is None else [],
        # Free pages are reused without anybody's help, so none of them are lost.
        dbSizeInUse=size,
    )


def _state_path(gateway: Gateway) -> Path:
    return gateway.config.data_dir / "state.mdb"


async def alarm(gateway: Gateway, message: AlarmRequest) -> dict[str, Any]:
    """maintenance/alarm: there are none, and none can be raised by hand."""
    if message.action is AlarmAction.ACTIVATE and message.alarm is not AlarmType.NONE:
        raise EtcdError(UNIMPLEMENTED, "etcdserver: alarms cannot be activated")
    return document(header=gateway.header())


async def state_hash(gateway: Gateway, _: Empty) -> dict[str, Any]:
    """maintenance/hash: of all that was ever applied, so nodes at the same slot agree."""
    digest = gateway.state.digest
    return document(header=gateway.header(), hash=Uint32(int.from_bytes(digest[:4])))


async def defragment(gateway: Gateway, _: Empty) -> dict[str, Any]:
    """maintenance/defragment: space is reused anyway."""
    return {}


async def move_leader(gateway: Gateway, message: MoveLeaderRequest) -> dict[str, Any]:
    """maintenance/transfer-leadership, to be sent to the leader."""
    replica = gateway.replica
    if not replica.node.proposer.leading:
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: not leader")
    to = gateway.node_of(message.target_id)
    if to is None:
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: bad leader transferee")
    if to != replica.node.id:
        await replica.hand_over(to, gateway.timeout_s)
    return {}


async def downgrade(gateway: Gateway, message: DowngradeRequest) -> dict[str, Any]:
    """maintenance/downgrade: there is no version to go back to."""
    if message.action is DowngradeAction.CANCEL:
        raise EtcdError(FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
    if _VERSION.fullmatch(message.version) is None:
        raise EtcdError(INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
    raise EtcdError(INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")


# -- snapshots ------------------------------------------------------------------------------


async def snapshot(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    """maintenance/snapshot: the state's file in blobs, and at last a blob with their SHA-256.

    It shows at least every write acknowledged before the request. One copy is made at a time.
    """
    message = gateway.decode(Empty, await gateway.body(request))
    await gateway.authorize(request, message, "maintenance/snapshot")
    async with gateway.copying, _copy(gateway) as path:
        response = web.StreamResponse(headers=CORS_HEADERS)
        response.content_type = "application/json"
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            await _send(path, response)
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            failed = status_of(EtcdError(UNKNOWN, str(error)))
            await response.write(orjson.dumps(failed.stream_document()) + b"\n")
        await response.write_eof()
    return response


@asynccontextmanager
async def _copy(gateway: Gateway) -> AsyncIterator[Path]:
    """A consistent copy of the state, for the length of the block. Raises KvError."""
    replica = gateway.replica
    await gateway.barrier()
    await _checkpointed(gateway, replica.state.applied_through)
    path = gateway.config.data_dir / "snapshot.backup"
    try:
        try:
            await replica.copy_state(path)
        except (OSError, lmdb.Error) as error:
            raise EtcdError(UNKNOWN, f"the copy failed: {error}") from error
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


async def _checkpointed(gateway: Gateway, through: int) -> None:
    """Wait until what is applied now is in the file that is copied."""
    try:
        async with asyncio.timeout(gateway.timeout_s):
            while gateway.state.checkpointed_through < through:
                gateway.replica.check_running()
                await asyncio.sleep(gateway.config.tick_s)
    except TimeoutError:
        raise NoQuorum("the state was not written to the disk in time") from None


async def _send(path: Path, response: web.StreamResponse) -> None:
    digest = hashlib.sha256()
    left = path.stat().st_size
    with path.open("rb") as file:
        while blob := await asyncio.to_thread(file.read, BLOB_BYTES):
            digest.update(blob)
            left -= len(blob)
            await _send_blob(response, blob, left)
    await _send_blob(response, digest.digest(), 0)


async def _send_blob(response: web.StreamResponse, blob: bytes, left: int) -> None:
    result = document(remaining_bytes=left, blob=blob)
    await response.write(orjson.dumps({"result": result}) + b"\n")


HANDLERS: dict[str, tuple[type[Any], Unary]] = {
    "maintenance/status": (Empty, status),
    "maintenance/alarm": (AlarmRequest, alarm),
    "maintenance/hash": (Empty, state_hash),
    "maintenance/defragment": (Empty, defragment),
    "maintenance/transfer-leadership": (MoveLeaderRequest, move_leader),
    "maintenance/downgrade": (DowngradeRequest, downgrade),
}
STREAMS: dict[str, Stream] = {"maintenance/snapshot": snapshot}
