"""Leases in use: kept alive in the background, and known to be lost before the store ends them."""

import asyncio
import secrets
from collections.abc import Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import msgspec

from kvstore.client.answers import decode, decode_lease, decode_leases
from kvstore.client.attempts import Attempts, Request
from kvstore.client.connections import ClientClosed
from kvstore.client.requests import Pairs, once_header, whole
from kvstore.client.results import DeleteResult, LeaseStatus
from kvstore.errors import (
    InvalidArgument,
    KvError,
    LeaseExists,
    LeaseNotFound,
    OutcomeUnknown,
    Unavailable,
)

_MARGIN_SHARE = 0.05
"""The default of `margin_s`, as a share of the lease's time: clocks differ in rate, and whoever
relied on the lease needs a moment to stop."""
_MARGIN_SHARE_MAX = 0.4
_RENEWALS = 3
"""How often a lease is kept alive within its time."""
_REVOKE_LOST_S = 1.0
"""How long to try to revoke a lease that was lost: it ends by itself, too."""
_JSON = (("Content-Type", "application/json"),)


class LeaseLost(KvError):
    """The lease ended, or could not be kept alive for so long that it may have."""


class LeaseCalls:
    """The calls of `/v1/leases`."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts

    async def grant(self, ttl_s: int, lease_id: int | None) -> LeaseStatus:
        """Begin a lease. Raises LeaseExists if the caller chose an id that is taken."""
        if whole(ttl_s, "ttl_s") < 1:
            raise InvalidArgument("ttl_s", f"ttl_s: at least 1, got {ttl_s}")
        # Chosen here, so that every attempt asks for the same lease.
        chosen = (lease_id and whole(lease_id, "lease_id")) or secrets.randbits(62) + 1
        body = msgspec.json.encode({"ttl_s": ttl_s, "id": str(chosen)})
        headers = (*_JSON, *once_header())
        try:
            answer = await self._attempts.send(Request("POST", "/v1/leases", (), headers, body))
        except LeaseExists:
            if lease_id:
                raise
            # An earlier attempt granted it: nobody else draws the same 62 bits.
            return await self.keep_alive(chosen)
        return decode_lease(answer.body, OutcomeUnknown)

    async def keep_alive(self, lease: int, timeout_s: float | None = None) -> LeaseStatus:
        """Give it its full time again, from now. Raises LeaseNotFound."""
        # A keep-alive may be sent any number of times, so a lost answer leaves no doubt.
        request = Request("POST", f"{_path(lease)}/keep-alive", only_reads=True)
        return decode_lease((await self._attempts.send(request, timeout_s)).body)

    async def revoke(self, lease: int, timeout_s: float | None = None) -> DeleteResult:
        """End it; its keys are deleted. Raises LeaseNotFound."""
        request = Request("DELETE", _path(lease), (), once_header())
        return decode((await self._attempts.send(request, timeout_s)).body, DeleteResult)

    async def status(self, lease: int) -> LeaseStatus:
        """Its time left, and its keys. Raises LeaseNotFound."""
        return decode_lease((await self._attempts.send(Request("GET", _path(lease)))).body)

    async def all(self) -> tuple[LeaseStatus, ...]:
        """Every lease; without their time left and their keys."""
        found: list[LeaseStatus] = []
        query: Pairs = ()
        while True:
            answer = await self._attempts.send(Request("GET", "/v1/leases", query))
            leases, cursor = decode_leases(answer.body)
            found += leases
            if cursor is None:
                return tuple(found)
            query = (("cursor", cursor),)


def _path(lease: int) -> str:
    return f"/v1/leases/{whole(lease, 'lease')}"


class Lease:
    """A lease: keys that are put with it are deleted when it ends.

    `lease = await client.lease(10)` grants it and leaves it to you. `async with client.lease(10) as
    lease:` keeps it alive until the end of the block, and revokes it there. `lost` is set when it
    has ended, or when no node has confirmed it for so long that it may end in `margin_s` seconds
    (default: 5 % of its time): *before* the store can end it, if this process gets to run at all.
    """

    def __init__(
        self,
        calls: LeaseCalls,
        ttl_s: int,
        lease_id: int | None = None,
        margin_s: float | None = None,
    ) -> None:
        self._calls = calls
        self._wanted_id = lease_id
        self._wanted_margin_s = margin_s
        self._id = 0
        self._keeper: asyncio.Task[None] | None = None
        self._confirmed_s = 0.0
        self._on_lost: list[Callable[[], None]] = []
        self.ttl_s: int = ttl_s
        """Seconds, as asked for; once granted, as granted."""
        self.lost: asyncio.Event = asyncio.Event()
        """Set when it is lost."""

    @property
    def id(self) -> int:
        """Its number. Raises RuntimeError before it is granted."""
        if not self._id:
            raise RuntimeError("this lease is not granted yet: await it, or enter it")
        return self._id

    def __await__(self) -> Generator[Any, None, Self]:
        """Grant it, once."""
        return self._grant().__await__()

    async def __aenter__(self) -> Self:
        """Grant it unless that was done, and keep it alive from here on."""
        await self._grant()
        self._keeper = asyncio.create_task(self._keep(), name=f"lease {self._id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Revoke it. If no node does that in time, or the client is closed, it ends by itself."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        with suppress(LeaseNotFound, Unavailable, OutcomeUnknown, ClientClosed):
            await self._calls.revoke(self.id, _REVOKE_LOST_S if self.lost.is_set() else None)

    async def keep_alive(self) -> LeaseStatus:
        """Give it its full time again. Raises LeaseNotFound."""
        return await self._renew(None)

    async def status(self) -> LeaseStatus:
        """Its time left, and its keys. Raises LeaseNotFound."""
        return await self._calls.status(self.id)

    async def revoke(self) -> DeleteResult:
        """End it now. Raises LeaseNotFound."""
        return await self._calls.revoke(self.id)

    def check(self) -> None:
        """Raises LeaseLost once it is lost."""
        if self.lost.is_set():
            raise LeaseLost(f"the lease {self._id} was lost")

    def on_lost(self, call: Callable[[], None]) -> None:
        """Call this when it is lost; at once if it is already."""
        if self.lost.is_set():
            call()
        else:
            self._on_lost.append(call)

    def not_on_lost(self, call: Callable[[], None]) -> None:
        """Take back an `on_lost`."""
        if call in self._on_lost:
            self._on_lost.remove(call)

    async def _grant(self) -> Self:
        if not self._id:
            asked_s = _now_s()
            granted = await self._calls.grant(self.ttl_s, self._wanted_id)
            self._id, self.ttl_s, self._confirmed_s = granted.id, granted.ttl_s, asked_s
        return self

    async def _renew(self, timeout_s: float | None) -> LeaseStatus:
        asked_s = _now_s()  # its time begins when a node hears this, which is not before
        status = await self._calls.keep_alive(self.id, timeout_s)
        self._confirmed_s = max(self._confirmed_s, asked_s)
        return status

    async def _keep(self) -> None:
        """Renew it until it is lost or this is cancelled."""
        try:
            with suppress(LeaseNotFound, ClientClosed):
                while await self._renewed_in_time():
                    pass
        finally:
            if self._keeper is not None:  # the block has not ended
                self.lost.set()
                for call in list(self._on_lost):
                    call()

    async def _renewed_in_time(self) -> bool:
        """Wait until it is time, and renew it. Raises LeaseNotFound.

        Without `asyncio.timeout`: where that expires together with a time-out of aiohttp's, only
        the latter is heard of.
        """
        end_s = self._confirmed_s + self.ttl_s - self._margin_s()
        await asyncio.sleep(min(self._confirmed_s + self.ttl_s / _RENEWALS, end_s) - _now_s())
        while (left_s := end_s - _now_s()) > 0:
            try:
                await self._renew(left_s)
                return True
            except LeaseNotFound:
                raise
            except KvError:
                # No error but LeaseNotFound means a loss before the lease's time is up.
                await asyncio.sleep(min(0.2, self.ttl_s / 20, end_s - _now_s()))
        return False

    def _margin_s(self) -> float:
        wanted_s = self._wanted_margin_s
        if wanted_s is None:
            wanted_s = _MARGIN_SHARE * self.ttl_s
        return min(wanted_s, _MARGIN_SHARE_MAX * self.ttl_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class HeldBlock:
    """Cancels the task that entered a block when a lease is lost, and says LeaseLost at its end.

    As with `asyncio.timeout`, a cancellation from elsewhere stays a cancellation.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._lease: Lease | None = None
        self._cancelling = 0
        self._cancelled = False

    def enter(self, lease: Lease) -> None:
        """Begin: the current task is the one to cancel. Raises RuntimeError outside of a task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a lock is held by a task")
        self._task, self._lease, self._cancelling = task, lease, task.cancelling()
        lease.on_lost(self._cancel)

    def leave(self, error: BaseException | None) -> None:
        """The block ended with `error`. Raises LeaseLost if that is why."""
        task, lease = self._task, self._lease
        assert task is not None and lease is not None
        lease.not_on_lost(self._cancel)
        if self._cancelled:
            others = task.uncancel() > self._cancelling
            if isinstance(error, asyncio.CancelledError) and not others:
                raise LeaseLost(f"the lease {lease.id} was lost") from error
        if error is None:
            lease.check()

    def _cancel(self) -> None:
        assert self._task is not None
        self._cancelled = True
        self._task.cancel()
