"""Leases of a running replica: the leader decides when they end, everyone else asks it.

Keeping a lease alive writes nothing. The leader moves a deadline in memory, after a quorum has
confirmed that it still leads: a later leader gives every lease its full time again, so a lease
that was answered for never ends early. Failing schedule without the confirmation: a deposed leader
answers, while the next one's clock for that lease has long been running.

An earlier leader must not end it either. Failing schedule: leader A proposes batches for slots 7
and 8, the second of which says that lease L has expired, and only node 3 accepts them. B leads
without hearing of that from node 3, puts its barrier into slot 7, and for an hour answers for L
without writing anything. Then C leads, hears from node 3, and must complete slot 8: L ends. So
every batch carries its leader's ballot, `expired` counts for nothing after a batch of a higher
one, and a new leader answers for leases only after such a batch of its own has been applied.
"""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from kvstore.errors import KvError, NoQuorum, Overloaded
from kvstore.peers.frames import LeaseAsk, LeaseTold
from kvstore.replica.lease_timers import LeaseTimers
from paxos.ballot import ZERO, Ballot, NodeId

if TYPE_CHECKING:
    from kvstore.replica.replica import Replica

EXPIRED_MAX = 1000
"""Leases that end with one batch; more follow with the next."""
ASKS_MAX = 1000
"""Leases in one message."""
UNDER_WAY_MAX = 4
"""Messages that wait for their answers; more would only make them smaller."""
WAITING_MAX = 50_000
"""Leases asked about and not answered yet."""
ANSWERING_MAX = 1000
"""Messages that a leader answers at a time; beyond, they are dropped and asked again."""


class LeaseTime(NamedTuple):
    """What the leader knows of a lease: seconds granted, seconds left."""

    ttl_s: int
    left_s: float


class _Asked:
    """One message's worth of questions. `sent_in` is the leader's ballot it was last sent under,
    ZERO if never; then more may join it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.leases: list[tuple[int, bool]] = []
        self.futures: list[asyncio.Future[LeaseTime | None]] = []
        self.ticks = 0
        self.sent_in = ZERO


class Leasing:
    """Owned by the replica; all calls belong to its loop.

    Numbers of messages are above those of the node's earlier lives, for the reason that
    `paxos.reads` gives: the answer to an earlier life's message must not answer this one's.
    """

    def __init__(self, replica: "Replica") -> None:
        self._replica = replica
        self.timers = LeaseTimers()
        self._started_in: Ballot = ZERO
        self._announced_in: Ballot = ZERO
        self._asked: dict[int, _Asked] = {}
        self._waiting = 0
        self._last_number = replica.node.config.life << 32
        self._answering: dict[tuple[NodeId, int], asyncio.Task[None]] = {}

    # -- the face ---------------------------------------------------------------------------

    async def renew(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """Keep `lease` alive: it lasts its full time from this call on. None if it has ended.

        Raises NoQuorum, Overloaded or Stopping; then its time goes on as before, or is full again.
        """
        return await self._ask(lease, True, timeout_s)

    async def look(self, lease: int, timeout_s: float) -> LeaseTime | None:
        """How long it has left. Raises like `renew`."""
        return await self._ask(lease, False, timeout_s)

    async def _ask(self, lease: int, renew: bool, timeout_s: float) -> LeaseTime | None:
        replica = self._replica
        replica.check_running()
        asked = self._open_question()
        future: asyncio.Future[LeaseTime | None] = asyncio.get_running_loop().create_future()
        asked.leases.append((lease, renew))
        asked.futures.append(future)
        self._waiting += 1
        replica.wake()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise NoQuorum("no leader confirmed the lease in time") from None

    def _open_question(self) -> _Asked:
        """The question that is not sent yet, with room in it. Raises Overloaded."""
        if self._waiting >= WAITING_MAX:
            raise Overloaded(f"{self._waiting} lease requests are waiting here already")
        last = self._asked.get(self._last_number)
        if last is not None and last.sent_in == ZERO and len(last.leases) < ASKS_MAX:
            return last
        self._last_number += 1
        asked = self._asked[self._last_number] = _Asked(self._last_number)
        return asked

    # -- called by the replica --------------------------------------------------------------

    def step(self) -> None:
        """Leadership and state are up to date: follow them, and send what waits."""
        node, timers = self._replica.node, self.timers
        ballot = node.proposer.ballot
        if timers.running and not (node.serves_reads and self._started_in == ballot):
            timers.stop()
        if not timers.running and self._knows_all and not self._announcement_wanted:
            self._started_in = ballot
            leases = self._replica.state.leases.all()
            timers.start(leases, self._replica.clock.monotonic())
        if self._asked:
            self._send_waiting()

    @property
    def _knows_all(self) -> bool:
        """As leader: whether all that earlier leaders got chosen is applied here."""
        replica = self._replica
        node = replica.node
        return node.serves_reads and replica.state.applied_through >= node.proposer.barrier

    @property
    def _announcement_wanted(self) -> bool:
        """Whether earlier leaders might still end leases: there are some, and no batch of this
        ballot was applied. One that is granted from now on comes with such a batch."""
        state = self._replica.state
        heard = state.leader_ballot >= self._replica.node.proposer.ballot
        return not heard and next(state.leases.all(), None) is not None

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

    def due(self) -> tuple[int, ...] | None:
        """As leader: leases to end with the next batch; None if none is needed on their account.

        An empty batch is needed once, so that everybody hears of this leader's ballot.
        """
        if self.timers.running:
            return self.timers.due(self._replica.clock.monotonic(), EXPIRED_MAX) or None
        ballot = self._replica.node.proposer.ballot
        if self._announced_in == ballot or not self._knows_all or not self._announcement_wanted:
            return None
        self._announced_in = ballot
        return ()

    def tick(self) -> None:
        """Ask again what may have been lost; forget what nobody waits for."""
        for asked in list(self._asked.values()):
            if all(future.done() for future in asked.futures):
                self._forget(asked)
                continue
            asked.ticks += 1
            if asked.sent_in != ZERO and asked.ticks % self._replica.config.resend_ticks == 0:
                self._send(asked)

    def fail(self, error: KvError) -> None:
        """The node stops: answer who waits."""
        for asked in list(self._asked.values()):
            self._forget(asked)
            for future in asked.futures:
                if not future.done():
                    future.set_exception(error)
        for task in self._answering.values():
            task.cancel()

    # -- asking and answering ---------------------------------------------------------------

    def _send_waiting(self) -> None:
        """Send what was not sent to the present leader, a few messages at a time."""
        ballot = self._replica.node.leader_ballot
        under_way = 0
        for asked in list(self._asked.values()):
            if asked.sent_in != ballot and under_way < UNDER_WAY_MAX:
                self._send(asked)
            under_way += asked.sent_in != ZERO

    def _send(self, asked: _Asked) -> None:
        replica = self._replica
        leader = replica.node.leader
        if leader is None:
            return
        ask = LeaseAsk(asked.number, tuple(asked.leases))
        if leader == replica.node.id:
            asked.sent_in = replica.node.leader_ballot
            self._answer(leader, ask)
        elif replica.transport.connected(leader):
            asked.sent_in = replica.node.leader_ballot
            replica.transport.send(leader, ask)

    def _forget(self, asked: _Asked) -> None:
        del self._asked[asked.number]
        self._waiting -= len(asked.futures)

    def on_ask(self, sender: NodeId, ask: LeaseAsk) -> None:
        """A follower asks; only a leader answers."""
        if self._replica.node.proposer.leading:
            self._answer(sender, ask)

    def _answer(self, asker: NodeId, ask: LeaseAsk) -> None:
        name = asker, ask.number
        if name in self._answering or len(self._answering) >= ANSWERING_MAX:
            return
        task = asyncio.get_running_loop().create_task(self._confirm_and_answer(asker, ask))
        self._answering[name] = task
        task.add_done_callback(lambda _: self._answering.pop(name))

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
        asked = self._asked.get(told.number)
        if asked is None or len(told.leases) != len(asked.futures):
            return
        self._forget(asked)
        for future, answer in zip(asked.futures, told.leases, strict=True):
            if not future.done():
                future.set_result(None if answer is None else LeaseTime(*answer))
        self._replica.wake()
