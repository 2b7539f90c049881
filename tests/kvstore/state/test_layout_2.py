"""A state file as release 0.2 wrote it answers everything as it did then."""

import json
import lzma
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple

from kvstore.commands.commands import Compact, Put
from kvstore.commands.operations import KeyValue
from kvstore.errors import StorageError
from kvstore.replica.layouts import bring_state_up_to_date
from kvstore.state.mvcc import KeyEvent
from kvstore.storage.disk import SYSTEM_DISK
from kvstore.storage.environment import open_environment
from tests.support.driven_state import Driven

RECORDED = Path(__file__).parent / "layout_2"
ANSWERS: dict[str, Any] = json.loads(lzma.decompress((RECORDED / "answers.json.xz").read_bytes()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.mdb"
    path.write_bytes(lzma.decompress((RECORDED / "state.mdb.xz").read_bytes()))
    return path


def text(data: bytes) -> str:
    return b64encode(data).decode()


def item(found: KeyValue | None) -> list[Any] | None:
    if found is None:
        return None
    return [text(found.key), text(found.value), *astuple(found)[2:]]


def event(of: KeyEvent) -> list[Any]:
    return [item(of.item), of.deleted, item(of.previous)]


def answers(driven: Driven, wanted: dict[str, Any]) -> dict[str, Any]:
    state = driven.state
    first, last = wanted["compacted"], wanted["revision"]
    names = [b64decode(name) for name in wanted["names"]]
    return {
        "compacted": state.compacted_revision,
        "revision": state.revision,
        "digest": text(state.digest),
        "applied": state.applied_through,
        "ranges": {
            str(at): [item(i) for i in state.range(b"", None, revision=at, limit=100).items]
            for at in range(first, last + 1)
        },
        "gets": {
            str(at): [item(state.get(name, at)) for name in names] for at in range(first, last + 1)
        },
        "names": wanted["names"],
        "histories": {
            text(name): [event(e) for e in state.history(name, 1000).events]
            for name in [*names, b"z"]
        },
        "changes": [
            [revision, [event(e) for e in events]]
            for revision, events in state.changes(first, 10_000)
        ],
        "lease_keys": [text(key) for key in state.leases.keys(5)],
    }


def test_everything_is_there_and_goes_on(path: Path) -> None:
    assert bring_state_up_to_date(path, SYSTEM_DISK)
    assert not bring_state_up_to_date(path, SYSTEM_DISK), "once"
    driven = Driven(path)
    driven.log = [b""] * ANSWERS["applied"]
    found = answers(driven, ANSWERS)
    # Of what the compacted revision superseded, what was there before was answered or not.
    for side in (found, ANSWERS):
        for one in side["changes"][0][1]:
            one[2] = None
    assert found == ANSWERS
    assert len(found["changes"]) > 100
    # Writing goes on, and compaction takes all of it away.
    driven.apply(Put(b"a", b"new"), Put(b"b", b"new"))
    driven.apply(Compact(driven.state.revision))
    for _ in range(2):
        driven.apply(Put(b"c", b""))
        driven.checkpoint()
    assert driven.state.get(b"a").value == b"new"  # type: ignore[union-attr]
    assert len(list(driven.store.tables["history"].scan(b"", None))) <= 4
    driven.store.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["state.mdb", "state.mdb-lock"]


def test_what_is_missing_is_refused_and_the_file_stays(path: Path) -> None:
    environment = open_environment(path, 9)
    versions = environment.open_db(b"versions")
    with environment.begin(write=True) as transaction:
        cursor = transaction.cursor(db=versions)
        assert cursor.last() and cursor.delete()
    environment.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"state\.mdb is damaged: the record before or after"):
        bring_state_up_to_date(path, SYSTEM_DISK)
    assert path.read_bytes() == before


def test_no_file_and_a_new_one_are_left_alone(tmp_path: Path) -> None:
    assert not bring_state_up_to_date(tmp_path / "state.mdb", SYSTEM_DISK)
    Driven(tmp_path / "state.mdb").store.close()
    assert not bring_state_up_to_date(tmp_path / "state.mdb", SYSTEM_DISK)
