"""The work of a slot is bounded where slots are made, and spread over turns where they are
applied."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from kvstore.commands.batches import Batch
from kvstore.commands.binary import decode_batch, encode
from kvstore.commands.commands import Delete, Grant, Once, Put, Revoke
from kvstore.commands.operations import Select, TransactionDone, TxnDelete, TxnPut
from kvstore.errors import WorkTooLarge
from kvstore.event_log import EventLog
from kvstore.peers.frames import Relay
from kvstore.replica import applying
from kvstore.replica.applying import BEHIND_SLOTS_MAX, WAITING_SLOTS_MAX, Applier
from kvstore.replica.log_clock import WallClocks
from kvstore.replica.metrics import Counters
from kvstore.replica.open import open_replica
from kvstore.replica.outbox import Outbox
from kvstore.replica.pending import WORK_MAX, PendingWrites
from kvstore.replica.probe import SILENT
from kvstore.replica.stages import Stages
from kvstore.state import budget
from kvstore.state.budget import WRITE_WORK
from paxos.ballot import Ballot
from tests.support.driven_state import Driven, then
from tests.support.replicas import configs_of, run, settled


class SlowClock:
    """Each look at it takes 3 ms."""

    now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += 0.003
        return self.now_s

    def wall_ms(self) -> int:
        return 0


class Nobody:
    """A node and links that are never asked for anything but this."""

    id = 1
    can_propose = True
    leader_ballot = Ballot(1, 1)

    def __init__(self) -> None:
        self.proposer = self
        self.leading = True
        self.ballot = Ballot(1, 1)
        self.proposed: list[bytes] = []

    def propose(self, value: bytes) -> None:
        self.proposed.append(value)
        self.can_propose = len(self.proposed) < 9

    def restart_from_snapshot(self, through: int) -> None: ...
    def reset(self) -> None: ...
    def applied(self, through: int) -> None: ...


def applier_of(driven: Driven, woken: list[int]) -> Applier:
    nobody = cast(Any, Nobody())
    writes = PendingWrites(
        1, 1, requests_max=9, bytes_max=9, bundle_bytes_max=9, stages=Stages(lambda: 0.0)
    )
    return Applier(
        nobody, driven.state, nobody, writes, nobody, nobody, EventLog(1), Counters(), SILENT,
        WallClocks(SlowClock(), EventLog(1)),
        clock=SlowClock(), stages=Stages(lambda: 0.0), wake=lambda: woken.append(1),
        digest_slots=10**9,
    )  # fmt: skip


def values(count: int) -> list[tuple[int, bytes]]:
    return [(slot, encode(Batch(0, ()))) for slot in range(1, count + 1)]


def test_slots_are_applied_over_several_turns(driven: Driven) -> None:
    woken: list[int] = []
    applier, state = applier_of(driven, woken), driven.state
    applier.take(values(5))
    applier.begin_turn()
    assert applier.run() and (state.applied_through, len(woken)) == (2, 1)
    # One at least in each turn, also in one that has no time left.
    assert applier.run() and (state.applied_through, len(woken)) == (3, 2)
    applier.begin_turn()
    assert applier.run() and (state.applied_through, len(woken)) == (5, 2)
    assert not applier.run()


def test_no_more_than_so_many_slots_wait(driven: Driven) -> None:
    applier = applier_of(driven, [])
    applier.take(values(WAITING_SLOTS_MAX + 20))
    applier.begin_turn()
    applier.run()
    assert driven.state.applied_through == 21  # and one more, in the time that was left


def test_no_more_than_so_many_bytes_wait(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [len(value) for _, value in values(10)]
    monkeypatch.setattr(applying, "WAITING_BYTES_MAX", sum(sizes[3:]))
    applier = applier_of(driven, [])
    applier.take(values(10))
    applier.run()  # in a turn that has no time
    assert driven.state.applied_through == 3


def test_a_snapshot_overtakes_what_waits(driven: Driven, tmp_path: Path) -> None:
    other = Driven(tmp_path / "other.mdb")
    for _, value in values(4):
        other.log.append(value)
    other.catch_up()
    other.checkpoint()
    applier = applier_of(driven, [])
    applier.take(values(6))
    applier.begin_turn()
    applier.run()
    driven.install_from(other)
    applier.snapshot_installed()
    assert driven.state.applied_through == 4
    applier.begin_turn()
    applier.run()
    assert driven.state.applied_through == 6
    other.store.close()


def test_bundles_and_slots_end_where_there_is_enough_work() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        writes = PendingWrites(
            1, 1, requests_max=99, bytes_max=9999, bundle_bytes_max=9999, stages=Stages(lambda: 0.0)
        )
        for work in (1, WORK_MAX // 2, WORK_MAX, 2 * WORK_MAX, 1, 1):
            writes.add(Put(b"k", b"v"), loop.create_future(), 9.0, work)
        node = cast(Any, Nobody())
        outbox = Outbox(node, writes, Counters(), batch_bytes_max=9999, relayed_bytes_max=9999)
        outbox.propose(lambda: 0, lambda: None, 0)
        slots = [decode_batch(value) for value in node.proposed]
        assert [len(slot.bundles) for slot in slots] == [2, 1, 1]
        # What a follower says of its bundles counts as well.
        bundle = slots[0].bundles[0]
        for work in (WORK_MAX, WORK_MAX - 1, 1, 0):
            outbox.take_relay(1, bundle, Relay(bundle, work).work)
        node.proposed, node.can_propose = [], True
        outbox.propose(lambda: 0, lambda: None, 0)
        assert [len(decode_batch(value).bundles) for value in node.proposed] == [1, 2, 1]

    asyncio.run(test())


def test_ends_of_leases_and_writes_take_turns() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        writes = PendingWrites(
            1, 1, requests_max=99, bytes_max=9999, bundle_bytes_max=9999, stages=Stages(lambda: 0.0)
        )
        for _ in range(3):
            writes.add(Put(b"k", b"v"), loop.create_future(), 9.0, WORK_MAX)
        node = cast(Any, Nobody())
        outbox = Outbox(node, writes, Counters(), batch_bytes_max=9999, relayed_bytes_max=9999)
        due: list[tuple[int, ...] | None] = [(1,), (2,), (3,), (4,), None]
        outbox.propose(lambda: 0, lambda: due.pop(0), 0)
        slots = [decode_batch(value) for value in node.proposed]
        assert [(len(slot.bundles), slot.expired) for slot in slots] == [
            (0, (1,)), (1, ()), (0, (2,)), (1, ()), (0, (3,)), (1, ()), (0, (4,)),
        ]  # fmt: skip

    asyncio.run(test())


def test_a_leader_that_falls_behind_proposes_nothing(driven: Driven) -> None:
    applier = applier_of(driven, [])
    applier.take(values(BEHIND_SLOTS_MAX + 1))
    assert applier.behind
    applier.begin_turn()
    applier.run()
    assert not applier.behind


def test_what_commands_cost(driven: Driven) -> None:
    """In keys looked at: whoever bundles them goes by that."""
    driven.apply(Grant(7, 60), *(Put(b"%d" % at, b"", None, 7) for at in range(100)))
    cost = driven.state.work_of
    assert cost(Put(b"k", b"")) == cost(Delete(b"k")) == cost(Grant(8, 60)) == WRITE_WORK
    assert cost(Once(b"once", Put(b"k", b""))) == 2 * WRITE_WORK
    assert cost(Revoke(7)) == WRITE_WORK + 200
    assert 200 <= cost(then(TxnDelete(b"", None))) <= 200 + 2 * WRITE_WORK
    assert 100 <= cost(then(Select(b"", None))) <= 100 + 2 * WRITE_WORK
    puts = then(*(TxnPut(b"p%d" % at, b"") for at in range(100)))
    assert 400 <= cost(puts) <= 520
    with pytest.raises(WorkTooLarge):
        cost(then(*(Select(b"", None),) * (budget.KEYS_MAX // 100 + 1)))


def test_too_much_is_refused_before_it_is_replicated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "TURN_S", -1.0)  # each slot in a turn of its own
    monkeypatch.setattr(budget, "KEYS_MAX", 200)

    async def test() -> None:
        replicas = [await open_replica(c, EventLog(c.node_id)) for c in configs_of(3, tmp_path)]
        try:
            await settled(replicas)
            follower = next(replica for replica in replicas if not replica.leading)
            puts = [follower.submit(Put(b"%05d" % at, b""), 9) for at in range(199)]
            await asyncio.gather(*puts)
            await settled(replicas)
            await follower.execute(Put(b"a", b""), 9)
            done = await follower.execute(then(TxnDelete(b"b", None), TxnPut(b"z", b"")), 9)
            assert isinstance(done, TransactionDone)
            await follower.execute(Put(b"b", b""), 9)
            await follower.execute(Grant(7, 60), 9)
            slots = follower.state.applied_through
            for replica in replicas:
                with pytest.raises(WorkTooLarge, match="looks at no more than") as caught:
                    await replica.execute(then(*[Select(b"", None)] * 2, TxnPut(b"y", b"")), 9)
                assert caught.value.limit == "keys"
            assert follower.state.applied_through <= slots + 1
            await follower.execute(Revoke(7), 9)
            await settled(replicas)
        finally:
            await asyncio.gather(*(replica.stop() for replica in replicas))

    run(test(), 60)
