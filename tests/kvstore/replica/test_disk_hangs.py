"""A disk whose sync does not return, on real replicas: the cluster goes on, memory is bounded,
and it is said once."""

import asyncio
import errno
import io
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.commands.commands import Put
from kvstore.errors import Overloaded, StorageFailed
from kvstore.event_log import EventLog
from kvstore.replica import disk_watch
from kvstore.replica.machine import Machine
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from kvstore.storage.log_writer import LogWriter, ThreadedLogWriter
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.state import WriteTransaction
from paxos.records import Record
from tests.support.replicas import configs_of, run, settled

BOUND = 1 << 20


class HangingDisk:
    """Commits of one node wait until `moves` is set."""

    def __init__(self) -> None:
        self.moves = threading.Event()
        self.moves.set()
        self.checkpoints_move = threading.Event()
        self.events = io.StringIO()

    def hang_checkpoints(self, replica: Replica) -> None:
        """From now on each of its checkpoints waits until `checkpoints_move` is set."""
        store = replica._parts.checkpoints._store
        write = store.write_frozen

        def waits(housekeeping: Callable[[WriteTransaction], None]) -> None:
            self.checkpoints_move.wait()
            write(housekeeping)

        store.write_frozen = waits  # type: ignore[method-assign]

    def machine(self) -> Machine:
        return Machine(log_writer=self._writer)

    def _writer(self, store: SegmentLog, failed: Callable[[StorageFailed], None]) -> LogWriter:
        commit = store.commit

        def waits(records: Iterable[Record]) -> None:
            self.moves.wait()
            commit(records)

        store.commit = waits  # type: ignore[method-assign]
        return ThreadedLogWriter(store, asyncio.get_running_loop().call_soon_threadsafe, failed)

    def told(self, event: str) -> int:
        lines = self.events.getvalue().splitlines()
        return sum(f" {event} " in f"{line} " for line in lines)


Test = Callable[[list[Replica], list[HangingDisk]], Awaitable[None]]


def on_three(directory: Path, test: Test, **settings: int) -> None:
    async def body() -> None:
        disks = [HangingDisk() for _ in range(3)]
        replicas = []
        for config, disk in zip(configs_of(3, directory), disks, strict=True):
            config = replace(config, pending_bytes_max=BOUND, log_tail_bytes=8 * BOUND, **settings)
            events = EventLog(config.node_id, out=disk.events)
            replicas.append(await open_replica(config, events, disk.machine()))
        try:
            await settled(replicas)
            await test(replicas, disks)
        finally:
            for disk in disks:
                disk.moves.set()
                disk.checkpoints_move.set()
            for replica in replicas:
                await replica.stop()

    run(body(), 60)


async def until(condition: Callable[[], bool], limit_s: float = 10) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_leader_hands_over_and_does_not_lead_before_it_is_well(tmp_path: Path) -> None:
    async def test(replicas: list[Replica], disks: list[HangingDisk]) -> None:
        at = next(n for n, replica in enumerate(replicas) if replica.leading)
        slow, disk = replicas[at], disks[at]
        others = [replica for replica in replicas if replica is not slow]
        disk.moves.clear()
        slow.submit(Put(b"k", b"v"), 5)  # so that there is a commit to wait for
        await until(lambda: any(other.leading for other in others))
        assert "the disk hangs" in slow.status().reason
        with pytest.raises(Overloaded, match="the disk hangs"):
            await slow.execute(Put(b"k", b"v"), 5)
        gauges = slow._parts.view.gauges()
        assert gauges["log_commit_age_seconds"] > 0.9
        for n in range(20):  # whoever led next must not be forced to hand back
            await others[n % 2].execute(Put(b"%d" % n, b"v"), 5)
            assert not slow.leading
        await asyncio.sleep(1)
        assert disk.told("disk slow") == 1 and disk.told("disk well again") == 0
        disk.moves.set()
        await settled(replicas)
        await until(lambda: disk.told("disk well again") == 1)
        assert slow.node.fit_to_lead
        assert slow._parts.view.gauges()["log_commit_age_seconds"] == 0

    on_three(tmp_path, test)


def test_what_a_follower_takes_is_bounded_and_it_catches_up(tmp_path: Path) -> None:
    async def test(replicas: list[Replica], disks: list[HangingDisk]) -> None:
        at = next(n for n, replica in enumerate(replicas) if not replica.leading)
        slow, disk = replicas[at], disks[at]
        leader = next(replica for replica in replicas if replica.leading)
        disk.moves.clear()
        value = b"x" * (BOUND // 8)
        for n in range(50):
            await leader.execute(Put(b"%d" % (n % 3), value), 10)
        commits = slow._parts.commits
        await until(lambda: not slow.status().ready)
        assert BOUND < commits.waiting_bytes < 2 * BOUND
        assert slow.node.acceptor.log_bytes < 3 * BOUND
        assert disk.told("disk queue full") == 1
        before = commits.under_way
        await asyncio.sleep(1)
        assert commits.under_way <= before + 50, "the rest does not grow either"
        disk.moves.set()
        await settled(replicas)
        await until(lambda: disk.told("disk queue moves again") > 0)
        await until(lambda: commits.waiting_bytes == 0)

    on_three(tmp_path, test)


@pytest.fixture
def soon_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is called slow after a third of a second, so that a test need not wait."""
    monkeypatch.setattr(disk_watch, "CHECKPOINT_S", 0.3)


@pytest.mark.usefixtures("soon_slow")
def test_a_leader_whose_checkpoint_hangs_hands_over(tmp_path: Path) -> None:
    async def test(replicas: list[Replica], disks: list[HangingDisk]) -> None:
        at = next(n for n, replica in enumerate(replicas) if replica.leading)
        slow, disk = replicas[at], disks[at]
        others = [replica for replica in replicas if replica is not slow]
        disk.hang_checkpoints(slow)
        await slow.execute(Put(b"k", b"v"), 5)
        await until(lambda: any(other.leading for other in others))
        assert "a checkpoint is under way" in slow.status().reason
        assert slow._parts.view.gauges()["checkpoint_age_seconds"] > 0.3
        await others[0].execute(Put(b"k", b"w"), 5)
        await asyncio.sleep(0.5)
        assert disk.told("disk slow") == 1 and disk.told("disk well again") == 0
        disk.checkpoints_move.set()
        await until(lambda: slow.status().ready)
        assert disk.told("disk slow") == disk.told("disk well again") == 1
        assert slow._parts.view.gauges()["checkpoint_age_seconds"] < 0.3

    on_three(tmp_path, test)


@pytest.mark.proof
def test_what_a_follower_applies_behind_a_hanging_checkpoint_is_bounded(tmp_path: Path) -> None:
    overlay_max = BOUND // 4

    async def test(replicas: list[Replica], disks: list[HangingDisk]) -> None:
        at = next(n for n, replica in enumerate(replicas) if not replica.leading)
        slow, disk = replicas[at], disks[at]
        leader = next(replica for replica in replicas if replica.leading)
        disk.hang_checkpoints(slow)
        value = b"x" * (BOUND // 32)
        for n in range(100):
            while True:  # the leader's own checkpoints may not keep up for a moment
                with suppress(Overloaded):
                    await leader.execute(Put(b"%d" % n, value), 10)
                    break
                await asyncio.sleep(0.02)
        assert disk_watch.OVERLAY_TIMES_MAX * overlay_max < 50 * len(value)
        assert slow.state.unwritten_bytes < 2 * disk_watch.OVERLAY_TIMES_MAX * overlay_max
        assert "the disk does not keep up" in slow.status().reason
        assert slow._parts.view.gauges()["checkpoint_age_seconds"] > 0
        assert disk.told("disk slow") == 1
        disk.checkpoints_move.set()
        await settled(replicas)
        await until(lambda: slow.state.applied_through == leader.state.applied_through)
        assert slow.state.digest == leader.state.digest
        await until(lambda: disk.told("disk well again") > 0)

    on_three(tmp_path, test, overlay_bytes_max=overlay_max)


def test_checkpoints_that_fail_are_told_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    """A state file that cannot grow, say: the node serves on, and an operator can see it."""

    async def test(replicas: list[Replica], disks: list[HangingDisk]) -> None:
        one, disk = replicas[0], disks[0]
        store, full = one._parts.checkpoints._store, True
        write = store.write_frozen

        def fails(housekeeping: Callable[[WriteTransaction], None]) -> None:
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(housekeeping)

        store.write_frozen = fails  # type: ignore[method-assign]
        failures = one._parts.checkpoints._counters
        for n in range(2):
            await one.execute(Put(b"%d" % n, b"v"), 5)
            await until(lambda n=n: failures.checkpoint_failures > n)  # type: ignore[misc]
        status, gauges = one.status(), one._parts.view.gauges()
        assert status.ready and len(status.warnings) == 1
        assert "checkpoints fail for" in status.warnings[0]
        assert "No space left" in status.warnings[0]
        assert gauges["checkpoints_failing_seconds"] > 0
        assert disk.told("checkpoint failed") == 1, "not at each attempt"
        full = False
        await until(lambda: disk.told("checkpoints work again") == 1)
        assert one.status().warnings == ()
        assert one._parts.view.gauges()["checkpoints_failing_seconds"] == 0

    on_three(tmp_path, test)
