"""LMDB files that are shorter than their header says: sound ones open, cut ones are refused."""

import os
import random
from pathlib import Path

import pytest

from kvstore.errors import StorageError
from kvstore.storage.environment import open_environment, used_bytes


def short_file(path: Path, keys: int = 300) -> dict[bytes, bytes]:
    """A sound file whose last pages were taken and given back at once: what it holds."""
    rng, held = random.Random(7), {}
    environment = open_environment(path, databases=1)
    database = environment.open_db(b"one")
    with environment.begin(write=True) as transaction:
        for n in range(keys):
            key, value = b"%d" % n, b"\1" + rng.randbytes(rng.choice((10, 100, 3000)))
            transaction.put(key, value, db=database)
            held[key] = value
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
