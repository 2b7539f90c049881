"""Directories and S3 keep files alike; a backup in S3 restores. The S3 server is moto's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from kvstore.backup.catalogue import Base
from kvstore.backup.log_writing import ChangeLogWriter
from kvstore.backup.restoring import restore
from kvstore.backup.sources import RestorePoint
from kvstore.backup.targets import BackupTarget, open_target
from kvstore.client import Change, Entry, Event
from kvstore.commands import commands as c
from kvstore.errors import BackupError, InvalidArgument
from tests.support.backup_files import CLUSTER, write_backup
from tests.support.driven_state import Driven


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that has one bucket."""
    import boto3

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="backups")
    yield "s3://backups"
    patch.undo()
    server.stop()


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "kept")
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def test_files_by_name(place: str, tmp_path: Path) -> None:
    target: BackupTarget = open_target(place)
    assert target.names() == []
    target.write("b", b"1")
    target.write("b", b"2")
    (tmp_path / "large").write_bytes(bytes(10_000_000))
    target.store("a", tmp_path / "large")
    assert target.names() == ["a", "b"] and target.read("b") == b"2"
    target.fetch("a", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == bytes(10_000_000)
    for _ in range(2):
        target.remove("a")
    assert open_target(place).names() == ["b"]


def test_a_continuous_backup_restores(place: str, tmp_path: Path) -> None:
    one, target = Driven(tmp_path / "one.mdb"), open_target(place)
    one.apply(c.Put(b"a", b"1"))
    header = write_backup(one.store, one.state, tmp_path / "b.kvb", created_ms=1000)
    target.store(Base(header.revision, 1000).name, tmp_path / "b.kvb")
    times = iter((2000, 3000, 4000, 5000))
    writer = ChangeLogWriter(target, CLUSTER, header.revision, lambda: next(times))
    for revision in (3, 4, 5):
        put = Event(False, Entry(b"a", b"%d" % revision, 2, revision, revision - 1))
        writer.add(Change(revision, (put,)))
        writer.write()
    writer.add(Change(6, (Event(True, Entry(b"a", b"", 0, 6, 0)),)))
    writer.write()
    for wanted, value in (
        (RestorePoint(2), b"1"),
        (RestorePoint(4), b"4"),
        (RestorePoint(None, 1999), b"1"),
        (RestorePoint(None, 4500), b"5"),
        (RestorePoint(6), None),
        (RestorePoint(), None),
    ):
        node = tmp_path / f"n{wanted}"
        done = restore(place, [node], wanted)
        state = Driven(node / "state.mdb")
        found = state.state.get(b"a")
        assert (None if found is None else found.value) == value
        assert done.built.keys == (value is not None) and done.built.revision > 10**9
        state.store.close()
    for wanted in (RestorePoint(7), RestorePoint(None, 999)):
        with pytest.raises(BackupError, match=r"not in this backup|before the first base"):
            restore(place, [tmp_path / "none"], wanted)


def test_a_damaged_piece_is_named(place: str, tmp_path: Path) -> None:
    one, target = Driven(tmp_path / "one.mdb"), open_target(place)
    header = write_backup(one.store, one.state, tmp_path / "b.kvb", created_ms=1000)
    target.store(Base(header.revision, 1000).name, tmp_path / "b.kvb")
    writer = ChangeLogWriter(target, CLUSTER, header.revision)
    writer.add(Change(2, (Event(False, Entry(b"a", b"1", 2, 2, 1)),)))
    writer.write()
    (name,) = (name for name in target.names() if name.startswith("changes"))
    data = bytearray(target.read(name))
    data[-70] ^= 1
    target.write(name, bytes(data))
    with pytest.raises(BackupError, match=name):
        restore(place, [tmp_path / "n"], RestorePoint())
    assert not (tmp_path / "n").exists()


def test_errors_of_s3_are_told(s3: str) -> None:
    with pytest.raises(BackupError, match=r"s3://nowhere/x: .*bucket"):
        open_target("s3://nowhere/x").names()
    with pytest.raises(InvalidArgument):
        open_target("s3:///x")
