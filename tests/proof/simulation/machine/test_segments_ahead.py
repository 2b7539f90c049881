"""Segments made ahead, on the simulated disk: whenever a crash, a kill or a failing sync comes
while one is made or used, what was acknowledged is there."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from kvstore.errors import StorageError
from kvstore.storage import ahead
from kvstore.storage.ahead import AheadFile
from kvstore.storage.segment_log import SegmentLog
from proof.simulation.machine.disk import KilledHere
from proof.simulation.mutations.edit import Mutation, edit, mutation
from tests.proof.simulation.machine.test_log_on_disk_model import Walk


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PAUSE_S", 0)


class AheadWalk(Walk):
    """Another thread makes the next segment at some later step, or is killed at it, or fails."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.make: Callable[[], None] | None = None
        self.made = self.used = self.failed = self.killed = 0

    def commit(self) -> None:
        before = self.log._ahead._made
        super().commit()
        self.used += before is not None and self.log._ahead._made is None
        if self.make is None:
            self.make = self.log.make_ahead()

    def begin_again(self) -> None:
        self.make = None  # the thread has ended with its process
        super().begin_again()

    def step(self) -> None:
        if self.make is None or self.randomness.random() < 0.5:
            return super().step()
        make, self.make = self.make, None
        match self.randomness.randrange(4):
            case 0:
                self.disk.fails = True
                make()
                self.disk.fails = False
                self.failed += self.log._ahead._made is None
            case 1:
                self.disk._operations_left = self.randomness.randrange(4)
                with suppress(KilledHere):
                    make()
                self.disk._operations_left = None
                self.killed += 1
                if self.randomness.random() < 0.7:
                    self.disk.crash()
                self.begin_again()
            case _:
                make()
                self.made += 1
        return None


def walks(count: int) -> Iterator[AheadWalk]:
    for seed in range(count):
        walk = AheadWalk(seed)
        for _ in range(80):
            walk.step()
        yield walk


def test_what_was_acknowledged_survives_everything() -> None:
    made = used = failed = killed = recovered = 0
    for walk in walks(20):
        made, used, failed = made + walk.made, used + walk.used, failed + walk.failed
        killed, recovered = killed + walk.killed, recovered + walk.recovered
    assert used > 12 and failed > 3 and killed > 6 and recovered > 15, (
        made, used, failed, killed, recovered,
    )  # fmt: skip


FAULTS = (
    mutation(
        "use a file whose sync failed",
        "Its size is what the system remembers, and not what the disk has.",
        edit(AheadFile, "_go_on", ("file.sync()", "suppressed(file.sync)")),
    ),
    mutation(
        "use a file that a crash left",
        "The same: nobody knows whether it was ever synced.",
        edit(SegmentLog, "_find_spare", ("self._ahead.clear()", "believe(self._ahead)")),
    ),
)


def suppressed(call: Callable[[], None]) -> None:
    with suppress(OSError):
        call()


def believe(made: AheadFile) -> None:
    size = made._disk.size(made.path)
    if size:
        made._begun, made._made = True, (made._disk.open_to_write(made.path), size)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_found(fault: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.storage.ahead.suppressed", suppressed, raising=False)
    monkeypatch.setattr("kvstore.storage.segment_log.believe", believe, raising=False)
    with fault.apply(), pytest.raises((AssertionError, StorageError)):
        list(walks(60))
