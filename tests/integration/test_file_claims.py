"""What the simulated disk takes for granted about files, asked of a file system: by the same
questions to both, and by kill -9. What a power failure keeps nobody can ask here; the model takes
the worst: any sectors, and any beginning of the changes of names."""

import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.segments import zeroed_file
from proof.simulation.machine.disk import SimulatedDisk
from tests.integration.log_group_writer import KEPT, SEGMENT_BYTES, SLOTS, entries
from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

ROUNDS = 8
DEADLINE_S = 60


def check_what_is_written_is_read(disk: Disk, directory: Path) -> None:
    path = directory / "file"
    file = disk.create(path)
    parts = [b"%04d" % n for n in range(3000)]  # more than one call of the system takes
    file.write_parts_at(10, parts)
    assert file.size() == 10 + 12_000
    assert file.read_at(0, 14) == bytes(10) + b"0000", "zeros in between"
    assert file.read_at(10, 12_000) == b"".join(parts)
    assert file.read_at(12_000, 100) == b"".join(parts)[-10:], "less at the end"
    assert file.read_at(20_000, 100) == b""
    file.write_synced_at(14, [b"ov", b"er"])
    file.sync_data()
    again = disk.open_to_write(path)
    assert again.read_at(10, 12) == b"0000over0002"
    again.write_at(10, b"more")
    assert file.read_at(10, 4) == b"more" and file.size() == 12_010
    disk.sync_directory(directory)
    assert disk.size(path) == 12_010
    file.close()
    again.close()


def check_names(disk: Disk, directory: Path) -> None:
    one, two = directory / "one", directory / "two"
    file = disk.create(one)
    file.write_at(0, b"1")
    disk.create(two).write_at(0, b"22")
    assert {"one", "two"} <= set(disk.list(directory))
    disk.rename(one, two)
    disk.sync_directory(directory)
    assert disk.read(two) == b"1" and disk.size(one) is None
    file.write_at(0, b"3")
    assert disk.read(two) == b"3", "an open file is the same under its new name"
    disk.remove(two)
    disk.remove(two)
    assert "two" not in disk.list(directory)
    assert file.read_at(0, 1) == b"3", "and lives on without one"
    assert disk.list(directory / "none") == []
    with pytest.raises(FileNotFoundError):
        disk.open_to_write(two)


@pytest.mark.parametrize("check", [check_what_is_written_is_read, check_names])
def test_the_real_one_and_the_model_agree(
    tmp_path: Path, check: Callable[[Disk, Path], None]
) -> None:
    check(SYSTEM_DISK, tmp_path)
    check(SimulatedDisk(random.Random(1), (0.0, 0.0)), tmp_path)


def test_a_zeroed_file_has_its_room(tmp_path: Path) -> None:
    """What is written into it later needs none."""
    file = zeroed_file(SYSTEM_DISK, tmp_path / "file", 3 << 20)
    file.sync()
    before = (tmp_path / "file").stat()
    assert before.st_size == 3 << 20 and before.st_blocks * 512 >= 3 << 20
    file.write_synced_at(1 << 20, [os.urandom(1 << 20)])
    after = (tmp_path / "file").stat()
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)
    file.close()


_LIMITED = """
import resource, sys
from pathlib import Path
from kvstore.storage.disk import SYSTEM_DISK
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    SYSTEM_DISK.create(Path(sys.argv[1])).write_parts_at(0, [b"x" * 1000] * 9)
except OSError as error:
    print(error.errno)
"""


def test_a_write_that_is_cut_short_is_an_error_and_keeps_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.stdout, done.stderr) == ("27\n", "")
    assert path.read_bytes() == b"x" * 5000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 5000


def run_until_killed(directory: Path, groups: int, rng: random.Random) -> tuple[int, int]:
    """Kill -9 a writer some time after `groups` lines; the first group it announced, and the last
    one it was done with (one less than the first if none)."""
    command = [sys.executable, str(Path(__file__).with_name("log_group_writer.py"))]
    with subprocess.Popen(
        [*command, str(directory)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as writer:
        assert writer.stdout is not None
        guard = threading.Timer(DEADLINE_S, writer.kill)
        guard.start()
        try:
            lines = [writer.stdout.readline() for _ in range(groups)]
            for _ in range(rng.randrange(20_000)):
                pass
        finally:
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
            guard.cancel()
    said = [line.split() for line in lines if line.endswith(b"\n")]
    assert len(said) >= groups, "the writer was slow, and was not killed here"
    first = int(said[0][1])
    done = [int(number) for word, number in said if word == b"done"]
    assert done == list(range(first, first + len(done)))
    return first, first - 1 + len(done)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    directory, rng, last = tmp_path / "log", random.Random(), -1
    for _ in range(ROUNDS):
        first, done = run_until_killed(directory, rng.randrange(1, 120), rng)
        assert first == last + 1, "the writer began where the log ended"
        log = SegmentLog(directory, segment_bytes=SEGMENT_BYTES)
        restored = log.restore()
        log.close()
        through = restored.entries[-1].slot
        assert through % SLOTS == 0, "a group is there as a whole"
        last = through // SLOTS - 1
        assert done <= last <= done + 1
        wanted = [entry for group in range(last + 1) for entry in entries(group)]
        assert list(restored.entries) == wanted[restored.first_slot - 1 :]
        assert restored.first_slot > through - KEPT - 11 * SLOTS
    assert len(list(directory.iterdir())) <= 4, "files go round"
