"""The log on disk: what was committed is restored, damage is refused, groups keep their order."""

import queue
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.errors import StorageError
from kvstore.storage import environment
from kvstore.storage.log import LogStore, ThreadedLogWriter
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Truncation
from tests.support.paths import ROOT

B = Ballot(3, 2)


def entries(first: int, last: int, size: int = 10) -> list[LogEntry]:
    return [LogEntry(slot, B, b"%d" % slot * size) for slot in range(first, last + 1)]


def test_what_was_committed_is_restored(tmp_path: Path) -> None:
    log = LogStore(tmp_path / "log.mdb")
    log.commit([Promised(B), *entries(1, 9), ChosenThrough(8)])
    log.commit([Truncation(4)])
    log.close()
    log = LogStore(tmp_path / "log.mdb")
    restored = log.restore()
    assert restored.promised == B
    assert (restored.first_slot, restored.chosen_through) == (4, 8)
    assert list(restored.entries) == entries(4, 9)
    log.close()


def test_a_missing_chosen_entry_is_damage(tmp_path: Path) -> None:
    log = LogStore(tmp_path / "log.mdb")
    log.commit([*entries(1, 2), ChosenThrough(3)])
    with pytest.raises(StorageError, match="slot 3 is missing"):
        log.restore()
    log.close()


def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.mdb"
    log = LogStore(path)
    log.commit([LogEntry(1, B, b"precious value")])
    log.close()
    path.write_bytes(path.read_bytes().replace(b"precious", b"preciout"))
    log = LogStore(path)
    with pytest.raises(StorageError, match="checksum"):
        log.restore()
    log.close()


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.mdb"
    log = LogStore(path)
    log.commit(entries(1, 50, 1000))
    log.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StorageError):
        LogStore(path)


def test_zeros_where_keys_or_marks_were_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.mdb"
    log = LogStore(path)
    log.commit([Promised(B), *entries(1, 20), ChosenThrough(20)])
    with log._env.begin(write=True) as transaction:
        transaction.put(b"promised", b"\0", db=log._meta)
    with pytest.raises(StorageError, match="damaged"):
        log.restore()
    with log._env.begin(write=True) as transaction:
        transaction.put(b"promised", bytes(12), db=log._meta)
        transaction.put(b"\0", b"value", db=log._log)
    with pytest.raises(StorageError, match="damaged"):
        log.restore()
    log.close()


_ZEROED = """
import sys
from pathlib import Path
from kvstore.errors import StorageError
from kvstore.storage.log import LogStore
path = Path(sys.argv[1])
data = path.read_bytes()
for at in range(0, len(data), 512):
    if any(data[at : at + 512]):
        copy = path.with_name(f"{at}.mdb")
        copy.write_bytes(data[:at] + bytes(512) + data[at + 512 :])
        try:
            LogStore(copy).restore()
        except StorageError as error:
            print("refused", error)
        else:
            print("opened")
"""


def test_a_zeroed_sector_is_refused_in_words(tmp_path: Path) -> None:
    """Wherever it lies: LMDB itself would end the process. In a process of its own, therefore."""
    path = tmp_path / "log.mdb"
    log = LogStore(path)
    log.commit([Promised(B), *entries(1, 60), *entries(61, 70, 2000), ChosenThrough(65)])
    log.close()
    done = subprocess.run(
        [sys.executable, "-c", _ZEROED, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sum(line.startswith("refused") for line in lines) > len(lines) / 2


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MAP_BYTES_START", 1 << 17)
    log = LogStore(tmp_path / "log.mdb")
    log.commit(entries(1, 99, 10_000))
    assert len(log.restore().entries) == 99
    log.close()


def test_groups_are_answered_in_order_and_nothing_after_a_failure(tmp_path: Path) -> None:
    posted: queue.Queue[str] = queue.Queue()
    log = LogStore(tmp_path / "log.mdb")
    writer = ThreadedLogWriter(
        log, lambda call: call(), lambda error: posted.put(type(error).__name__)
    )
    for slot in range(1, 50):
        writer.submit(entries(slot, slot), lambda slot=slot: posted.put(str(slot)))
    assert [posted.get(timeout=5) for _ in range(49)] == [str(slot) for slot in range(1, 50)]
    log.close()  # from here on every commit fails
    writer.submit(entries(50, 50), lambda: posted.put("50"))
    assert posted.get(timeout=5) == "StorageFailed"
    writer.submit([], lambda: posted.put("51"))
    writer.close()
    assert posted.empty()
