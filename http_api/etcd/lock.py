"""etcd's locks: `lock/lock` waits for its turn in the queue of a name, `lock/unlock` leaves it."""

from typing import Any

import msgspec

from http_api.etcd.encode import document
from http_api.etcd.errors import UNKNOWN, EtcdError
from http_api.etcd.gateway import Gateway, Unary
from http_api.etcd.kv import delete_range
from http_api.etcd.messages import DeleteRangeRequest
from http_api.etcd.queueing import in_one_code, take_place, wait_for_turn, waiting


class LockRequest(msgspec.Struct):
    """`lease` 0: one of 60 seconds is granted."""

    name: bytes = b""
    lease: int = 0


class UnlockRequest(msgspec.Struct):
    """`key`: as lock/lock answered."""

    key: bytes = b""


async def lock(gateway: Gateway, message: LockRequest) -> dict[str, Any]:
    """Wait until the lock is ours. A lease that has it already has it again."""
    place = await take_place(gateway, message.name, message.lease, b"")
    revision = place.shown
    if await wait_for_turn(gateway, message.name, place):
        await gateway.barrier()
        held = gateway.state.get(place.key)
        if held is None or held.create_revision != place.revision:
            raise EtcdError(UNKNOWN, "mutex: session is expired")
        revision = gateway.state.revision
    return document(header=gateway.header(revision), key=place.key)


async def unlock(gateway: Gateway, message: UnlockRequest) -> dict[str, Any]:
    """Leave the queue, as holder or not. Leaving twice is fine."""
    done = await delete_range(gateway, DeleteRangeRequest(key=message.key))
    return {"header": done["header"]}


HANDLERS: dict[str, tuple[type[Any], Unary]] = {
    "lock/unlock": (UnlockRequest, in_one_code(unlock)),
}
STREAMS = {"lock/lock": waiting("lock/lock", LockRequest, in_one_code(lock))}
