"""What a node keeps is private, whatever the umask, and what is another's is refused."""

import os
import stat
from pathlib import Path

import pytest

from kvstore.errors import StorageError
from kvstore_cli.node import private_dir
from kvstore_cli.node.private_dir import make_private
from tests.support.real_cluster import running_cluster


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_what_is_there_is_taken_from_others(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "data"
    make_private(directory)
    assert mode(directory) == 0o700
    (directory / "made-later").write_text("x")
    assert mode(directory / "made-later") == 0o600
    directory.chmod(0o755)
    (directory / "log").mkdir(mode=0o755)
    (directory / "log").chmod(0o755)
    (directory / "state.mdb").write_text("x")
    (directory / "state.mdb").chmod(0o664)
    make_private(directory)
    assert mode(directory) == 0o700 == mode(directory / "log")
    assert mode(directory / "state.mdb") == 0o600


def test_what_is_anothers_is_refused_with_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_dir.os, "getuid", lambda: 4242)
    with pytest.raises(StorageError, match=f"runs as 4242; mend it with: chown -R 4242 {tmp_path}"):
        make_private(tmp_path)


@pytest.mark.integration
@pytest.mark.usefixtures("open_umask")
def test_a_nodes_files() -> None:
    with running_cluster(1) as cluster:
        directory = cluster.nodes[1].data_dir
        found = {path: mode(path) for path in directory.rglob("*")}
        assert mode(directory) == 0o700 and len(found) > 2
        assert {m for path, m in found.items() if path.is_file()} == {0o600}, found
