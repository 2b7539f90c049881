"""The scrubber on a real replica: damage that nobody has read is found, told, and acted upon."""

import asyncio
import io
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from kvstore.commands.commands import Delete, Put
from kvstore.errors import OutcomeUnknown, Stopping, StorageError
from kvstore.event_log import EventLog
from kvstore.replica import scrubbing
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from tests.support.replicas import configs_of, run, settled

SECRET = b"a value that is there once"


def on_one(
    directory: Path, test: Callable[[Replica, io.StringIO], Awaitable[None]], **settings: float
) -> None:
    """A cluster of one, which looks at its disk all the time."""

    async def body() -> None:
        (config,) = configs_of(1, directory)
        events = io.StringIO()
        config = replace(
            config,
            **{"scrub_interval_s": 0.05, "checkpoint_interval_s": 0.05, **settings},  # type: ignore[arg-type]
        )
        replica = await open_replica(config, EventLog(1, out=events))
        try:
            await settled([replica])
            await test(replica, events)
        finally:
            await replica.stop()

    run(body(), 30)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def gauge(replica: Replica, name: str) -> float:
    lines = generate_latest(replica.metrics.registry).decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def flip(path: Path, wanted: bytes) -> None:
    """One bit, wherever the file holds `wanted`."""
    data = path.read_bytes()
    at = data.find(wanted)
    assert at >= 0
    with path.open("r+b") as file:
        while at >= 0:
            file.seek(at + 3)
            file.write(bytes([data[at + 3] ^ 4]))
            at = data.find(wanted, at + 1)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(scrubbing, "SHARE", 1.0)


async def write(replica: Replica, count: int) -> None:
    for number in range(count):
        await replica.execute(Put(b"key %d" % number, b"x" * 300), 5)


def test_passes_are_counted_and_damage_of_the_state_stops_the_node(tmp_path: Path) -> None:
    async def test(replica: Replica, events: io.StringIO) -> None:
        await write(replica, 200)
        await replica.execute(Put(b"rare", SECRET), 5)
        await until(lambda: gauge(replica, "kvstore_checkpoints_total") > 2)
        before = gauge(replica, "kvstore_scrub_passes_total")
        await until(lambda: gauge(replica, "kvstore_scrub_passes_total") > before + 1)
        assert gauge(replica, "kvstore_scrub_records_total") > 400
        assert gauge(replica, "kvstore_scrub_age_seconds") < 10
        assert gauge(replica, "kvstore_scrub_damage") == 0
        flip(replica.config.data_dir / "state.mdb", SECRET)
        reason = await asyncio.wait_for(replica.wait_failed(), 10)
        assert "state.mdb is damaged" in reason and "b'" in reason
        assert gauge(replica, "kvstore_scrub_damage") == 1
        assert reason in replica.status().warnings
        assert events.getvalue().count("damage found") == 1

    on_one(tmp_path, test)


def test_damage_of_an_older_segment_is_told_until_it_is_truncated(tmp_path: Path) -> None:
    async def test(replica: Replica, events: io.StringIO) -> None:
        log = replica.config.data_dir / "log"
        await replica.execute(Put(b"rare", SECRET), 5)
        await write(replica, 40)
        await until(lambda: len(list(log.glob("*.segment"))) > 2)
        flip(sorted(log.glob("*.segment"))[0], SECRET)
        await until(lambda: bool(replica.status().warnings))
        (warning,) = replica.status().warnings
        assert "00000001.segment is damaged: at byte" in warning
        assert gauge(replica, "kvstore_scrub_damage") == 1
        passes = gauge(replica, "kvstore_scrub_passes_total")
        await until(lambda: gauge(replica, "kvstore_scrub_passes_total") > passes + 2)
        assert events.getvalue().count("damage found") == 1
        assert not replica.failure, "what it holds is in memory"
        await write(replica, 200)
        await until(lambda: not replica.status().warnings)
        assert events.getvalue().count("damage gone") == 1

    on_one(tmp_path, test, log_segment_bytes=4096, log_tail_slots=100)


def test_damage_that_a_checkpoint_meets_stops_the_node_on_its_own_loop(tmp_path: Path) -> None:
    """What is compacted is read by the thread of checkpoints."""
    heard: list[str] = []

    async def test(replica: Replica, events: io.StringIO) -> None:
        health = replica._health
        failed = health.storage_failed

        def noted(error: StorageError) -> None:
            heard.append(threading.current_thread().name)
            failed(error)

        health.storage_failed = noted  # type: ignore[method-assign]
        replica._parts.checkpoints._store.watch_damage(noted)
        await replica.execute(Put(b"rare", SECRET), 5)
        await replica.execute(Delete(b"rare"), 5)  # its entry is looked at when it is dropped
        await until(lambda: replica.state.checkpointed_through == replica.state.applied_through)
        flip(replica.config.data_dir / "state.mdb", SECRET)
        for number in range(200):
            with suppress(Stopping, OutcomeUnknown):
                await replica.execute(Put(b"key %d" % number, b"x"), 5)
        await asyncio.wait_for(replica.wait_failed(), 10)
        assert "table history" in replica.failure
        assert (
            events.getvalue().count("node 1 failed ") == 1 and "Traceback" not in events.getvalue()
        )

    on_one(tmp_path, test, history_revisions=10, scrub_interval_s=1000.0)
    assert heard == ["MainThread"]


def test_the_loop_turns_while_a_piece_is_read_and_stopping_waits_for_it(tmp_path: Path) -> None:
    """A disk that is slow holds up the one thread that reads it."""

    async def test(replica: Replica, events: io.StringIO) -> None:
        store, reads, entered = replica._parts.scrubber._store, threading.Event(), threading.Event()
        check = store.check_piece

        def slow(*args: object) -> object:
            entered.set()
            reads.wait(5)
            return check(*args)  # type: ignore[arg-type]

        store.check_piece = slow  # type: ignore[method-assign,assignment]
        await until(entered.is_set)
        await write(replica, 20)
        assert replica.state.get(b"key 19") is not None
        assert store.copying == 1 and not reads.is_set(), "the piece is still being read"
        threading.Timer(0.1, reads.set).start()

    on_one(tmp_path, test)


def test_pauses_are_many_times_as_long_as_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert scrubbing.pause_s(0.002) == pytest.approx(0.4)
    assert scrubbing.pause_s(0.0) == 0.02
    assert scrubbing.pause_s(3600.0) == 60.0


def test_the_clock_of_the_machine_times_a_piece(tmp_path: Path) -> None:
    async def test(replica: Replica, events: io.StringIO) -> None:
        scrubber = replica._parts.scrubber
        await scrubber._piece(lambda: time.sleep(0.05))
        assert scrubber._took_s >= 0.05

    on_one(tmp_path, test, scrub_interval_s=1000.0)
