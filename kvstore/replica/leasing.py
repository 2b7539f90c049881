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
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from kvstore.errors import KvError, NoQuorum, Overloaded
from kvstore.peers.frames import LeaseAsk, LeaseTold
from kvstore.replica.lease_timers import LeaseTimers
from kvstore.replica.ports import Clock, LeaderView, PeerLinks, Wake
from kvstore.state.lease_table import LeaseTtl
from paxos.ballot import ZERO, Ballot, NodeId, Slot

EXPIRED_MAX = 500
"""Leases that end with one batch; more follow with the next."""
EXPIRED_KEYS_MAX = 2_500
"""The leases that end with a batch hold no more keys, unless one alone does."""
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


class AppliedLeases(Protocol):
    """Leases that were granted and have not ended, as far as the log is applied."""

    changed: list[LeaseTtl]
    """(lease, seconds) granted, or (lease, 0) ended, since this list was last cleared."""

    def all(self) -> Iterator[LeaseTtl]:
        """(lease, seconds granted) of each."""

    def count(self, lease: int) -> int:
        """How many keys it holds."""


class LeaseState(Protocol):
    """What was applied, as far as leases go."""

    @property
    def leases(self) -> AppliedLeases:
        """Those that there are."""

    @property
    def leader_ballot(self) -> Ballot:
        """The highest ballot of a leader whose batch was applied."""

    @property
    def applied_through(self) -> Slot:
        """The last slot that was applied."""


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
    """Both sides of it: asking, and answering while this node leads. All calls belong to the loop.

    `start` says which start of this node it is. Numbers of messages are above those of its earlier
    starts, for the reason that `paxos.reads` gives: the answer to an earlier one's message must not
    answer this one's. `check` raises Stopping if the node does not serve any more; `barrier` is
    that of a linearizable read; who waits for a leader's answer asks again after `resend_ticks`.
    """

    def __init__(
        self,
        node: LeaderView,
        state: LeaseState,
        links: PeerLinks,
        clock: Clock,
        *,
        check: Callable[[], None],
        barrier: Callable[[float], "asyncio.Future[None]"],
        wake: Wake,
        start: int,
        resend_ticks: int,
        barrier_timeout_s: float,
    ) -> None:
        self._node = node
        self._state = state
        self._links = links
        self._clock = clock
        self._check = check
        self._barrier = barrier
        self._wake = wake
        self._resend_ticks = resend_ticks
        self._barrier_timeout_s = barrier_timeout_s
        self.timers = LeaseTimers()
        self._started_in: Ballot = ZERO
        self._announced_in: Ballot = ZERO
        self._asked: dict[int, _Asked] = {}
        self._waiting = 0
        self._last_number = start << 32
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
        self._check()
        asked = self._open_question()
        future: asyncio.Future[LeaseTime | None] = asyncio.get_running_loop().create_future()
        asked.leases.append((lease, renew))
        asked.futures.append(future)
        self._waiting += 1
        self._wake()
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

    # -- called by the driver ---------------------------------------------------------------

    def step(self) -> None:
        """Leadership and state are up to date: follow them, and send what waits."""
        node, timers = self._node, self.timers
        ballot = node.own_ballot
        if timers.running and not (node.serves_reads and self._started_in == ballot):
            timers.stop()
        if not timers.running and self._knows_all and not self._announcement_wanted:
            self._started_in = ballot
            timers.start(self._state.leases.all(), self._clock.monotonic())
        if self._asked:
            self._send_waiting()

    @property
    def _knows_all(self) -> bool:
        """As leader: whether all that earlier leaders got chosen is applied here."""
        node = self._node
        return node.serves_reads and self._state.applied_through >= node.barrier

    @property
    def _announcement_wanted(self) -> bool:
        """Whether earlier leaders might still end leases: there are some, and no batch of this
        ballot was applied. One that is granted from now on comes with such a batch."""
        state = self._state
        heard = state.leader_ballot >= self._node.own_ballot
        return not heard and next(state.leases.all(), None) is not None

    def applied(self) -> None:
        """Commands were applied that may have granted or ended leases."""
        changed = self._state.leases.changed
        if not changed:
            return
        if self.timers.running:
            now_s = self._clock.monotonic()
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
            now_s, keys_of = self._clock.monotonic(), self._state.leases.count
            return self.timers.due(now_s, EXPIRED_MAX, keys_of, EXPIRED_KEYS_MAX) or None
        ballot = self._node.own_ballot
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
            if asked.sent_in != ZERO and asked.ticks % self._resend_ticks == 0:
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
        ballot = self._node.leader_ballot
        under_way = 0
        for asked in list(self._asked.values()):
            if asked.sent_in != ballot and under_way < UNDER_WAY_MAX:
                self._send(asked)
            under_way += asked.sent_in != ZERO

    def _send(self, asked: _Asked) -> None:
        node = self._node
        leader = node.leader
        if leader is None:
            return
        ask = LeaseAsk(asked.number, tuple(asked.leases))
        if leader == node.id:
            asked.sent_in = node.leader_ballot
            self._answer(leader, ask)
        elif self._links.connected(leader):
            asked.sent_in = node.leader_ballot
            self._links.send(leader, ask)

    def _forget(self, asked: _Asked) -> None:
        del self._asked[asked.number]
        self._waiting -= len(asked.futures)

    def on_ask(self, sender: NodeId, ask: LeaseAsk) -> None:
        """A follower asks; only a leader answers."""
        if self._node.leading:
            self._answer(sender, ask)

    def _answer(self, asker: NodeId, ask: LeaseAsk) -> None:
        name = asker, ask.number
        if name in self._answering or len(self._answering) >= ANSWERING_MAX:
            return
        task = asyncio.get_running_loop().create_task(self._confirm_and_answer(asker, ask))
        self._answering[name] = task
        task.add_done_callback(lambda _: self._answering.pop(name))

    async def _confirm_and_answer(self, asker: NodeId, ask: LeaseAsk) -> None:
        try:
            await self._barrier(self._barrier_timeout_s)
        except KvError:
            return  # the asker asks again, or gives up
        if not self.timers.running:
            return
        now_s = self._clock.monotonic()
        answers: list[tuple[int, float] | None] = []
        for lease, renew in ask.leases:
            if renew:
                self.timers.renew(lease, now_s)
            answers.append(self.timers.look(lease, now_s))
        told = LeaseTold(ask.number, tuple(answers))
        if asker == self._node.id:
            self.on_told(told)
        else:
            self._links.send(asker, told)
            self._links.flush()

    def on_told(self, told: LeaseTold) -> None:
        """The leader's answer; one that nobody waits for is ignored."""
        asked = self._asked.get(told.number)
        if asked is None or len(told.leases) != len(asked.futures):
            return
        self._forget(asked)
        for future, answer in zip(asked.futures, told.leases, strict=True):
            if not future.done():
                future.set_result(None if answer is None else LeaseTime(*answer))
        self._wake()
