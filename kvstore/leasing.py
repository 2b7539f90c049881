"""Leases of a running replica: the leader decides when they end, everyone else asks it.

Keeping a lease alive writes nothing. The leader moves a deadline in memory, after a quorum has
confirmed that it still leads: a later leader gives every lease its full time again, so a lease
that was answered for never ends early. Failing schedule without the confirmation: a deposed leader
answers, while the next one's clock for that lease has long been running.
"""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from kvstore.errors import KvError, NoQuorum, Overloaded
from kvstore.lease_timers import LeaseTimers
from kvstore.wire import LeaseAsk, LeaseTold
from paxos.ballot import NodeId

if TYPE_CHECKING:
    from kvstore.replica import Replica

EXPIRED_MAX = 1000
"""Leases that end with one batch; more follow with the next."""
ASKS_MAX = 1000
"""Leases in one message."""
WAITING_MAX = 50_000


class Lease(NamedTuple):
    """What the leader knows of a lease: seconds granted, seconds left."""

    ttl_s: int
    left_s: float


class _Asked:
    """One message's worth of questions to the leader."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.leases: list[tuple[int, bool]] = []
        self.futures: list[asyncio.Future[Lease | None]] = []
        self.ticks = 0
        self.sent = False


class Leasing:
    """Owned by the replica; all calls belong to its loop."""

    def __init__(self, replica: "Replica") -> None:
        self._replica = replica
        self.timers = LeaseTimers()
        self._asked: dict[int, _Asked] = {}
        self._next_number = 1
        self._answering: set[asyncio.Task[None]] = set()

    # -- the face ---------------------------------------------------------------------------

    async def renew(self, lease: int, timeout_s: float) -> Lease | None:
        """Keep `lease` alive: it lasts its full time from now. None if it has ended.

        Raises NoQuorum, Overloaded or Stopping; then its time goes on as before.
        """
        return await self._ask(lease, True, timeout_s)

    async def look(self, lease: int, timeout_s: float) -> Lease | None:
        """How long it has left. Raises like `renew`."""
        return await self._ask(lease, False, timeout_s)

    async def _ask(self, lease: int, renew: bool, timeout_s: float) -> Lease | None:
        replica = self._replica
        replica.check_running()
        asked = self._open_question()
        future: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()
        asked.leases.append((lease, renew))
        asked.futures.append(future)
        replica.wake()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise NoQuorum("no leader confirmed the lease in time") from None

    def _open_question(self) -> _Asked:
        """The question that is not sent yet, with room in it. Raises Overloaded."""
        last = self._asked.get(self._next_number - 1)
        if last is not None and not last.sent and len(last.leases) < ASKS_MAX:
            return last
        if len(self._asked) * ASKS_MAX >= WAITING_MAX:
            raise Overloaded("too many lease requests are waiting here already")
        asked = self._asked[self._next_number] = _Asked(self._next_number)
        self._next_number += 1
        return asked

    # -- called by the replica --------------------------------------------------------------

    def step(self) -> None:
        """Leadership and state are up to date: follow them, and send what waits."""
        replica = self._replica
        if replica.node.serves_reads:
            if not self.timers.running:
                self.timers.start(replica.state.leases.all(), replica.clock.monotonic())
        elif self.timers.running:
            self.timers.stop()
        for asked in self._asked.values():
            if not asked.sent:
                self._send(asked)

    def applied(self) -> None:
        """Commands were applied that may have granted or ended leases."""
        changed = self._replica.state.leases.changed
        if not changed:
            return
        if self.timers.running:
            now_s = self._replica.clock.monotonic()
            for lease, ttl_s in changed:
                if ttl_s:
                    self.timers.granted(lease, ttl_s, now_s)
                else:
                    self.timers.ended(lease)
        changed.clear()

    def due(self) -> tuple[int, ...]:
        """As leader: leases to end with the next batch."""
        if not self.timers.running:
            return ()
        return self.timers.due(self._replica.clock.monotonic(), EXPIRED_MAX)

    def tick(self) -> None:
        """Ask again what may have been lost; forget what nobody waits for."""
        for number, asked in list(self._asked.items()):
            if all(future.done() for future in asked.futures):
                del self._asked[number]
                continue
            asked.ticks += 1
            if asked.ticks % self._replica.config.resend_ticks == 0:
                self._send(asked)

    def fail(self, error: KvError) -> None:
        """The node stops: answer who waits."""
        for asked in self._asked.values():
            for future in asked.futures:
                if not future.done():
                    future.set_exception(error)
        self._asked.clear()
        for task in self._answering:
            task.cancel()

    # -- asking and answering ---------------------------------------------------------------

    def _send(self, asked: _Asked) -> None:
        replica = self._replica
        leader = replica.node.leader
        if leader == replica.node.id:
            asked.sent = True
            self._answer(leader, LeaseAsk(asked.number, tuple(asked.leases)))
        elif leader is not None and replica.transport.connected(leader):
            asked.sent = True
            replica.transport.send(leader, LeaseAsk(asked.number, tuple(asked.leases)))

    def on_ask(self, sender: NodeId, ask: LeaseAsk) -> None:
        """A follower asks; only a leader answers."""
        if self._replica.node.proposer.leading:
            self._answer(sender, ask)

    def _answer(self, asker: NodeId, ask: LeaseAsk) -> None:
        task = asyncio.get_running_loop().create_task(self._confirm_and_answer(asker, ask))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _confirm_and_answer(self, asker: NodeId, ask: LeaseAsk) -> None:
        replica = self._replica
        try:
            await replica.barrier(replica.config.request_timeout_s)
        except KvError:
            return  # the asker asks again, or gives up
        if not self.timers.running:
            return
        now_s = replica.clock.monotonic()
        answers: list[tuple[int, float] | None] = []
        for lease, renew in ask.leases:
            if renew:
                self.timers.renew(lease, now_s)
            answers.append(self.timers.look(lease, now_s))
        told = LeaseTold(ask.number, tuple(answers))
        if asker == replica.node.id:
            self.on_told(told)
        else:
            replica.transport.send(asker, told)
            replica.transport.flush()

    def on_told(self, told: LeaseTold) -> None:
        """The leader's answer; one that nobody waits for is ignored."""
        asked = self._asked.pop(told.number, None)
        if asked is None or len(told.leases) != len(asked.futures):
            return
        for future, answer in zip(asked.futures, told.leases, strict=True):
            if not future.done():
                future.set_result(None if answer is None else Lease(*answer))
