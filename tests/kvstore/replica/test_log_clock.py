"""The log's clock: elapsed time only, whatever the walls of the nodes show."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

from kvstore.commands.commands import Once, Put
from kvstore.commands.results import Written
from kvstore.event_log import EventLog
from kvstore.replica.log_clock import LogClock, WallClocks
from kvstore.replica.machine import Machine, SystemClock
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from tests.support.replicas import configs_of, run, settled

YEARS_10_MS = 10 * 365 * 24 * 3600 * 1000


class SetClock(SystemClock):
    """The machine's clocks, and a wall that the test moves."""

    def __init__(self) -> None:
        self.wall_ahead_ms = 0
        self.monotonic_ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.monotonic_ahead_s

    def wall_ms(self) -> int:
        return super().wall_ms() + self.wall_ahead_ms


class Clocked:
    """A state of which there is nothing but its clock."""

    clock_ms = 1000


def test_it_takes_over_what_is_applied_and_counts_from_there() -> None:
    state, clock = Clocked(), SetClock()
    log_clock = LogClock(state, clock)
    assert 1000 <= log_clock.now_ms() < 1500
    clock.monotonic_ahead_s += 10
    assert 11_000 <= log_clock.now_ms() < 11_500
    state.clock_ms = 10_000  # of a leader that is behind
    assert 11_000 <= log_clock.now_ms() < 11_500
    state.clock_ms = YEARS_10_MS  # of an earlier release
    assert log_clock.now_ms() == YEARS_10_MS
    clock.monotonic_ahead_s += 5
    assert YEARS_10_MS + 5000 <= log_clock.now_ms() < YEARS_10_MS + 5500
    clock.wall_ahead_ms = -YEARS_10_MS
    assert YEARS_10_MS + 5000 <= log_clock.now_ms() < YEARS_10_MS + 5500


def test_walls_that_differ_are_told_when_it_begins_and_when_it_ends() -> None:
    out, clock = io.StringIO(), SetClock()
    walls = WallClocks(clock, EventLog(1, out=out))
    walls.heard(2, None)
    walls.heard(3, clock.wall_ms() + 1000)
    assert not out.getvalue()
    for _ in range(3):
        walls.heard(2, clock.wall_ms() - 60_000)
    assert out.getvalue().count("clocks differ peer=2 seconds=-60.0") == 1
    assert 59 < walls.difference_s < 61
    assert walls.warning == "wall clocks differ from this node's: that of node 2 by -60.0 s"
    walls.heard(2, clock.wall_ms())
    assert out.getvalue().count("clocks agree again peer=2") == 1
    assert walls.warning == "" and walls.difference_s < 2


def test_one_wrong_wall_moves_nothing_and_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        clocks = [SetClock() for _ in range(3)]
        logs = [io.StringIO() for _ in range(3)]
        replicas = []
        for config, clock, log in zip(configs_of(3, tmp_path), clocks, logs, strict=True):
            config = replace(config, digest_slots=1)
            events = EventLog(config.node_id, out=log)
            replicas.append(await open_replica(config, events, Machine(clock=clock)))
        try:
            await settled(replicas)
            await check(replicas, clocks)
            others = [
                log for log, clock in zip(logs, clocks, strict=True) if not clock.wall_ahead_ms
            ]
            assert all("clocks differ" in log.getvalue() for log in others)
            for replica, clock in zip(replicas, clocks, strict=True):
                status, gauges = replica.status(), replica._parts.view.gauges()
                assert status.ready and "wall clocks differ" in str(status.warnings)
                assert gauges["clock_difference_seconds"] > 1e6
                clock.wall_ahead_ms = 0
            while any(replica.status().warnings for replica in replicas):
                await replicas[0].execute(Put(b"other", b"v"), 5)
            assert all("clocks agree again" in log.getvalue() for log in others)
        finally:
            for replica in replicas:
                await replica.stop()

    async def check(replicas: list[Replica], clocks: list[SetClock]) -> None:
        at = next(n for n, replica in enumerate(replicas) if replica.leading)
        leader = replicas[at]
        kept = Once(b"kept", Put(b"k", b"v"), 600_000)
        first = await leader.execute(kept, 5)
        before_ms = leader.state.clock_ms
        clocks[at].wall_ahead_ms = YEARS_10_MS
        assert isinstance(await leader.execute(Put(b"other", b"v"), 5), Written)
        assert leader.state.clock_ms - before_ms < 60_000
        assert await leader.execute(kept, 5) == first, "it is remembered"
        await leader.hand_over(None, 5)
        await settled(replicas)
        leader = next(replica for replica in replicas if replica.leading)
        brief = Once(b"brief", Put(b"k", b"w"), 200)
        first = await leader.execute(brief, 5)
        async with asyncio.timeout(10):
            while await leader.execute(brief, 5) == first:
                await asyncio.sleep(0.02)

    run(test(), 60)
