"""A snapshot that is installed in the same turn of the loop in which messages came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvstore.commands.commands import Put
from kvstore.commands.results import Written
from kvstore.errors import DivergedState, OutcomeUnknown
from kvstore.peers.frames import PeerMessage
from kvstore.replica import applying
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from paxos.ballot import NodeId
from tests.support.replicas import configs_of, run, settled


@asynccontextmanager
async def three(path: Path) -> AsyncIterator[tuple[list[Replica], Replica, Replica]]:
    """All of them, the leader, and one that follows."""
    replicas = [await open_replica(config) for config in configs_of(3, path)]
    try:
        await settled(replicas)
        leader = next(replica for replica in replicas if replica.leading)
        yield replicas, leader, next(replica for replica in replicas if not replica.leading)
    finally:
        for replica in replicas:
            await replica.stop()


class Held:
    """Keeps what comes to a replica, in order, instead of delivering it."""

    def __init__(self, replica: Replica) -> None:
        self._driver = replica._parts.driver
        self._deliver = self._driver.on_message
        self.messages: list[tuple[NodeId, PeerMessage]] = []
        self._driver.on_message = self._keep  # type: ignore[method-assign]

    def _keep(self, sender: NodeId, message: PeerMessage) -> None:
        self.messages.append((sender, message))

    def release(self) -> None:
        """Deliver all of it now; the step comes with the next turn."""
        self._driver.on_message = self._deliver  # type: ignore[method-assign]
        for sender, message in self.messages:
            self._deliver(sender, message)
        self._driver.on_input()


@pytest.mark.parametrize("later", [0, 5], ids=["up to the snapshot", "beyond the snapshot"])
def test_what_was_chosen_and_not_yet_applied_is_not_applied_again(
    tmp_path: Path, later: int
) -> None:
    async def test() -> None:
        async with three(tmp_path) as (replicas, leader, laggard):
            held = Held(laggard)
            for n in range(5):
                await leader.execute(Put(b"%d" % n, b"v"), 5)
            assert await leader._parts.checkpoints.checkpoint()
            copy = tmp_path / "copy"
            through = await leader.copy_state(copy)
            for n in range(later):
                await leader.execute(Put(b"later %d" % n, b"v"), 5)
            held.release()
            assert laggard.node.chosen_through > laggard.state.applied_through
            await laggard._parts.checkpoints.install(copy, through)
            assert laggard.state.applied_through == through
            await settled(replicas)
            assert not laggard.failure
            assert laggard.state.get(b"4") is not None

    run(test())


def test_a_write_that_the_snapshot_covers_is_answered_at_once(tmp_path: Path) -> None:
    """And its relay slots are free: its result is in the state, and comes no more."""

    async def test() -> None:
        async with three(tmp_path) as (_, leader, laggard):
            held = Held(laggard)
            own = [laggard.submit(Put(b"own", b"v"), 15)]
            while leader.state.get(b"own") is None:
                await asyncio.sleep(0.01)
            assert await leader._parts.checkpoints.checkpoint()
            through = await leader.copy_state(tmp_path / "copy")
            own.append(laggard.submit(Put(b"later", b"v"), 15))
            await laggard._parts.checkpoints.install(tmp_path / "copy", through)
            with pytest.raises(OutcomeUnknown, match="was applied while"):
                async with asyncio.timeout(1):
                    await own[0]
            held.release()
            assert isinstance(await own[1], Written)
            assert not laggard._parts.writes.sealed

    run(test())


def test_a_slot_out_of_order_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        [config] = configs_of(1, tmp_path)
        replica = await open_replica(config)
        try:
            with pytest.raises(DivergedState, match=r"slot 17 .* slot"):
                replica.state.apply(17, b"")
        finally:
            await replica.stop()

    run(test())


def test_slots_that_wait_for_a_later_turn_are_dropped_if_the_snapshot_covers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with three(tmp_path) as (replicas, leader, laggard):
            held = Held(laggard)
            for n in range(30):
                await leader.execute(Put(b"%d" % n, b"v"), 5)
            assert await leader._parts.checkpoints.checkpoint()
            through = await leader.copy_state(tmp_path / "copy")
            with monkeypatch.context() as patch:
                patch.setattr(applying, "TURN_S", -1.0)  # a slot a turn
                before = laggard.state.applied_through
                held.release()
                async with asyncio.timeout(10):
                    while laggard.state.applied_through == before:
                        await asyncio.sleep(0)
                assert laggard.state.applied_through < through
                await laggard._parts.checkpoints.install(tmp_path / "copy", through)
                assert laggard.state.applied_through == through
            await leader.execute(Put(b"after", b"v"), 5)
            await settled(replicas)
            assert not laggard.failure
            async with asyncio.timeout(10):
                while laggard.state.get(b"after") is None:
                    await asyncio.sleep(0.01)

    run(test())
