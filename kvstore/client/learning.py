"""Where the members are now: a client follows them as they come and go.

It begins with the endpoints that it was given, and keeps them. From time to time, and soon after
one has failed, it asks a node that answers where clients reach the members, and adds those that
turn out to be nodes of the same cluster; who is no member any more is dropped again.
"""

import asyncio
import ipaddress
import weakref
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from kvstore.client.answers import decode
from kvstore.client.attempts import Attempts, Request
from kvstore.client.connections import ClientClosed
from kvstore.client.results import ClusterStatus, Member
from kvstore.errors import KvError, Unavailable

FIRST_S = 5.0
"""Whoever is used for longer looks, although nothing has failed yet."""
SOON_S = 1.0
"""How long after a failure it looks: a call that ends meanwhile asks nothing further."""
FAILED_S, CALM_S = 3.0, 30.0
"""It looks at most so often: after a failure, and without one."""
LOOK_S = 1.0
"""How long one node has to answer."""
LEARNED_MAX = 32
"""As many as a cluster may have members."""

_STATUS = Request("GET", "/v1/cluster")


class Learning:
    """Keeps the endpoints of `attempts` up to date, in the background, while it is held."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._given = attempts.endpoints
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looked_s: float | None = None
        self._heard = ""
        # By weak references: a client that is forgotten is not kept for this.
        this = weakref.ref(self)

        def heard(endpoint: str, failed: bool) -> None:
            if (learning := this()) is not None:
                learning.heard(endpoint, failed)

        attempts.heard = heard

    def heard(self, endpoint: str, failed: bool) -> None:
        """`endpoint` answered; `failed`: another one did not."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._task, self._timer, self._looked_s = loop, None, None, None
        self._heard = endpoint
        now_s, looked_s = loop.time(), self._looked_s
        if failed:
            due_s = now_s + SOON_S if looked_s is None else max(now_s + SOON_S, looked_s + FAILED_S)
        else:
            due_s = now_s + FIRST_S if looked_s is None else looked_s + CALM_S
        if self._timer is None or due_s < self._timer.when():
            self._look_at(due_s, loop)

    def told(self, endpoint: str, status: ClusterStatus | None) -> None:
        """`endpoint` told where the members are; None: it is asked once more in full."""
        self.heard(endpoint, failed=False)
        self._begin(status)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def _look_at(self, due_s: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        this = weakref.ref(self)

        def look() -> None:
            if (learning := this()) is not None:
                learning._timer = None
                learning._begin(None)

        self._timer = loop.call_at(due_s, look)

    def _begin(self, status: ClusterStatus | None) -> None:
        assert self._loop is not None
        if self._task is None or self._task.done():
            self._looked_s = self._loop.time()
            self._task = self._loop.create_task(self._learn(self._heard, status))

    async def _learn(self, endpoint: str, status: ClusterStatus | None) -> None:
        try:
            async with asyncio.timeout(3 * LOOK_S):
                status = status or await self._look(endpoint)
                if status is not None and status.cluster_id:
                    await self._take(endpoint, status)
        except (TimeoutError, ClientClosed):
            return

    async def _look(self, endpoint: str) -> ClusterStatus | None:
        try:
            answer = await self._attempts.send_once(endpoint, _STATUS, LOOK_S)
            return decode(answer.body, ClusterStatus, Unavailable)
        except KvError:
            return None

    async def _take(self, endpoint: str, status: ClusterStatus) -> None:
        known = self._attempts.endpoints
        others = (
            one for one in status.members if one.id != status.node.id or endpoint not in known
        )
        wanted = addresses(others, endpoint)[:LEARNED_MAX]
        fresh = [address for address in wanted if address not in known]
        looks = await asyncio.gather(*map(self._look, fresh))
        same = {
            address
            for address, look in zip(fresh, looks, strict=True)
            if look is not None and look.cluster_id == status.cluster_id
        }
        # An address may have been given to a machine of somebody else meanwhile.
        kept = [one for one in known if one in self._given or one == endpoint or one in wanted]
        self._attempts.endpoints = tuple(kept + [one for one in wanted if one in same])


def addresses(members: Iterable[Member], endpoint: str) -> list[str]:
    """Where clients reach `members`, as far as whoever came by `endpoint` may: with the same
    scheme and user, and this machine's own addresses only if that is one of them."""
    own = urlsplit(endpoint)
    user, mark, _ = own.netloc.rpartition("@")
    found = []
    for member in members:
        place = urlsplit(member.client_address or "")
        if place.scheme == own.scheme and _reachable(place, _is_loopback(own)):
            found.append(f"{place.scheme}://{user}{mark}{place.netloc}")
    return list(dict.fromkeys(found))


def _reachable(place: SplitResult, loopback: bool) -> bool:
    host = place.hostname
    if not host or host in ("0.0.0.0", "::"):
        return False
    return loopback or not _is_loopback(place)


def _is_loopback(place: SplitResult) -> bool:
    host = place.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
