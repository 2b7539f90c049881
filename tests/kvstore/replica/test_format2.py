"""Directories of format 2, whose log is an LMDB file, open with everything in them.

`format2.tar.xz` holds those of three real nodes of the last release that wrote them, killed by
SIGKILL while four clients were writing, and what had been acknowledged by then.
"""

import asyncio
import json
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from kvstore.commands.commands import Put
from kvstore.commands.results import Written
from kvstore.errors import StorageError
from kvstore.replica.open import open_replica
from kvstore.storage.data_dir import FORMAT, DataDir
from kvstore.storage.disk import SYSTEM_DISK, File, SystemDisk
from kvstore.storage.format2 import _read
from kvstore.storage.segment_log import SegmentLog
from paxos.records import Restored
from tests.support.replicas import configs_of, run, settled

CONFIGURATION = "1,2,3/2/2"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).with_name("format2.tar.xz")) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def before(directory: Path) -> Restored:
    """What the old log holds."""
    found = _read(directory / "log.mdb", SYSTEM_DISK)
    assert found.entries and found.chosen_through > found.first_slot > 1
    return found


def after(directory: Path) -> Restored:
    log = SegmentLog(directory / "log")
    try:
        return log.restore()
    finally:
        log.close()


def format_of(directory: Path) -> int:
    number = json.loads((directory / "identity.json").read_text())["format"]
    assert isinstance(number, int)
    return number


def opened(directory: Path, disk: SystemDisk = SYSTEM_DISK) -> None:
    DataDir(directory, int(directory.name), CONFIGURATION, "new", disk).close()


def test_three_nodes_open_with_everything_in_them(recorded: Path) -> None:
    acknowledged = json.loads((recorded / "acknowledged.json").read_text())
    logs = {node: before(recorded / str(node)) for node in (1, 2, 3)}

    async def body() -> None:
        for round_ in (1, 2):
            configs = configs_of(3, recorded)
            replicas = await asyncio.gather(*(open_replica(config) for config in configs))
            try:
                await settled(replicas)
                for replica in replicas:
                    assert replica.node.acceptor.promised >= logs[replica.node.id].promised
                    for key, value in acknowledged.items():
                        item = replica.state.get(key.encode())
                        assert item is not None and item.value == value.encode(), key
                wrote = await replicas[0].execute(Put(b"new", b"%d" % round_), 5)
                assert isinstance(wrote, Written)
            finally:
                for replica in replicas:
                    await replica.stop()
            for node in (1, 2, 3):
                assert format_of(recorded / str(node)) == FORMAT
                kept = (recorded / str(node) / "log.mdb").exists()
                assert kept == (round_ == 1), "the second start removes it"

    run(body(), 60)


def test_nothing_of_the_log_is_lost_or_made_up(recorded: Path) -> None:
    for node in (1, 2, 3):
        directory = recorded / str(node)
        wanted = before(directory)
        opened(directory)
        assert after(directory) == wanted


class Killed(BaseException):
    """Nothing is written after it."""


class DyingDisk(SystemDisk):
    """Lets `left` operations through; from then on the program is dead."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def create(self, path: Path) -> File:
        self.step()
        file = super().create(path)
        write, sync, write_synced = file.write_parts_at, file.sync, file.write_synced_at

        def write_and_step(offset: int, parts: list[bytes]) -> None:
            self.step()
            write(offset, parts)

        def sync_and_step() -> None:
            self.step()
            sync()

        def write_synced_and_step(offset: int, parts: list[bytes]) -> None:
            self.step()
            write_synced(offset, parts)

        file.write_parts_at = write_and_step  # type: ignore[method-assign,assignment]
        file.write_synced_at = write_synced_and_step  # type: ignore[method-assign,assignment]
        file.sync = file.sync_data = sync_and_step  # type: ignore[method-assign]
        return file

    def rename(self, old: Path, new: Path) -> None:
        self.step()
        super().rename(old, new)

    def sync_directory(self, path: Path) -> None:
        self.step()
        super().sync_directory(path)


def test_a_move_that_is_killed_anywhere_begins_anew(recorded: Path) -> None:
    directory = recorded / "1"
    wanted, left = before(directory), 0
    while format_of(directory) == 2:
        with suppress(Killed):
            opened(directory, DyingDisk(left))
        left += 1
    assert left > 8, "it was killed at many places"
    assert after(directory) == wanted


@pytest.mark.parametrize("damage", ["a bit", "half of it", "all of it"])
def test_a_damaged_log_is_refused_and_nothing_is_touched(recorded: Path, damage: str) -> None:
    directory = recorded / "2"
    data = bytearray((directory / "log.mdb").read_bytes())
    if damage == "a bit":
        data[data.find(b"under load")] ^= 1
    (directory / "log.mdb").write_bytes(data[: {"half of it": len(data) // 2}.get(damage)])
    if damage == "all of it":
        (directory / "log.mdb").write_bytes(b"\xa5" * len(data))
    kept = {path.name: path.read_bytes() for path in directory.iterdir()}
    for _ in range(2):
        with pytest.raises(StorageError, match=r"log\.mdb"):
            opened(directory)
    now = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    assert {name: now[name] for name in kept} == kept
    assert not (directory / "log").exists()


@pytest.mark.parametrize("at", ["once", "the log's end"])
def test_without_room_it_is_refused_and_the_next_start_moves_it(recorded: Path, at: str) -> None:
    class FullDisk(SystemDisk):
        def create(self, path: Path) -> File:
            if at == "once":
                raise OSError(28, "No space left on device")
            file = super().create(path)

            def fails(offset: int, parts: object) -> None:
                raise OSError(28, "No space left on device")

            file.write_synced_at = fails  # type: ignore[method-assign]
            return file

    directory = recorded / "3"
    wanted = before(directory)
    with pytest.raises(StorageError, match=r"/log .*No space left"):
        opened(directory, FullDisk())
    assert format_of(directory) == 2
    assert list((directory / "log").iterdir()) == [], "what takes the room is gone"
    opened(directory)
    assert after(directory) == wanted


def test_a_lost_log_of_format_2_is_refused(recorded: Path) -> None:
    directory = recorded / "3"
    (directory / "log.mdb").unlink()
    with pytest.raises(StorageError, match=r"lost its log\.mdb"):
        opened(directory)
