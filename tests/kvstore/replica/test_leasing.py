"""Who may answer for leases, and when; what is lost, doubled or late."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvstore.errors import KvError, NoQuorum, Overloaded, Stopping
from kvstore.peers.frames import LeaseAsk, LeaseTold, PeerMessage, decode_message, encode_frame
from kvstore.replica import leasing
from kvstore.replica.leasing import LeaseTime, Leasing
from paxos.ballot import ZERO, Ballot
from tests.support.replicas import run

RESEND_TICKS = 4


class FakeLeases:
    """The leases of a FakeState."""

    def __init__(self) -> None:
        self.granted: dict[int, int] = {}
        self.changed: list[tuple[int, int]] = []

    def all(self) -> Iterator[tuple[int, int]]:
        return iter(self.granted.items())

    def count(self, lease: int) -> int:
        return 0


@dataclass
class FakeState:
    """What was applied."""

    leader_ballot: Ballot = ZERO
    applied_through: int = 0
    leases: FakeLeases = field(default_factory=FakeLeases)


@dataclass
class FakeNode:
    """What the consensus node knows of who leads."""

    id: int
    leader: int | None = None
    leader_ballot: Ballot = ZERO
    leading: bool = False
    own_ballot: Ballot = ZERO
    barrier: int = 0
    serves_reads: bool = False


class FakeReplica:
    """The parts that a Leasing needs: node `id` of two, in ballot (1, leader)."""

    def __init__(self, id: int, leader: int | None, start: int = 1) -> None:
        self.sent: list[tuple[int, Any]] = []
        self.now_s = 1000.0
        self.unreachable = False
        self.barriers: list[asyncio.Future[None]] = []
        self.refusal: KvError | None = None
        self.node = FakeNode(id)
        self.state = FakeState()
        self.leasing = Leasing(
            self.node,
            self.state,
            self,
            self,
            check=self.check,
            barrier=self.barrier,
            wake=lambda: None,
            start=start,
            resend_ticks=RESEND_TICKS,
            barrier_timeout_s=5.0,
        )
        if leader is not None:
            self.lead(Ballot(1, leader))

    def send(self, to: int, message: PeerMessage) -> None:
        self.sent.append((to, message))

    def flush(self) -> None:
        """Nothing is held back."""

    def connected(self, peer: int) -> bool:
        return not self.unreachable

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)

    def lead(self, ballot: Ballot) -> None:
        """`ballot` is the leader's from now on."""
        node = self.node
        node.leader, node.leader_ballot = ballot.node, ballot
        node.leading = node.serves_reads = ballot.node == node.id
        node.own_ballot = ballot if node.serves_reads else ZERO
        self.leasing.step()

    def grant(self, lease: int, ttl_s: int) -> None:
        """As if a batch of the present leader granted it."""
        self.state.leases.granted[lease] = ttl_s
        self.state.leader_ballot = self.node.leader_ballot
        self.state.leases.changed.append((lease, ttl_s))
        self.leasing.applied()
        self.leasing.step()

    def check(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def barrier(self, timeout_s: float) -> "asyncio.Future[None]":
        if self.refusal is not None:
            raise self.refusal
        self.barriers.append(asyncio.get_running_loop().create_future())
        return self.barriers[-1]

    async def confirm(self) -> None:
        """A quorum has answered all probes."""
        await turns()
        for each in self.barriers:
            if not each.done():
                each.set_result(None)
        self.barriers.clear()
        await turns()


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def asked(replica: FakeReplica, *leases: int, renew: bool = True) -> list[asyncio.Task[Any]]:
    """Requests under way."""
    face = replica.leasing.renew if renew else replica.leasing.look
    tasks = [asyncio.create_task(face(lease, 5)) for lease in leases]
    await turns()
    replica.leasing.step()
    await turns()
    return tasks


def test_a_leader_answers_once_a_quorum_has_confirmed_it() -> None:
    async def test() -> None:
        one = FakeReplica(1, 1)
        one.grant(7, 60)
        one.now_s += 50
        (look,) = await asked(one, 7, renew=False)
        (renew, unknown) = await asked(one, 7, 8)
        assert not renew.done() and len(one.barriers) == 2
        one.now_s += 5
        await one.confirm()
        assert look.result() == LeaseTime(60, 5.0)
        assert (renew.result(), unknown.result()) == (LeaseTime(60, 60.0), None)
        one.now_s += 59.9
        assert one.leasing.due() is None
        one.now_s += 0.2
        assert one.leasing.due() == (7,)
        assert one.leasing.due() is None
        (over,) = await asked(one, 7)
        await one.confirm()
        assert over.result() is None
        assert not one.leasing._asked and not one.leasing._waiting

    run(test())


def test_a_leader_that_is_none_any_more_answers_nothing() -> None:
    async def test() -> None:
        one = FakeReplica(1, 1)
        one.grant(7, 60)
        (task,) = await asked(one, 7)
        one.lead(Ballot(2, 2))
        await one.confirm()  # by the new leader: it confirms this node's read, not its clocks
        assert not task.done()
        # The question goes to the new leader at once.
        ((to, ask),) = one.sent
        assert (to, ask.leases) == (2, ((7, True),))
        one.leasing.on_ask(2, LeaseAsk(5, ((7, True),)))
        await turns()
        assert not one.barriers
        one.leasing.on_told(LeaseTold(ask.number, ((60, 60.0),)))
        await turns()
        assert task.result() == LeaseTime(60, 60.0)

    run(test())


def test_no_confirmation_no_answer_and_its_time_goes_on() -> None:
    async def test() -> None:
        one = FakeReplica(1, 1)
        one.grant(7, 60)
        (task,) = await asked(one, 7)
        one.barriers.pop().set_exception(NoQuorum("cut off"))
        await turns()
        assert not task.done()
        one.now_s += 60
        assert one.leasing.due() == (7,)
        for _ in range(RESEND_TICKS):
            one.leasing.tick()
        await one.confirm()
        assert task.result() is None

    run(test())


def test_questions_are_lost_doubled_and_reordered() -> None:
    async def test() -> None:
        one = FakeReplica(1, 2)
        (first,) = await asked(one, 7)
        (second, third) = await asked(one, 8, 9)
        (_, ask_one), (_, ask_two) = one.sent
        assert ask_two.leases == ((8, True), (9, True))
        for _ in range(RESEND_TICKS):
            one.leasing.tick()
        assert [ask for _, ask in one.sent[2:]] == [ask_one, ask_two]
        told_two = LeaseTold(ask_two.number, ((60, 8.0), (60, 9.0)))
        told_one = LeaseTold(ask_one.number, (None,))
        for told in (told_two, told_one, told_two, told_one):
            one.leasing.on_told(told)
        await turns()
        assert [t.result() for t in (first, second, third)] == [
            None,
            LeaseTime(60, 8),
            LeaseTime(60, 9),
        ]
        assert not one.leasing._asked and not one.leasing._waiting

    run(test())


def test_a_leader_answers_a_doubled_question_once_at_a_time() -> None:
    async def test() -> None:
        one = FakeReplica(1, 1)
        one.grant(7, 60)
        ask = LeaseAsk(5, ((7, True), (8, False)))
        for _ in range(3):
            one.leasing.on_ask(2, ask)
        await turns()
        assert len(one.barriers) == 1
        await one.confirm()
        assert one.sent == [(2, LeaseTold(5, ((60, 60.0), None)))]
        one.leasing.on_ask(2, ask)
        await one.confirm()
        assert len(one.sent) == 2 and not one.leasing._answering

    run(test())


def test_answers_to_an_earlier_start_are_ignored() -> None:
    async def test() -> None:
        before = FakeReplica(1, 2, start=3)
        (old,) = await asked(before, 7)
        ((_, ask),) = before.sent
        after = FakeReplica(1, 2, start=4)
        (task,) = await asked(after, 8)
        after.leasing.on_told(LeaseTold(ask.number, ((60, 60.0),)))
        await turns()
        assert not task.done()
        for each in (old, task):
            each.cancel()

    run(test())


def test_a_new_leader_announces_itself_before_it_answers() -> None:
    async def test() -> None:
        one = FakeReplica(1, None)
        one.state.leases.granted = {7: 60}
        one.state.leader_ballot = Ballot(3, 2)
        one.lead(Ballot(4, 1))
        assert not one.leasing.timers.running
        # An empty batch, once.
        assert [one.leasing.due() for _ in range(3)] == [(), None, None]
        (task,) = await asked(one, 7)
        await one.confirm()
        assert not task.done()
        one.now_s += 100
        one.state.leader_ballot = Ballot(4, 1)
        one.leasing.step()
        assert one.leasing.timers.look(7, one.now_s) == (60, 60.0)
        for _ in range(RESEND_TICKS):
            one.leasing.tick()
        await one.confirm()
        assert task.result() == LeaseTime(60, 60.0)
        # Under the next ballot all begins anew, even if nobody noticed that it had been lost.
        one.now_s += 30
        one.lead(Ballot(9, 1))
        assert one.leasing.due() == () and not one.leasing.timers.running
        one.state.leader_ballot = Ballot(9, 1)
        one.leasing.step()
        assert one.leasing.timers.look(7, one.now_s) == (60, 60.0)

    run(test())


def test_without_leases_no_batch_is_needed() -> None:
    async def test() -> None:
        one = FakeReplica(1, 1)
        assert one.leasing.timers.running and one.leasing.due() is None
        (task,) = await asked(one, 7)
        await one.confirm()
        assert task.result() is None
        # What is chosen and not applied here yet may hold leases.
        late = FakeReplica(1, None)
        late.node.barrier = 5
        late.lead(Ballot(1, 1))
        assert not late.leasing.timers.running and late.leasing.due() is None
        late.state.applied_through = 5
        late.leasing.step()
        assert late.leasing.timers.running

    run(test())


def test_the_messages_travel() -> None:
    for message in (
        LeaseAsk((4 << 32) + 1, ((7, True), (-(1 << 63), False))),
        LeaseTold((4 << 32) + 1, ((60, 59.5), None, (2, 0.0))),
    ):
        assert decode_message(encode_frame(message)[4:]) == message


def test_many_questions_share_a_few_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "WAITING_MAX", 20)
    monkeypatch.setattr(leasing, "ASKS_MAX", 10)

    async def test() -> None:
        one = FakeReplica(1, 2)
        tasks = []
        for lease in range(20):
            tasks += await asked(one, lease)
        assert [len(ask.leases) for _, ask in one.sent] == [1] * leasing.UNDER_WAY_MAX
        with pytest.raises(Overloaded):
            await one.leasing.renew(99, 5)
        while not all(task.done() for task in tasks):
            sent, one.sent = one.sent, []
            assert sent
            for _, ask in sent:
                assert len(ask.leases) <= 10
                one.leasing.on_told(LeaseTold(ask.number, ((60, 1.0),) * len(ask.leases)))
            one.leasing.step()
            await turns()
        assert not one.leasing._waiting

    run(test())


def test_who_gives_up_is_forgotten() -> None:
    async def test() -> None:
        one = FakeReplica(1, None)
        with pytest.raises(NoQuorum):
            await one.leasing.renew(7, 0.01)
        one.leasing.tick()
        assert not one.leasing._asked and not one.leasing._waiting
        (task,) = await asked(one, 7)
        one.unreachable = True
        one.lead(Ballot(1, 2))
        assert not one.sent
        one.unreachable = False
        one.leasing.step()
        assert len(one.sent) == 1
        one.leasing.fail(Stopping("down"))
        with pytest.raises(Stopping):
            await task
        assert not one.leasing._asked and not one.leasing._waiting

    run(test())
