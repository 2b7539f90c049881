"""What the simulated disk takes for granted about LMDB, asked of LMDB itself."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from kvstore.storage.environment import open_environment
from proof.simulation.machine.disk import SimulatedDisk
from tests.integration.lmdb_writer import DATABASE
from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

KEYS = 20
ROUNDS = 40
DEADLINE_S = 20


def open_two(path: Path) -> Any:
    """The production environment, with room for two databases."""
    return open_environment(path, databases=2)


# A transaction is all or nothing, and durable once its commit has returned.


def run_until_killed(path: Path, first: int, commits: int, rng: random.Random) -> tuple[int, bool]:
    """Kill -9 a writer some time after it acknowledged `commits` transactions. The last one
    acknowledged, `first - 1` if none; and whether the kill fell into the commit after it."""
    command = [sys.executable, str(Path(__file__).with_name("lmdb_writer.py"))]
    with subprocess.Popen(
        [*command, str(path), str(first), str(KEYS)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as writer:
        assert writer.stdout is not None
        guard = threading.Timer(DEADLINE_S, writer.kill)
        guard.start()
        try:
            # Half of the kills come when a commit has been announced, half when one is done.
            awaited = 2 * commits - rng.randrange(2)
            lines = [writer.stdout.readline() for _ in range(awaited)]
            # A random part of a transaction: the kill is to land anywhere in it.
            for _ in range(rng.randrange(20_000)):
                pass
        finally:
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
            guard.cancel()
    assert writer.returncode == -signal.SIGKILL
    # A line cut off by the kill was not said.
    said = [line.split() for line in lines if line.endswith(b"\n")]
    assert len(said) >= awaited, "the writer was slow, and was not killed here"
    numbers = [int(number) for word, number in said if word == b"done"]
    assert numbers == list(range(first, first + len(numbers)))
    return first - 1 + len(numbers), said[-1][0] == b"commit"


def found_in(path: Path) -> set[int]:
    """The numbers of the transactions that wrote what the keys hold."""
    with open_two(path) as environment:
        database = environment.open_db(DATABASE)
        with environment.begin(db=database) as transaction:
            values = [transaction.get(b"%d" % key) for key in range(KEYS)]
    return {0 if value is None else int(value) for value in values}


@pytest.mark.proof
def test_transactions_survive_kill_whole_or_not_at_all(tmp_path: Path) -> None:
    path, rng = tmp_path / "claims.mdb", random.Random()
    last, commits, cut = 0, 0, 0
    for _ in range(ROUNDS):
        acknowledged, during_commit = run_until_killed(path, last + 1, rng.randrange(1, 20), rng)
        found = found_in(path)
        assert len(found) == 1, f"transaction torn: {sorted(found)}"
        [number] = found
        assert acknowledged <= number <= acknowledged + 1, (acknowledged, number)
        commits += number - last
        cut += during_commit
        last = number
    assert commits >= 2 * ROUNDS, "the writers hardly wrote"
    assert cut > ROUNDS // 10, "next to no kill fell into a commit"


# What transactions, cursors and full maps mean.


def put_all(environment: Any, database: Any, pairs: dict[bytes, bytes]) -> None:
    with environment.begin(db=database, write=True) as transaction:
        for key, value in pairs.items():
            transaction.put(key, value)


def all_pairs(environment: Any, database: Any) -> dict[bytes, bytes]:
    with environment.begin(db=database) as transaction, transaction.cursor() as cursor:
        return {bytes(key): bytes(value) for key, value in cursor}


def check_readers_see_the_past(environment: Any, database: Any) -> None:
    put_all(environment, database, {b"a": b"1", b"b": b"1"})
    with environment.begin(db=database) as reader:
        put_all(environment, database, {b"a": b"2", b"c": b"2"})
        with environment.begin(db=database, write=True) as writer:
            assert writer.delete(b"b")
            assert writer.get(b"b") is None, "a writer sees its own changes"
            assert not writer.delete(b"b")
        assert reader.get(b"a") == b"1" and reader.get(b"c") is None
        with reader.cursor() as cursor:
            assert [(bytes(k), bytes(v)) for k, v in cursor] == [(b"a", b"1"), (b"b", b"1")]
    assert all_pairs(environment, database) == {b"a": b"2", b"c": b"2"}


def check_aborts_leave_nothing(environment: Any, database: Any) -> None:
    put_all(environment, database, {b"a": b"1"})
    before = all_pairs(environment, database)

    def fail() -> None:
        with environment.begin(db=database, write=True) as transaction:
            transaction.put(b"a", b"2")
            transaction.put(b"z", b"2")
            transaction.delete(b"b")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all_pairs(environment, database) == before
    put_all(environment, database, {b"z": b"3"})
    assert all_pairs(environment, database) == before | {b"z": b"3"}


def check_cursors(environment: Any, database: Any) -> None:
    put_all(environment, database, {b"b": b"1", b"d": b"2", b"f": b"3", b"h": b"4"})
    with environment.begin(db=database, write=True) as transaction:
        with transaction.cursor() as cursor:
            assert cursor.set_range(b"c") and cursor.key() == b"d" and cursor.value() == b"2"
            assert cursor.set_range(b"d") and cursor.key() == b"d", "at or after, not after"
            assert cursor.delete(), "leaves the cursor at the next item"
            assert cursor.key() == b"f" and cursor.value() == b"3"
            assert cursor.next() and cursor.key() == b"h"
            assert cursor.delete()
            assert cursor.key() == b"" and cursor.value() == b"", "past the end"
            assert cursor.set_range(b"") and cursor.key() == b"b"
            assert not cursor.set_range(b"g")
            assert cursor.key() == b""
            assert cursor.last() and cursor.key() == b"f"
            assert cursor.prev() and cursor.key() == b"b"
            assert not cursor.prev()
        assert [bytes(key) for key, _ in transaction.cursor()] == [b"b", b"f"]
    assert all_pairs(environment, database) == {b"b": b"1", b"f": b"3"}


def check_keys_are_ordered_as_bytes(environment: Any, database: Any) -> None:
    keys = [b"\x00", b"\x00\x00", b"\x01", b"a", b"a\x00", b"aa", b"b", b"\xff", b"\xff\xff"]
    put_all(environment, database, dict.fromkeys(reversed(keys), b""))
    assert list(all_pairs(environment, database)) == keys
    with environment.begin(db=database) as transaction:
        assert transaction.get(b"a") == b"", "an empty value is a value"
        assert transaction.get(b"absent") is None


def check_full_maps(environment: Any, database: Any) -> None:
    put_all(environment, database, {b"a": b"1"})
    environment.set_mapsize(1 << 20)

    def fill() -> None:
        with environment.begin(db=database, write=True) as transaction:
            transaction.put(b"a", b"2")
            for number in range(1000):
                transaction.put(b"fill %d" % number, bytes(4096))

    with pytest.raises(lmdb.MapFullError):
        fill()
    assert all_pairs(environment, database) == {b"a": b"1"}
    put_all(environment, database, {b"b": b"1"})
    environment.set_mapsize(1 << 24)
    fill()
    assert len(all_pairs(environment, database)) == 1002


def check_reopening(open_: Callable[[Path], Any], path: Path) -> None:
    with open_(path) as environment:
        one, two = environment.open_db(b"one"), environment.open_db(b"two")
        with environment.begin(write=True) as transaction:
            transaction.put(b"a", b"1", db=one)
            transaction.put(b"a", b"2", db=two)
    with open_(path) as environment:
        one, two = environment.open_db(b"one"), environment.open_db(b"two")
        assert all_pairs(environment, one) == {b"a": b"1"}
        assert all_pairs(environment, two) == {b"a": b"2"}


SEMANTICS = (
    check_readers_see_the_past,
    check_aborts_leave_nothing,
    check_cursors,
    check_keys_are_ordered_as_bytes,
    check_full_maps,
)


def check_semantics(open_: Callable[[Path], Any], directory: Path) -> None:
    """Put every question about meaning to the environments that `open_` makes, with room for two
    databases each, at new paths in `directory`."""
    for check in SEMANTICS:
        with open_(directory / check.__name__) as environment:
            check(environment, environment.open_db(DATABASE))
    check_reopening(open_, directory / "reopened")


def test_the_real_one(tmp_path: Path) -> None:
    check_semantics(open_two, tmp_path)


def test_the_model(tmp_path: Path) -> None:
    disk = SimulatedDisk(random.Random(1), (0.0, 0.0))
    check_semantics(lambda path: disk.environment(path, databases=2), tmp_path)
