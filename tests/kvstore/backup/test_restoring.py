"""A restored cluster holds what the old one held at that revision, and cannot be taken for it."""

import json
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.backup import building, restoring
from kvstore.backup.inspecting import inspect
from kvstore.backup.restoring import JUMP_MIN, restore
from kvstore.backup.sources import RestorePoint
from kvstore.commands import commands as c
from kvstore.commands.accounts import ROOT, AddRole, AddUser, Enable, GrantRole
from kvstore.commands.operations import KeyValue, Transaction, TxnPut
from kvstore.commands.results import Written
from kvstore.errors import BackupError, DuplicateKey, InvalidArgument, RevisionCompacted
from kvstore.state.state_machine import StateMachine
from kvstore.state.transactions import check
from kvstore.storage.state import StateStore
from tests.support.backup_files import write_backup
from tests.support.driven_state import Driven
from tests.support.examples import TIMES
from tests.support.naive_store import COMMANDS


def items(state: StateMachine, revision: int = 0) -> list[KeyValue]:
    return state.range(b"", None, revision=revision, limit=100_000).items


def restored(directory: Path) -> Driven:
    """The state of a restored directory, driven on from its slot."""
    driven = Driven(directory / "state.mdb")
    driven.log = [b""] * driven.state.applied_through
    return driven


@settings(max_examples=15 * TIMES)
@given(st.lists(COMMANDS, min_size=1, max_size=40), st.data())
def test_any_revision_comes_back(commands: list[c.StoreCommand], data: st.DataObject) -> None:
    directory = Path(tempfile.mkdtemp())
    one = Driven(directory / "one.mdb")
    try:
        for command in commands:
            if isinstance(command, Transaction):
                try:
                    check(command)
                except DuplicateKey:
                    continue
            one.apply(command)
        write_backup(one.store, one.state, directory / "b.kvb")
        found = inspect(directory / "b.kvb")
        assert found.contents.keys == len(items(one.state))
        lowest = max(1, one.state.compacted_revision)
        wanted = data.draw(st.integers(lowest, one.state.revision))
        done = restore(
            str(directory / "b.kvb"), [directory / "n1", directory / "n2"], RestorePoint(wanted)
        )
        expected = items(one.state, wanted)
        nodes = [restored(directory / name) for name in ("n1", "n2")]
        for node in nodes:
            state = node.state
            assert items(state) == items(state, state.revision) == expected
            assert state.revision == done.built.revision >= one.state.revision + JUMP_MIN
            held = {item.lease for item in expected if item.lease}
            assert held <= {lease for lease, _ in state.leases.all()}
            for lease in held:
                keys = [item.key for item in expected if item.lease == lease]
                assert state.leases.keys(lease) == keys
            for old in {1, wanted, one.state.revision, state.revision - 1}:
                with pytest.raises(RevisionCompacted):
                    state.get(b"k", old)
                with pytest.raises(RevisionCompacted):
                    state.changes(old, 1)
        drive_on(nodes, expected)
    finally:
        one.store.close()
        shutil.rmtree(directory)


def drive_on(nodes: list[Driven], held: list[KeyValue]) -> None:
    """Writes go on above, history begins here, and both nodes agree on every byte."""
    first = nodes[0].state.revision
    for node in nodes:
        for item in held:
            assert node.apply(c.Put(item.key, b"new")) == [
                Written(node.state.revision, item.version + 1, item.create_revision)
            ]
            node.apply(c.Delete(item.key))
            node.apply(c.Put(item.key, b"again"))
            node.checkpoint()
            assert node.state.get(item.key, first) == item
        for lease, _ in list(node.state.leases.all()):
            node.apply(c.Revoke(lease))
    assert nodes[0].state.digest == nodes[1].state.digest
    for node in nodes:
        node.store.close()


@pytest.fixture
def one(tmp_path: Path) -> Driven:
    return Driven(tmp_path / "one.mdb")


def test_a_lease_that_ended_since_is_granted_again(one: Driven, tmp_path: Path) -> None:
    one.apply(c.Grant(7, 600), c.Grant(8, 600), c.Put(b"a", b"1", lease=7), c.Put(b"b", b"1"))
    one.apply(c.Revoke(7))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    done = restore(str(tmp_path / "b.kvb"), [tmp_path / "n"], RestorePoint(2))
    node = restored(tmp_path / "n")
    assert [item.key for item in items(node.state)] == [b"a"] and done.built.leases_again == 1
    assert dict(node.state.leases.all()) == {7: building.LEASE_AGAIN_S, 8: 600}
    node.apply(expired=(7,), ballot=node.state.leader_ballot, known_through=10)
    assert items(node.state) == []
    node.store.close()


def test_tokens_are_void_and_passwords_are_not(one: Driven, tmp_path: Path) -> None:
    changes = AddUser(ROOT, b"hash"), AddRole(ROOT), GrantRole(ROOT, ROOT), Enable(b"s" * 32)
    one.apply(*(c.Administer(change) for change in changes))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    restore(str(tmp_path / "b.kvb"), [tmp_path / "n1", tmp_path / "n2"], RestorePoint())
    states = [restored(tmp_path / name) for name in ("n1", "n2")]
    for node in states:
        accounts = node.state.auth
        assert accounts.enabled and accounts.users[ROOT].password == b"hash"
        assert accounts.secret != b"s" * 32 and len(accounts.secret) == 32
    assert states[0].state.auth.secret == states[1].state.auth.secret
    for node in states:
        node.store.close()


def test_kept_answers_go_when_their_writes_do(one: Driven, tmp_path: Path) -> None:
    once = c.Once(b"idem", c.Put(b"a", b"1"), 600_000)
    one.apply(once)
    one.apply(c.Put(b"b", b"1"))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    for name, wanted in (("now", RestorePoint()), ("then", RestorePoint(1))):
        restore(str(tmp_path / "b.kvb"), [tmp_path / name], wanted)
        node = restored(tmp_path / name)
        assert (node.state.kept_answer(once) is not None) == (name == "now")
        assert (node.state.get(b"a") is not None) == (name == "now")
        node.store.close()


def test_the_directories_are_those_of_new_nodes(one: Driven, tmp_path: Path) -> None:
    one.apply(c.Put(b"a", b"1"))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    paths = [tmp_path / "deep" / f"n{number}" for number in (1, 2, 3)]
    restore(str(tmp_path / "b.kvb"), paths, RestorePoint())
    identities = [json.loads((path / "identity.json").read_text()) for path in paths]
    assert [each["node_id"] for each in identities] == [1, 2, 3]
    assert len({each["incarnation"] for each in identities}) == 3
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["n1", "n2", "n3"]


@pytest.mark.parametrize("trouble", ["in use", "twice", "none", "a file"])
def test_nothing_is_overwritten(trouble: str, one: Driven, tmp_path: Path) -> None:
    one.apply(c.Put(b"a", b"1"))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    paths = {
        "in use": [tmp_path / "free", tmp_path / "held"],
        "twice": [tmp_path / "free", tmp_path / "free"],
        "none": [],
        "a file": [tmp_path / "b.kvb"],
    }[trouble]
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "precious").write_bytes(b"1")
    with pytest.raises(InvalidArgument):
        restore(str(tmp_path / "b.kvb"), paths, RestorePoint())
    assert (tmp_path / "held" / "precious").read_bytes() == b"1" and not (
        tmp_path / "free"
    ).exists()


def test_what_fails_on_the_way_leaves_nothing(
    one: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.apply(c.Put(b"a", b"1"))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    real, made = restoring.write_directory, []

    def second_fails(path: Path, *rest: object) -> None:
        if made:
            raise OSError(28, "No space left on device")
        made.append(path)
        real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(restoring, "write_directory", second_fails)
    with pytest.raises(OSError, match="No space"):
        restore(str(tmp_path / "b.kvb"), [tmp_path / "n1", tmp_path / "n2"], RestorePoint())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.kvb", "one.mdb", "one.mdb-lock"]


def test_revisions_begin_above_all_that_the_old_cluster_can_have_reached(
    one: Driven, tmp_path: Path
) -> None:
    one.apply(c.Put(b"a", b"1"))
    year_ms = 365 * 86_400_000
    old_ms = int(time.time() * 1000) - year_ms
    write_backup(one.store, one.state, tmp_path / "b.kvb", created_ms=old_ms)
    done = restore(str(tmp_path / "b.kvb"), [tmp_path / "n"], RestorePoint())
    assert done.built.revision >= 100 * year_ms
    higher = restore(
        str(tmp_path / "b.kvb"), [tmp_path / "m"], RestorePoint(), revision_above=10**14
    ).built.revision
    assert higher > 10**14


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (RestorePoint(1), "holds revisions from 4 to 6"),
        (RestorePoint(9), "it ends at 6"),
        (RestorePoint(None, 1000), "does not say when"),
    ],
)
def test_a_moment_that_is_not_there(
    wanted: RestorePoint, says: str, one: Driven, tmp_path: Path
) -> None:
    for number in range(5):
        one.apply(c.Put(b"a", b"%d" % number))
    one.apply(c.Compact(4))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    with pytest.raises(BackupError, match=says):
        restore(str(tmp_path / "b.kvb"), [tmp_path / "n"], wanted)
    assert not (tmp_path / "n").exists()


def test_large_states_are_written_piece_by_piece(
    one: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "UNWRITTEN_BYTES_MAX", 4096)
    monkeypatch.setattr(building, "PAGE_KEYS", 7)
    for number in range(100):
        one.apply(
            Transaction((), (TxnPut(b"%03d" % number, bytes(300)),), ()), c.Grant(number + 1, 9)
        )
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    restore(str(tmp_path / "b.kvb"), [tmp_path / "n"], RestorePoint(80))
    store = StateStore(tmp_path / "n" / "state.mdb")
    assert items(StateMachine(store)) == items(one.state, 80)
    store.close()
