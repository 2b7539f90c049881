"""Apply: conditions, once, duplicates, and the same digest wherever the same is applied."""

from pathlib import Path

import pytest

from kvstore.commands.batches import Batch, Bundle
from kvstore.commands.binary import encode
from kvstore.commands.commands import ABSENT, EXISTS, Condition, Delete, Once, Put
from kvstore.commands.results import Deleted, Mismatched, NotHeld, Result, Written
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore


class Machine:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = StateStore(path)
        self.state = StateMachine(self.store)

    def apply(self, *commands: object, clock_ms: int = 0, number: int = 0) -> list[Result]:
        slot = self.state.applied_through + 1
        bundle = encode(Bundle(1, 1, number or slot, 1, commands))  # type: ignore[arg-type]
        applied = self.state.apply(slot, encode(Batch(clock_ms, (bundle,))))
        return applied[0][1] if applied else []

    def checkpoint(self) -> None:
        frozen = self.state.freeze()
        assert frozen is not None
        self.store.write_frozen(frozen[1])
        self.state.checkpointed(frozen[0])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state.mdb")


def test_conditions(machine: Machine) -> None:
    assert machine.apply(
        Put(b"k", b"1", EXISTS),
        Put(b"k", b"1", ABSENT),
        Put(b"k", b"2", ABSENT),
        Put(b"k", b"3", Condition(2)),
        Delete(b"k", Condition(2)),
        Delete(b"k", Condition(3)),
        Delete(b"k"),
    ) == [
        NotHeld(0),
        Written(2, 1, 2),
        NotHeld(2),
        Written(3, 2, 2),
        NotHeld(3),
        Deleted(4, 1),
        Deleted(4, 0),
    ]


def test_once_until_it_expires_by_the_logs_clock(machine: Machine) -> None:
    once = Once(b"id", Put(b"k", b"v"), 10_000)
    assert machine.apply(once, clock_ms=1000) == [Written(2, 1, 2)]
    assert machine.apply(once, clock_ms=10_999) == [Written(2, 1, 2)]
    assert machine.apply(Once(b"id", Put(b"k", b"w")), clock_ms=0) == [Mismatched()]
    machine.checkpoint()
    assert machine.apply(once, clock_ms=11_000) == [Written(3, 2, 2)]
    machine.checkpoint()
    assert machine.apply(once, clock_ms=11_001) == [Written(3, 2, 2)]


def test_a_bundle_is_applied_once(machine: Machine) -> None:
    assert machine.apply(Put(b"k", b"v"), number=7)
    assert machine.apply(Put(b"k", b"v"), number=7) == []
    machine.state.apply(3, b"")
    assert (machine.state.applied_through, machine.state.revision) == (3, 2)


def test_digests_agree_exactly_if_the_state_does(machine: Machine, tmp_path: Path) -> None:
    other, third = Machine(tmp_path / "other.mdb"), Machine(tmp_path / "third.mdb")
    for number in range(9):
        for each in (machine, other):
            each.apply(Put(b"k%d" % number, b"v"))
        third.apply(Put(b"k%d" % number, b"w"))
        if number == 4:
            other.checkpoint()
            other.store.close()
            other = Machine(tmp_path / "other.mdb")
            assert other.state.applied_through == 5
    assert machine.state.digest == other.state.digest != third.state.digest
