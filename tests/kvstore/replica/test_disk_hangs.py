"""A disk whose sync does not return, on real replicas: the cluster goes on, memory is bounded,
and it is said once."""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.commands.commands import Put
from kvstore.errors import Overloaded, StorageFailed
from kvstore.event_log import EventLog
from kvstore.replica.machine import Machine
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from kvstore.storage.log_writer import LogWriter, ThreadedLogWriter
from kvstore.storage.segment_log import SegmentLog
from paxos.records import Record
from tests.support.replicas import configs_of, run, settled

BOUND = 1 << 20


class HangingDisk:
    """Commits of one node wait until `moves` is set."""

    def __init__(self) -> None:
        self.moves = threading.Event()
        self.moves.set()
        self.events = io.StringIO()

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


def on_three(directory: Path, test: Test) -> None:
    async def body() -> None:
        disks = [HangingDisk() for _ in range(3)]
        replicas = []
        for config, disk in zip(configs_of(3, directory), disks, strict=True):
            config = replace(config, pending_bytes_max=BOUND, log_tail_bytes=8 * BOUND)
            events = EventLog(config.node_id, out=disk.events)
            replicas.append(await open_replica(config, events, disk.machine()))
        try:
            await settled(replicas)
            await test(replicas, disks)
        finally:
            for disk in disks:
                disk.moves.set()
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
