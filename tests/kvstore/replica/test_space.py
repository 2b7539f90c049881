"""What is refused where there is no room, and that it is over by itself."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.commands.commands import AsUser, Command, Compact, Delete, Grant, Once, Put, Revoke
from kvstore.commands.growing import grows
from kvstore.commands.operations import Transaction, TxnDelete, TxnPut
from kvstore.errors import OutOfSpace
from kvstore.event_log import EventLog
from kvstore.replica.machine import Machine
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from kvstore.replica.space import Filling
from kvstore.storage.disk import SystemDisk
from tests.support.replicas import configs_of, run, settled

VALUE = bytes(4000)
PUT = TxnPut(b"k", b"v")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (Put(b"k", b""), True),
        (Grant(1, 10), True),
        (Once(b"once", Put(b"k", b"")), True),
        (AsUser("ann", 1, Once(b"once", Put(b"k", b""))), True),
        (Transaction((), (TxnDelete(b"a", None),), (PUT,)), True),
        (Transaction((), (Transaction((), (PUT,)),)), True),
        (Transaction((), (TxnDelete(b"a", None),)), False),
        (Delete(b"k"), False),
        (AsUser("ann", 1, Delete(b"k")), False),
        (Revoke(1), False),
        (Compact(7), False),
    ],
)
def test_what_grows(command: Command, expected: bool) -> None:
    assert grows(command) is expected


def test_levels_begin_and_end_apart_and_are_told_once() -> None:
    out = io.StringIO()
    filling = Filling("disk", EventLog(1, out=out))
    levels, clearing = [], []
    for share in (0.5, 0.81, 0.79, 0.81, 0.91, 1.2, 0.99, 0.96, 1.0, 0.94, 0.5, 0.5):
        filling.look(share, f"{share} full")
        levels.append(filling.level)
        clearing.append(filling.clearing)
    assert levels == [0, 1, 1, 1, 2, 3, 3, 3, 3, 2, 0, 0]
    assert clearing == [False] * 5 + [True] * 5 + [False] * 2
    told = [line.split(" node 1 ")[1].split(" of=")[0] for line in out.getvalue().splitlines()]
    assert told == ["space short", "space short", "out of space", "space again", "space well again"]


class SmallDisk(SystemDisk):
    """Says that so much is free; None: as it is."""

    free: int | None = None

    def free_bytes(self, path: Path) -> int | None:
        return super().free_bytes(path) if self.free is None else self.free


@asynccontextmanager
async def one(
    directory: Path, disk: SystemDisk | None = None, **settings: float
) -> AsyncIterator[tuple[Replica, io.StringIO]]:
    out = io.StringIO()
    config = replace(configs_of(1, directory)[0], checkpoint_interval_s=0.05, **settings)  # type: ignore[arg-type]
    machine = Machine() if disk is None else Machine(disk=disk)
    replica = await open_replica(config, EventLog(1, out=out), machine)
    try:
        await settled([replica])
        yield replica, out
    finally:
        await replica.stop()


async def fill(replica: Replica, keys: int = 100_000) -> int:
    """Put until it is refused; how many were put."""
    for number in range(keys):
        try:
            await replica.execute(Put(b"%d" % number, VALUE), 5)
        except OutOfSpace:
            return number
    raise AssertionError("it was never full")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def put_again(replica: Replica) -> None:
    """Until it is well again and a put is accepted. What is deleted may fill it once more in
    between, on a slow machine: its history is kept at first."""
    async with asyncio.timeout(20):
        while True:
            with suppress(OutOfSpace):
                await until(lambda: not replica.status().out_of_space)
                await replica.execute(Put(b"again", VALUE), 5)
                if not replica.status().out_of_space:
                    return


def checkpointed(replica: Replica) -> Callable[[], bool]:
    through = replica.state.applied_through
    return lambda: replica.status().checkpointed_through >= through


def test_a_quota_that_is_used_up_and_has_room_again(tmp_path: Path) -> None:
    async def body() -> None:
        quota = 600_000
        async with one(tmp_path, space_quota_bytes=quota) as (replica, out):
            put = await fill(replica)
            status = replica.status()
            assert "space-quota-bytes" in status.out_of_space
            assert f"of {quota} bytes used" in " ".join(status.warnings)
            with pytest.raises(OutOfSpace, match="as large as space-quota-bytes"):
                replica.submit_group([Delete(b"0"), Put(b"x", b"")], 5)
            # The history is given up, so that what is deleted makes room; nobody does anything.
            for number in range(put):
                await replica.execute(Delete(b"%d" % number), 5)
            await put_again(replica)
            gauges = replica.metrics.gauges
            await until(
                lambda: 0 < gauges()["state_bytes"] < quota and not gauges()["out_of_space"]
            )
            assert gauges()["space_quota_bytes"] == quota
        told = out.getvalue()
        assert "out of space of=space-quota-bytes" in told and "space again of=" in told

    run(body())


def test_a_disk_that_is_nearly_full_and_has_room_again(tmp_path: Path) -> None:
    async def body() -> None:
        disk = SmallDisk()
        async with one(tmp_path, disk) as (replica, out):
            await replica.execute(Put(b"k", b"v"), 5)
            disk.free = 1 << 20
            await until(lambda: bool(replica.status().out_of_space))
            with pytest.raises(OutOfSpace, match="disk of this node is nearly full"):
                await replica.execute(Put(b"k", b"w"), 5)
            await replica.execute(Delete(b"k"), 5)
            disk.free = None
            await until(lambda: not replica.status().out_of_space)
            await replica.execute(Put(b"k", b"x"), 5)
        assert out.getvalue().count("out of space of=disk") == 1

    run(body())


@pytest.mark.proof
def test_room_in_the_file_of_the_state_counts(tmp_path: Path) -> None:
    """A full disk refuses no write once enough was deleted that the file need not grow."""

    async def body() -> None:
        disk = SmallDisk()
        disk.free = 10 << 20
        async with one(tmp_path, disk, disk_reserve_bytes=1 << 20) as (replica, _):
            for number in range(700):
                await replica.execute(Put(b"%d" % number, VALUE), 5)
            await until(lambda: replica.status().checkpointed_through >= 700)
            disk.free = 0
            await until(lambda: bool(replica.status().out_of_space))
            for number in range(700):
                await replica.execute(Delete(b"%d" % number), 5)
            await until(lambda: not replica.status().out_of_space)
            await replica.execute(Put(b"again", VALUE), 5)

    run(body())


def test_all_history_is_kept_where_somebody_wants_it(tmp_path: Path) -> None:
    async def body() -> None:
        settings = {"space_quota_bytes": 400_000, "history_revisions": 0}
        async with one(tmp_path, **settings) as (replica, _):
            await fill(replica)
            for key in (b"1", b"2"):  # what the first checkpoint may ask for is in the second
                await replica.execute(Delete(key), 5)
                await until(checkpointed(replica))
            assert replica.state.compacted_revision == 0

    run(body())
