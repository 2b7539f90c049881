"""A disk that hangs, and a program that is busy: what is due waits, in its order."""

import random

from paxos.records import Record
from proof.simulation.machine.disk import SimulatedDisk
from proof.simulation.machine.hanging import AgedWriter
from proof.simulation.machine.scheduler import Process, Scheduler


def never() -> bool:
    return False


def with_disk() -> tuple[Scheduler, SimulatedDisk, Process]:
    scheduler = Scheduler()
    disk = SimulatedDisk(random.Random(1), (0.001, 0.002))
    return scheduler, disk, Process(scheduler, "program", blocking=disk)


def test_what_is_asked_of_a_disk_that_hangs_returns_when_that_is_over() -> None:
    scheduler, disk, process = with_disk()
    done: list[str] = []
    disk.hang.begin()
    for name in ("first", "second"):
        process.run_in_executor(None, done.append, name)
    scheduler.run(5.0, never)
    assert done == [], "nothing has its effect before it returns"
    disk.hang.end()
    scheduler.run(5.001, never)
    assert sorted(done) == ["first", "second"]


def test_a_program_that_ends_meanwhile_hears_nothing() -> None:
    scheduler, disk, process = with_disk()
    disk.hang.begin()
    future = process.run_in_executor(None, lambda: 1)
    scheduler.run(1.0, never)
    kept, dropped = process.kill()
    disk.hang.end()
    scheduler.run(2.0, never)
    assert kept + dropped == 1 and not future.done()


def test_calls_end_together_at_a_coarse_moment() -> None:
    scheduler = Scheduler()
    disk = SimulatedDisk(random.Random(1), (0.001, 0.002), moment_s=0.01)
    process = Process(scheduler, "program", blocking=disk)
    ended_s: list[float] = []
    for _ in range(3):
        process.run_in_executor(None, lambda: ended_s.append(scheduler.now_s))
    scheduler.run(1.0, never)
    assert ended_s == [0.01] * 3


def test_a_busy_program_does_everything_else_later_and_in_order() -> None:
    scheduler = Scheduler()
    process = Process(scheduler, "program")
    seen: list[tuple[str, float, float]] = []

    def look(name: str, cost_s: float) -> None:
        process.spend(cost_s)
        seen.append((name, scheduler.now_s, process.time()))

    for delay_s, name, cost_s in ((0.0, "a", 0.5), (0.0, "b", 0.0), (0.2, "c", 0.0)):
        process.post(delay_s, look, name, cost_s)
    scheduler.run(1.0, never)
    assert seen == [("a", 0.0, 0.5), ("b", 0.5, 0.5), ("c", 0.5, 0.5)]


class KeptWriter:
    """Completes what it was given when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[object] = []

    def submit(self, records: list[Record], then: object) -> None:
        self.waiting.append(then)

    def close(self) -> None:
        """Nothing to give back."""


def test_the_oldest_commit_under_way_is_known() -> None:
    now_s, inner, done = [1.0], KeptWriter(), list[str]()
    writer = AgedWriter(inner, lambda: now_s[0])
    assert writer.oldest_s is None
    writer.submit([], lambda: done.append("first"))
    now_s[0] = 2.0
    writer.submit([], lambda: done.append("second"))
    assert writer.oldest_s == 1.0
    inner.waiting[0]()  # type: ignore[operator]
    assert (writer.oldest_s, done) == (2.0, ["first"])
