"""The queues of locks and elections: which keys stand in the one of a name.

A place is a key NAME/LEASE, the lease in lower-case hexadecimal, put on a lease. Other keys may lie
below the same name, of another queue perhaps (NAME/OTHER/LEASE): nobody waits for those. A place
that somebody has overwritten without its lease stays one while the lease in its name lasts.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any, Protocol

from kvstore.client.operations import Compare, Operation, get
from kvstore.client.results import Entry, GetResult, LeaseStatus, TxnResult
from kvstore.errors import LeaseNotFound, RequestError, Unavailable

_LEASE = re.compile(rb"-?[1-9a-f][0-9a-f]{0,15}")
_AT_ONCE = 1000
"""Keys that are asked for together when the first one is no place: the API answers no more."""


class QueueStore(Protocol):
    """What queues need of a client."""

    async def txn(
        self,
        *compares: Compare,
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnResult:
        """See `Client.txn`."""

    async def lease_status(self, lease: int) -> LeaseStatus:
        """See `Client.lease_status`."""


class Queue:
    """The places below `name`."""

    def __init__(self, store: QueueStore, name: bytes) -> None:
        self._store = store
        self._head = name + b"/"

    async def last_before(
        self, revision: int, own: bytes
    ) -> tuple[Entry | None, Entry | None, int]:
        """The youngest place taken before `revision`, the key `own`, and the revision of the
        reading. Values are left out."""
        newest = revision - 1
        for limit in _limits():
            done = await self._store.txn(
                then=[
                    get(
                        start=self._head + b"-",
                        end=self._head + b"g",
                        max_create_revision=newest,
                        sort_by="create_revision",
                        descending=True,
                        limit=limit,
                        keys_only=True,
                    ),
                    get(own),
                ]
            )
            found, held = map(_got, done.results)
            for entry in found.items:
                if await self._counts(entry):
                    return entry, held.entry, done.revision
            if not found.more:
                break
            newest = found.items[-1].create_revision - 1
        return None, held.entry, done.revision

    async def first(self) -> tuple[Entry | None, int]:
        """The oldest place, and the revision of the reading."""
        oldest = 0
        for limit in _limits():
            done = await self._store.txn(
                then=[
                    get(
                        start=self._head + b"-",
                        end=self._head + b"g",
                        min_create_revision=oldest,
                        sort_by="create_revision",
                        limit=limit,
                        keys_only=limit > 1,
                    )
                ]
            )
            found = _got(done.results[0])
            for entry in found.items:
                if await self._counts(entry):
                    return (entry, done.revision) if limit == 1 else await self._whole(entry)
            if not found.more:
                break
            oldest = found.items[-1].create_revision + 1
        return None, done.revision

    async def _whole(self, place: Entry) -> tuple[Entry | None, int]:
        """The first place with its value, or whoever has followed it meanwhile."""
        done = await self._store.txn(then=[get(place.key)])
        entry = _got(done.results[0]).entry
        if entry is not None and entry.create_revision == place.create_revision:
            return entry, done.revision
        return await self.first()

    async def _counts(self, entry: Entry) -> bool:
        rest = entry.key.removeprefix(self._head)
        if not _LEASE.fullmatch(rest):
            return False
        if entry.lease:
            return True
        try:
            await self._store.lease_status(int(rest, 16))
        except LeaseNotFound:
            return False
        except RequestError:
            return True  # it may not be asked for; rather wait too long than not be alone
        return True


def _limits() -> Iterator[int]:
    """Mostly the first key is a place; there may be many behind it."""
    return chain((1,), repeat(_AT_ONCE))


def _got(result: Any) -> GetResult:
    if not isinstance(result, GetResult):
        raise Unavailable("the endpoint answered a get with something else")
    return result
