"""`kvstore check`: what is sound is called so and stays as it is; damage is noticed or harmless."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from kvstore.backup.directory_checks import check_directory
from kvstore.backup.inspecting import Contents, contents_of, inspect
from kvstore.backup.read_only_disk import ReadOnlyDisk
from kvstore.commands import commands as c
from kvstore.errors import BackupError
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore
from kvstore_cli.main import main
from tests.support.backup_files import checkpoint, write_backup
from tests.support.damage import in_processes, trials
from tests.support.driven_state import Driven
from tests.support.etcd_node import EtcdNode, on_node, put_op
from tests.support.examples import TIMES


def nobody(_done: int, _of: int) -> None: ...


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a node that has seen a little of everything."""
    path = tmp_path_factory.mktemp("node")

    async def test(node: EtcdNode) -> None:
        await node.ok("lease/grant", TTL=60, ID=7)
        for number in range(120):
            size = 6000 if number % 30 == 0 else number
            await node.ok("kv/put", key=b"k%d" % (number % 40), value=os.urandom(size))
        await node.ok("kv/txn", success=[put_op(b"t%d" % n, b"\0" * 1024) for n in range(20)])
        await node.ok("kv/put", key=b"leased", lease=7)
        await node.ok("kv/deleterange", key=b"k1", range_end=b"k2")
        await node.ok("kv/compaction", revision=60)
        await node.ok("auth/user/add", name="root", password="x")

    on_node(path, test, checkpoint_interval_s=0.1, log_segment_bytes=1 << 16)
    (path / "node" / "log" / "spare").unlink(missing_ok=True)
    return path / "node"


def test_a_sound_directory_is_sound_and_nothing_is_changed(made: Path) -> None:
    before = files_of(made)
    report = check_directory(made, nobody)
    assert report.problems == [] and report.notes == []
    assert (report.node, report.revision, report.compacted_revision) == (1, 124, 60)
    assert report.keys == 50 and report.chosen_through >= report.applied_through > 0
    assert files_of(made) == before


def test_of_the_command_line(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(made)]) == 0
    assert capsys.readouterr().out.endswith("sound\n")
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    data = (broken / "state.mdb").read_bytes()
    # Wherever it is: some of these pages are free, and what is in them harms nobody.
    (broken / "state.mdb").write_bytes(data.replace(b"leased", b"leaked"))
    assert main(["check", str(broken), "--json"]) == 7
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert problems and all(str(broken / "state.mdb") in problem for problem in problems)
    assert main(["check", str(tmp_path / "none")]) == 7
    assert "is no data directory" in capsys.readouterr().err


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    async def test(node: EtcdNode) -> None:
        with pytest.raises(BackupError, match="is in use"):
            check_directory(tmp_path / "node", nobody)

    on_node(tmp_path, test)


def test_indexes_that_do_not_fit_each_other_are_told(made: Path, tmp_path: Path) -> None:
    """Every record of it is sound by itself."""
    for table, key, says in (
        ("lease_keys", (7).to_bytes(8, "big") + b"leased", "does not name its key b'leased'"),
        ("leases", (7).to_bytes(8, "big"), "which is not there"),
        ("keys", b"leased", "is not on lease 7"),
        ("deleted", b"k1", ""),
    ):
        broken = tmp_path / table
        shutil.copytree(made, broken)
        store = StateStore(broken / "state.mdb")
        store.tables[table].delete(key)
        store.freeze()
        store.write_frozen(lambda _: None)
        store.close()
        problems = check_directory(broken, nobody).problems
        assert not says or any(says in problem for problem in problems), (table, problems)


def test_a_gap_between_log_and_state_is_told(made: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    (broken / "state.mdb").unlink()
    one = Driven(broken / "state.mdb")
    one.apply(c.Put(b"a", b"1"))
    checkpoint(one.store, one.state)
    one.store.close()
    report = check_directory(broken, nobody)
    assert report.problems == [] or "what is between is lost" in report.problems[0]


def look_at_state(directory: Path) -> str:
    """Noticed, or every answer is what it was."""
    expected = json.loads((directory / "expected").read_text())
    report = check_directory(directory, nobody)
    if report.problems:
        assert any(str(directory) in problem for problem in report.problems), report.problems
        return report.problems[0]
    store = StateStore(directory / "state.mdb", ReadOnlyDisk())
    state = StateMachine(store)
    found = contents_of(state.range(b"", None, limit=1000).items)
    store.close()
    assert [*found, report.revision] == expected, "a wrong answer"
    return ""


def look_at_log(directory: Path) -> str:
    """Noticed, or a torn end is cut off that may be one: no chosen slot is another than it was."""
    expected = json.loads((directory / "chosen").read_text())
    report = check_directory(directory, nobody)
    if report.problems:
        assert any(str(directory) in problem for problem in report.problems), report.problems
        return report.problems[0]
    if not report.notes:
        assert report.chosen_through == expected, "a wrong answer"
    assert report.chosen_through <= expected
    return ""


def look_at_backup(directory: Path) -> str:
    """Noticed: nothing in a backup is without meaning."""
    expected = Contents(*json.loads((directory / "expected").read_text()))
    with pytest.raises(BackupError, match=re.escape(str(directory / "b.kvb"))) as noticed:
        assert inspect(directory / "b.kvb").contents == expected, "a wrong answer"
    return str(noticed.value)


def prepared(made: Path, to: Path) -> Path:
    """The node's directory, with what its answers are."""
    shutil.copytree(made, to)
    store = StateStore(to / "state.mdb", ReadOnlyDisk())
    state = StateMachine(store)
    contents = contents_of(state.range(b"", None, limit=1000).items)
    (to / "expected").write_text(json.dumps([*contents, state.revision]))
    store.close()
    (to / "chosen").write_text(json.dumps(check_directory(to, nobody).chosen_through))
    return to


def backed_up(to: Path) -> Path:
    to.mkdir()
    one = Driven(to / "one.mdb")
    for number in range(60):
        one.apply(c.Put(b"k%d" % number, os.urandom(200)))
    write_backup(one.store, one.state, to / "b.kvb")
    one.store.close()
    (to / "expected").write_text(json.dumps(inspect(to / "b.kvb").contents))
    for name in ("one.mdb", "one.mdb-lock"):
        (to / name).unlink()
    return to


def log_of(directory: Path) -> str:
    """The segment that is longest, from the top of the directory."""
    segments = (directory / "log").glob("*.segment")
    return f"log/{max(segments, key=lambda path: path.stat().st_size).name}"


def check_all(made: Path, tmp_path: Path, count: int) -> None:
    node = prepared(made, tmp_path / "node")
    assert in_processes(node, "state.mdb", look_at_state, count) == []
    assert in_processes(node, log_of(node), look_at_log, count) == []
    assert in_processes(backed_up(tmp_path / "b"), "b.kvb", look_at_backup, count) == []


def test_damage_is_noticed_or_harmless(made: Path, tmp_path: Path) -> None:
    node = prepared(made, tmp_path / "node")
    assert trials(node, "state.mdb", look_at_state, 0, 12) == []
    assert trials(node, log_of(node), look_at_log, 0, 12) == []
    assert trials(backed_up(tmp_path / "b"), "b.kvb", look_at_backup, 0, 12) == []


@pytest.mark.proof
def test_a_thousand_times_damage_is_noticed_or_harmless(made: Path, tmp_path: Path) -> None:
    """In processes of their own; with EXAMPLES_TIMES=10 it is ten thousand times."""
    check_all(made, tmp_path, 340 * TIMES)
