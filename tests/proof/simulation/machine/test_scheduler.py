"""Virtual time: order, clocks, freezing, killing, and blocking calls."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proof.simulation.machine.hanging import Hang
from proof.simulation.machine.scheduler import Process, Scheduler


class Threads:
    """Blocking calls that take a tenth of a second; `survives` says what a crash keeps."""

    def __init__(self, survives: bool = False) -> None:
        self.survives = survives
        self.hang = Hang()

    def ends_at_s(self, now_s: float) -> float:
        return now_s + 0.1

    def survives_crash(self) -> bool:
        return self.survives


def program(scheduler: Scheduler, **options: object) -> Process:
    return Process(scheduler, "program", blocking=Threads(), **options)  # type: ignore[arg-type]


def begin(process: Process, work: Callable[[], Awaitable[object]]) -> None:
    process.post(0, lambda: process.create_task(work()))  # type: ignore[arg-type]


def never() -> bool:
    return False


def test_callbacks_run_by_time_then_in_the_order_they_were_scheduled() -> None:
    scheduler = Scheduler()
    process = program(scheduler)
    seen: list[str] = []
    for delay_s, name in ((0.2, "c"), (0.1, "a"), (0.1, "b"), (0.3, "d")):
        process.post(delay_s, seen.append, name)
    scheduler.run(0.25, never)
    assert seen == ["a", "b", "c"]
    assert scheduler.now_s == 0.25


def test_what_is_due_at_one_moment_shares_a_turn_of_the_loop() -> None:
    scheduler = Scheduler()
    process = program(scheduler)
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        process.call_soon(seen.append, "step")

    process.post(0.1, first)
    process.post(0.1, seen.append, "second")
    scheduler.run(1, never)
    assert seen == ["first", "second", "step"]


def test_asyncio_runs_on_it() -> None:
    scheduler = Scheduler()
    process = program(scheduler)
    seen: list[object] = []

    async def work() -> None:
        lock = asyncio.Lock()
        async with lock:
            await asyncio.sleep(1)
        seen.append(asyncio.get_running_loop().time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.Event().wait()
        seen.append(asyncio.get_running_loop().time())
        seen.append(await asyncio.to_thread(lambda: "done"))
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        seen.append(asyncio.get_running_loop().time())

    begin(process, work)
    scheduler.run(100, never)
    assert seen == [1, 3, "done", pytest.approx(5.1)]


def test_a_fast_clock_wakes_its_program_early() -> None:
    scheduler = Scheduler()
    woken: list[float] = []
    for rate in (0.5, 1.0, 2.0):
        process = program(scheduler, rate=rate)
        process.post(0, lambda p=process: p.call_later(1, lambda: woken.append(scheduler.now_s)))
    scheduler.run(10, never)
    assert woken == [0.5, 1.0, 2.0]


def test_a_frozen_program_does_late_and_in_order_what_was_due() -> None:
    scheduler = Scheduler()
    process = program(scheduler)
    seen: list[tuple[float, str]] = []
    for delay_s in (0.1, 0.2, 0.3):
        process.post(delay_s, lambda d=delay_s: seen.append((scheduler.now_s, f"{d}")))
    scheduler.run(0.15, never)
    process.freeze()
    scheduler.run(5, never)
    assert len(seen) == 1, "nothing runs while it is frozen"
    process.thaw()
    scheduler.run(6, never)
    assert seen == [(0.1, "0.1"), (5, "0.2"), (5, "0.3")]


@pytest.mark.parametrize("survives", [True, False])
def test_a_blocking_call_under_way_at_a_kill_has_its_effect_or_not(survives: bool) -> None:
    scheduler = Scheduler()
    process = Process(scheduler, "program", blocking=Threads(survives))
    written: list[str] = []
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.to_thread(written.append, "a commit")
        finally:
            ended.append("ran on after its death")

    begin(process, work)
    scheduler.run(0.05, never)
    assert not written, "it has its effect at its end"
    kept, dropped = process.kill()
    assert (kept, dropped) == ((1, 0) if survives else (0, 1))
    scheduler.run(10, never)
    assert written == (["a commit"] if survives else [])
    assert not ended


def test_an_exception_nobody_handles_is_a_defect() -> None:
    scheduler = Scheduler()
    process = program(scheduler)
    process.post(0.1, lambda: 1 / 0)
    scheduler.run(1, never)
    assert len(scheduler.defects) == 1 and "ZeroDivisionError" in scheduler.defects[0]


def test_running_stops_when_it_is_done() -> None:
    scheduler = Scheduler()
    process = program(scheduler)
    seen: list[int] = []
    for n in range(10):
        process.post(n, seen.append, n)
    assert scheduler.run(100, lambda: len(seen) == 4)
    assert seen == [0, 1, 2, 3] and scheduler.now_s == 3
    assert not scheduler.run(100, never)
