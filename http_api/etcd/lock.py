"""etcd's locks: `lock/lock` waits for its turn in the queue of a name, `lock/unlock` leaves it."""

from typing import Any

import msgspec

from http_api.core.calls import Need
from http_api.etcd.calls import EtcdAsk, in_one_code, unary, waiting
from http_api.etcd.encode import document
from http_api.etcd.kv import delete_range
from http_api.etcd.messages import DeleteRangeRequest
from http_api.etcd.queueing import take_place, wait_for_turn

LOST = "mutex: session is expired"
"""To a waiter whose own key is gone."""


class LockRequest(msgspec.Struct):
    """`lease` 0: one of 60 seconds is granted."""

    name: bytes = b""
    lease: int = 0


class UnlockRequest(msgspec.Struct):
    """`key`: as lock/lock answered."""

    key: bytes = b""


async def lock(ask: EtcdAsk[LockRequest]) -> dict[str, Any]:
    """Wait until the lock is ours. A lease that has it already has it again."""
    name = ask.message.name
    place = await take_place(ask, name, ask.message.lease, b"")
    revision = place.shown
    if await wait_for_turn(ask, name, place, LOST):
        revision = ask.session.revision
    return document(header=ask.header(revision), key=place.key)


async def unlock(ask: EtcdAsk[UnlockRequest]) -> dict[str, Any]:
    """Leave the queue, as holder or not. Leaving twice is fine."""
    done = await delete_range(ask.about(DeleteRangeRequest(key=ask.message.key)))
    return {"header": done["header"]}


CALLS = (
    waiting(
        "lock/lock", LockRequest, lock, Need.CALLER,
        "Wait for a lock, and hold it as long as a lease lasts.",
        told=in_one_code,
    ),
    unary(
        "lock/unlock", UnlockRequest, unlock, Need.CALLER,
        "Give a lock back, or stop waiting for it.",
        told=in_one_code,
    ),
)  # fmt: skip
