"""LMDB files that are shorter than their header says: sound ones open, cut ones are refused."""

import os
import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from kvstore.errors import StorageError
from kvstore.storage.environment import LOCK_BYTES, open_environment, used_bytes
from kvstore.storage.pages import bytes_in_use
from tests.support.paths import ROOT


def short_file(path: Path, keys: int = 300, last: bytes = b"") -> dict[bytes, bytes]:
    """A sound file whose last pages were taken and given back at once: what it holds, `last` too
    if that is not empty."""
    rng, held = random.Random(7), {}
    environment = open_environment(path, databases=1)
    database = environment.open_db(b"one")
    with environment.begin(write=True) as transaction:
        for n in range(keys):
            key, value = b"%d" % n, b"\1" + rng.randbytes(rng.choice((10, 100, 3000)))
            transaction.put(key, value, db=database)
            held[key] = value
        if last:
            transaction.put(b"last", last, db=database)
            held[b"last"] = last
    for n in range(200):
        if path.stat().st_size < used_bytes(environment):
            break
        held[b"more %d" % n] = bytes([1]) * rng.randrange(1, 9000)
        with environment.begin(write=True) as transaction:
            transaction.put(b"more %d" % n, held[b"more %d" % n], db=database)
            transaction.put(b"x", b"x" * rng.randrange(5000, 60_000), db=database)
            transaction.delete(b"x", db=database)
    assert path.stat().st_size < used_bytes(environment), "LMDB writes what it gave back"
    environment.close()
    return held


def content(path: Path) -> dict[bytes, bytes]:
    environment = open_environment(path, databases=1)
    try:
        database = environment.open_db(b"one")
        with environment.begin() as transaction:
            return {bytes(key): bytes(value) for key, value in transaction.cursor(db=database)}
    finally:
        environment.close()


def test_a_sound_file_may_be_short(tmp_path: Path) -> None:
    path = tmp_path / "state.mdb"
    held = short_file(path)
    assert content(path) == held
    assert content(path) == held, "and it was completed once for all"


@pytest.mark.parametrize(
    "value",
    [
        b"\1" * 5000 + bytes(1024),
        bytes(16) + b"\1" * 5000,
        bytes(100_000),
        b"\1" * 100 + bytes(2000),
    ],
    ids=["ends in zeros", "begins with zeros", "zeros", "one page"],
)
def test_zeros_in_a_value_are_no_damage(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "state.mdb"
    held = short_file(path, last=value)
    assert content(path) == held


def test_the_last_bytes_of_a_large_value_are_missed(tmp_path: Path) -> None:
    """They have a page of their own, which is cut off; all before it is there."""
    path = tmp_path / "state.mdb"
    environment = open_environment(path, databases=1)
    database = environment.open_db(b"one")
    for n in range(6):  # so that pages further in front are free
        with environment.begin(write=True) as transaction:
            transaction.put(b"n", b"%d" % n, db=database)
    with environment.begin(write=True) as transaction:
        transaction.put(b"k", b"\1" * (3 * 4096 - 24 + 10), db=database)
    environment.close()
    whole = path.read_bytes()
    assert whole[-4096:-4080] == b"\1" * 10 + bytes(6), "the value's last page is the file's"
    os.truncate(path, len(whole) - 4096)
    with pytest.raises(StorageError, match="damaged"):
        content(path)
    assert path.read_bytes() == whole[:-4096]


def test_a_walk_of_the_pages_finds_what_is_in_use(tmp_path: Path) -> None:
    """Against LMDB's own count, on files of many shapes: at most its last pages are free."""
    rng = random.Random(3)
    for n in range(6):
        path = tmp_path / f"{n}.mdb"
        environment = open_environment(path, databases=2)
        databases = [environment.open_db(name) for name in (b"one", b"two")]
        for _ in range(6):
            with environment.begin(write=True) as transaction:
                for _ in range(rng.choice((3, 200))):
                    key = b"%d" % rng.randrange(500) * rng.choice((1, 60))
                    size = rng.choice((0, 10, 1500, 2000, 2100, 4072, 4073, 70_000))
                    transaction.put(key, bytes(size), db=rng.choice(databases))
                transaction.put(b"at the end", bytes(rng.randrange(100_000)), db=databases[0])
        used = used_bytes(environment)
        environment.close()
        walked = bytes_in_use(path)
        assert walked <= used
        os.truncate(path, walked)
        assert bytes_in_use(path) == walked
        content(path)


@pytest.mark.parametrize("seed", range(30))
def test_a_file_that_was_cut_is_refused_and_left_as_it_is(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "state.mdb"
    held = short_file(path)
    size = path.stat().st_size
    left = random.Random(seed).randrange(2 * 4096, size)
    os.truncate(path, left)
    before = path.read_bytes()
    found: dict[bytes, bytes] | None
    try:
        found = content(path)
    except StorageError:
        found = None
    if found is None:
        assert path.read_bytes() == before
    else:
        assert found == held, "what is missing was of no use"


def test_a_disk_without_room_for_the_reader_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB maps it: touching it on a full disk would end the process by SIGBUS, without a word."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="No space left") as raised:
        open_environment(tmp_path / "state.mdb", databases=1)
    assert "given up" not in str(raised.value), "nothing says that the data is bad"


def test_half_of_a_new_file_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start would take it for a file that is damaged; one that held anything stays."""

    def half(path: str, **_: object) -> None:
        with Path(path).open("ab") as file:
            file.write(bytes(4096))
        raise lmdb.DiskError("MDB_SHORT_WRITE")

    with monkeypatch.context() as patch:
        patch.setattr(lmdb, "open", half)
        for _ in range(2):
            with pytest.raises(StorageError, match="no room"):
                open_environment(tmp_path / "state.mdb", databases=1)
    held = short_file(tmp_path / "state.mdb")
    with monkeypatch.context() as patch:
        patch.setattr(lmdb, "open", half)
        with pytest.raises(StorageError, match="no room"):
            open_environment(tmp_path / "state.mdb", databases=1)
    assert held and (tmp_path / "state.mdb").exists()


def test_the_reader_table_is_no_hole(tmp_path: Path) -> None:
    open_environment(tmp_path / "state.mdb", databases=1).close()
    found = (tmp_path / "state.mdb-lock").stat()
    assert found.st_size >= LOCK_BYTES and found.st_blocks * 512 >= LOCK_BYTES


def test_advice_to_give_data_up_comes_with_damage_only(tmp_path: Path) -> None:
    (tmp_path / "bad.mdb").write_bytes(b"no LMDB file" * 1000)
    with pytest.raises(StorageError, match="given up"):
        open_environment(tmp_path / "bad.mdb", databases=1)
    with pytest.raises(StorageError) as raised:
        open_environment(tmp_path / "nowhere" / "state.mdb", databases=1)
    assert "given up" not in str(raised.value)


_LIMITED = """
import resource, sys
from pathlib import Path
from kvstore.storage.environment import MAP_BYTES_START, open_environment
print(open_environment(Path(sys.argv[1]) / "a", 1).info()["map_size"] == MAP_BYTES_START)
resource.setrlimit(resource.RLIMIT_AS, (2 << 40, 2 << 40))
print(open_environment(Path(sys.argv[1]) / "b", 1).info()["map_size"] == 2 << 37)
"""


def test_the_map_is_large_from_the_start_as_far_as_the_system_allows(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")
