"""`kvstore import --from-etcd`: a real etcd that never stops being written to is moved, whole."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.backup.etcd_moving import MoveMark, decode_mark, event_batches
from kvstore.backup.etcd_reading import EtcdEvent, EtcdKey
from kvstore.backup.importing import MARK_PREFIX
from kvstore.client import BlockingClient
from kvstore.errors import BackupError
from proof.processes.waiting import eventually
from tests.etcd.servers import Etcd
from tests.support.busy_etcd import EtcdWriter, b64, put
from tests.support.commands import run
from tests.support.real_cluster import Cluster, running_cluster
from tests.support.thread_node import thread_node

LONG_S = 300.0


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    made = Etcd()
    yield made
    made.stop()


@pytest.fixture
def ours() -> Iterator[Cluster]:
    with running_cluster(1) as made:
        yield made


def moving(etcd: Etcd, ours: Cluster, log: Path, *flags: str) -> subprocess.Popen[bytes]:
    where = ("--from-etcd", f"http://127.0.0.1:{etcd.port}", "--endpoints", ours.nodes[1].url)
    words = [sys.executable, "-m", "kvstore_cli.main", "import", *where, *flags]
    with log.open("ab") as out:
        return subprocess.Popen(words, stdout=out, stderr=out)


def moved(ours: Cluster) -> dict[bytes, tuple[bytes, int]]:
    with BlockingClient(ours.nodes[1].url) as store:
        return {
            entry.key: (entry.value, entry.lease)
            for entry in store.list()
            if not entry.key.startswith(MARK_PREFIX)
        }


def move_with_kills(etcd: Etcd, ours: Cluster, log: Path, keys: int, leases: int) -> None:
    writer = EtcdWriter(etcd.port)
    writer.fill(keys, leases)
    writer.start()
    process = moving(etcd, ours, log)
    for _ in range(3):  # while it copies, and while it follows
        eventually(lambda: b"copying" in log.read_bytes(), "it has begun", LONG_S)
        writer.more(60)
        process.kill()
        process.wait()
        writer.more(30)
        process = moving(etcd, ours, log)
    eventually(lambda: b"caught up" in log.read_bytes(), "it has caught up", LONG_S)
    writer.more(60)
    writer.stop()  # and goes on here, once the cut is made
    process.send_signal(signal.SIGINT)
    assert process.wait(LONG_S) == 0, log.read_text()
    assert "the same at etcd's revision" in log.read_text()
    theirs = writer.everything()
    assert moved(ours) == theirs
    held = {lease for _, lease in theirs.values() if lease}
    assert held, "no key is on a lease: the test shows less than it should"
    with BlockingClient(ours.nodes[1].url) as store:
        for lease in held:
            assert store.lease_status(lease).ttl_s == 600


@pytest.mark.proof
@pytest.mark.integration
def test_a_busy_etcd_is_moved_whole(etcd: Etcd, ours: Cluster, tmp_path: Path) -> None:
    move_with_kills(etcd, ours, tmp_path / "log", 500, 450)


@pytest.mark.proof
@pytest.mark.integration
def test_a_busy_etcd_of_a_hundred_thousand_keys_is_moved_whole(
    etcd: Etcd, ours: Cluster, tmp_path: Path
) -> None:
    move_with_kills(etcd, ours, tmp_path / "log", 100_000, 500)


def test_a_store_that_speaks_the_api_of_etcd_is_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours is one. What is not empty is left alone; a difference at the cut is told."""
    with thread_node(tmp_path / "a") as source, thread_node(tmp_path / "b") as target:
        writer = EtcdWriter(int(source.rpartition(":")[2]))
        writer.fill(150, 2)
        words = ("import", "--from-etcd", source, "--endpoints", target)
        with BlockingClient(target) as store:
            store.put("mine", "1")
            assert "is not empty" in run(capsys, *words, code=7)
            done = json.loads(run(capsys, *words, "--merge", "--once", "--json"))
            assert (done["keys"], done["leases"]) == (150, 2)
            held = {e.key: (e.value, e.lease) for e in store.list(prefix="key/")}
            assert held == writer.everything()
            writer.call("kv/deleterange", {"key": b64(b"key/000003")})
            writer.call("kv/put", put(b"key/000004", b"new"))
            run(capsys, *words, "--merge", "--once")
            assert store.get("key/000003") is None and store.get("key/000004").value == b"new"
            store.put("key/000001", "otherwise")
            said = run(capsys, *words, "--merge", "--once", code=7)
            assert "b'key/000001' differs" in said


def event(revision: int, key: bytes) -> EtcdEvent:
    return EtcdEvent(revision, key, EtcdKey(key, b"v", revision, 0))


def test_transactions_of_etcd_stay_whole() -> None:
    """Of each key the last event counts, and every batch ends where a revision does."""
    revisions = sorted([*range(1, 91)] * 3)
    events = [event(revision, b"%d" % n) for n, revision in enumerate(revisions)]
    batches = list(event_batches(events, 0))
    assert [each for batch in batches for each in batch.last_of_key] == events
    assert [batch.mark for batch in batches] == [MoveMark(n, None) for n in (33, 66, 90)]
    again = [event(revision, b"%d" % (n % 7)) for n, revision in enumerate(revisions)]
    (batch,) = event_batches(again, 0)
    assert batch.last_of_key == again[-7:] and batch.events == 270


def test_a_transaction_that_is_too_large_for_one_is_gone_on_with() -> None:
    large = [event(6, b"0"), *(event(7, b"%d" % n) for n in range(250))]
    marks = [MoveMark(6, None), MoveMark(6, None, 100), MoveMark(6, None, 200), MoveMark(7, None)]
    batches = list(event_batches(large, 0))
    assert [batch.mark for batch in batches] == marks
    for mark, rest in zip(marks[1:3], (150, 50), strict=True):
        resumed = list(event_batches(large[1:], mark.part))
        assert sum(batch.events for batch in resumed) == rest
        assert resumed[-1].mark == MoveMark(7, None)
    assert list(event_batches([], 0)) == []


def test_a_mark_comes_back() -> None:
    for mark in (MoveMark(), MoveMark(7, b"\xff"), MoveMark(7, None, 3)):
        assert decode_mark(mark.encode()) == mark
    assert decode_mark("") == MoveMark()
    with pytest.raises(BackupError):
        decode_mark("{}")
