"""What locks and elections share: places below one name, each a key that a lease holds, in the
order in which they were created. The first has the turn, each of the others waits for the one
before it. Which keys are places is said in `kvstore.state.queues`.

The recipe, and the layout of the keys, are those of etcd's `concurrency` package: NAME/LEASE, with
the lease in lower-case hexadecimal. So they work together with clients that follow the same one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from http_api.etcd.calls import EtcdAsk
from http_api.etcd.errors import UNKNOWN, EtcdError
from http_api.etcd.kv import bounds, remove_of, write_of
from http_api.etcd.lease import grant_lease
from http_api.etcd.messages import DeleteRangeRequest, PutRequest
from kvstore.commands.operations import (
    Comparison,
    Field,
    Relation,
    Select,
    Selected,
    Transaction,
    TransactionDone,
    TxnDelete,
    TxnOperation,
    only,
)
from kvstore.errors import KvError, RevisionCompacted, Unavailable
from kvstore.replica.feed import Watcher
from kvstore.replica.interest import Interest

LEASE_TTL_S = 60
"""Of a lease that is granted because the request names none."""
RENEWALS_PER_TTL = 3
LOOK_AGAIN_S = 1.0
"""A place that was overwritten without its lease is not deleted when that ends."""


class Place(NamedTuple):
    """One's own key in a queue. `revision` is that which created it, `shown` the store's then;
    `value` is what it held already, None if it is new."""

    key: bytes
    revision: int
    lease: int
    shown: int
    value: bytes | None


def key_of(name: bytes, lease: int) -> bytes:
    """The key of a lease in a queue."""
    return b"%s/%s" % (name, f"{lease:x}".encode())


async def take_place(ask: EtcdAsk[Any], name: bytes, lease: int, value: bytes) -> Place:
    """Create one's key, unless this lease has it already. Raises LeaseNotFound.

    Cancelled, it leaves no key behind that nobody knows of.
    """
    taking = asyncio.get_running_loop().create_task(_take_place(ask, name, lease, value))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        with suppress(KvError):
            place = await taking
            if place.value is None:
                await leave(ask, place)
        raise


async def _take_place(ask: EtcdAsk[Any], name: bytes, lease: int, value: bytes) -> Place:
    lease = lease or await new_lease(ask)
    key = key_of(name, lease)
    write = write_of(PutRequest(key=key, value=value, lease=lease))
    look = Select(key, only(key))
    done = await ask.execute(Transaction((_created(key, 0),), (write,), (look,)), TransactionDone)
    if done.succeeded:
        return Place(key, done.revision, lease, done.revision, None)
    (found,) = done.results
    assert isinstance(found, Selected)
    held = found.items[0]
    return Place(key, held.create_revision, lease, done.revision, held.value)


async def new_lease(ask: EtcdAsk[Any]) -> int:
    """A lease of LEASE_TTL_S."""
    return (await grant_lease(ask, 0, LEASE_TTL_S)).lease


async def if_still(
    ask: EtcdAsk[Any], key: bytes, revision: int, then: TxnOperation
) -> TransactionDone:
    """Do `then` if `key` is the one that was created at `revision`."""
    return await ask.execute(Transaction((_created(key, revision),), (then,)), TransactionDone)


def _created(key: bytes, revision: int) -> Comparison:
    return Comparison(Field.CREATE, Relation.EQUAL, *bounds(key, b""), revision)


def removal(key: bytes) -> TxnDelete:
    """Raises EtcdError if there is no key."""
    return remove_of(DeleteRangeRequest(key=key))


async def leave(ask: EtcdAsk[Any], place: Place) -> None:
    """Give a place back as far as that can be done; its lease's end does it otherwise."""
    with suppress(KvError):
        await if_still(ask, place.key, place.revision, removal(place.key))


async def wait_for_turn(ask: EtcdAsk[Any], name: bytes, place: Place, lost: str) -> bool:
    """Until no key of the queue is older; whether one was. Cancelling gives the place back.

    The lease is kept alive meanwhile: the client is here, waiting. Raises EtcdError with the text
    `lost` as soon as one's own key is gone, with its lease or by anybody's hand: it would have the
    turn that the next one has too, or wait for ever. Raises NoQuorum once this node has known no
    leader for long, whether or not the client asked for that, unlike etcd: whoever waits at a node
    that is cut off, with a lease that is kept alive elsewhere, would get the turn without hearing
    of it, and hold up all behind it. It does not leave the queue then: the client comes back with
    the same lease at another node and finds its place, or the lease ends.
    """
    waited = False
    try:
        async with _kept_alive(ask, place.lease):
            while (older := ask.session.queue_before(name, place.revision)) is not None:
                _check_place(ask, place, lost)
                waited = True
                again_s = None if older.lease else LOOK_AGAIN_S
                await _one_gone(ask, (older.key, place.key), again_s)
            if waited:
                # This node may lag: its key, the last it saw of the queue, may have gone since.
                await ask.barrier()
            _check_place(ask, place, lost)
    except asyncio.CancelledError:
        await leave(ask, place)
        raise
    return waited


def _check_place(ask: EtcdAsk[Any], place: Place, lost: str) -> None:
    own = ask.session.queue_get(place.key)
    if own is None or own.create_revision != place.revision:
        raise EtcdError(UNKNOWN, lost)


async def _one_gone(ask: EtcdAsk[Any], keys: tuple[bytes, ...], again_s: float | None) -> None:
    """Until one of `keys`, which are there now, is deleted, or may have been, or `again_s` is over.

    Raises NoQuorum if this node has known no leader for long, and Stopping.
    """
    absence = ask.session.leader_absence
    watchers: list[Watcher] = []
    tasks: list[asyncio.Task[Any]] = []
    try:
        for key in keys:
            watchers.append(ask.session.queue_watch(Interest(key, only(key), puts=False)))
            tasks.append(asyncio.create_task(watchers[-1].next()))
        with absence.noticed() as no_leader:
            await asyncio.wait(
                (*tasks, no_leader), timeout=again_s, return_when=asyncio.FIRST_COMPLETED
            )
            if no_leader.done():
                raise absence.error()
        for task in tasks:
            if task.done():
                with suppress(RevisionCompacted):  # too slow; the caller looks again
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watcher in watchers:
            watcher.close()


@asynccontextmanager
async def _kept_alive(ask: EtcdAsk[Any], lease: int) -> AsyncIterator[None]:
    renewing = asyncio.get_running_loop().create_task(_keep_alive(ask, lease))
    try:
        yield
    finally:
        renewing.cancel()


async def _keep_alive(ask: EtcdAsk[Any], lease: int) -> None:
    """Until the lease ends. It is renewed late enough that one who waits briefly costs nothing."""
    while (ttl_s := ask.session.lease_ttl_s(lease)) is not None:
        await asyncio.sleep(ttl_s / RENEWALS_PER_TTL)
        try:
            await ask.session.renew(lease, ask.gateway.timeout_s)
        except Unavailable:
            continue  # the next attempt may still be in time
