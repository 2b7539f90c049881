"""The data directory: one user, one node, starts that count up."""

import errno
import shutil
from pathlib import Path

import pytest

from kvstore.errors import StorageError
from kvstore.storage import disk
from kvstore.storage.data_dir import DataDir, backup_name
from kvstore.storage.disk import SystemDisk
from kvstore.storage.segment_log import SegmentLog


def open_dir(path: Path, node: int = 1, configuration: str = "1,2/2/2") -> DataDir:
    return DataDir(path, node, configuration, "new")


def test_starts_are_counted_and_members_stay(tmp_path: Path) -> None:
    first = open_dir(tmp_path)
    first.keep(1, {1: "new", 2: "x"}, True, None)
    with pytest.raises(StorageError, match="in use"):
        open_dir(tmp_path)
    first.close()
    SegmentLog(tmp_path / "log").restore()
    second = DataDir(tmp_path, 1, "1,2/2/2", "other")
    assert (second.identity.starts, second.identity.incarnation) == (2, "new")
    assert second.identity.pinned == {1: "new", 2: "x"} and second.identity.formed
    second.close()


def test_copies_for_clients_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    left = [tmp_path / name for name in ("snapshot.backup", backup_name(0), backup_name(3))]
    for path in left:
        path.write_bytes(b"half a copy")
    open_dir(tmp_path).close()
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize(("node", "configuration"), [(2, "1,2/2/2"), (1, "1,2,3/2/2")])
def test_of_another_node_or_configuration(tmp_path: Path, node: int, configuration: str) -> None:
    open_dir(tmp_path).close()
    with pytest.raises(StorageError):
        open_dir(tmp_path, node, configuration)


class FullDisk(SystemDisk):
    """It has room for nothing while one of these files is there."""

    def __init__(self, *files: Path) -> None:
        self._files = files

    def replace(self, path: Path, data: bytes) -> None:
        if any(file.exists() for file in self._files):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().replace(path, data)


def test_on_a_full_disk_what_nobody_needs_gives_way(tmp_path: Path) -> None:
    """And when that is not enough the start is refused, and may be tried again."""
    open_dir(tmp_path).close()
    (tmp_path / "log").mkdir()
    names = "snapshot.incoming", "snapshot.outgoing", "log/ahead", "log/new"
    left = [tmp_path / name for name in names]
    for path in left:
        path.write_bytes(b"half made")
    made = DataDir(tmp_path, 1, "1,2/2/2", "new", FullDisk(*left))
    assert made.identity.starts == 2 and not any(path.exists() for path in left)
    made.close()
    (tmp_path / "films").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot be written: .*; make room on its disk"):
        DataDir(tmp_path, 1, "1,2/2/2", "new", FullDisk(tmp_path / "films"))
    again = open_dir(tmp_path)
    assert again.identity.starts == 3
    again.close()


def test_a_log_without_identity_is_refused(tmp_path: Path) -> None:
    SegmentLog(tmp_path / "log").restore()
    with pytest.raises(StorageError, match=r"identity\.json"):
        open_dir(tmp_path)


def test_a_damaged_identity_is_refused(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{")
    with pytest.raises(StorageError, match="not readable"):
        open_dir(tmp_path)


@pytest.mark.parametrize("formed", [False, True])
@pytest.mark.parametrize("left", ["nothing", "an empty directory", "other files"])
def test_a_lost_log_is_refused_once_members_are_pinned(
    tmp_path: Path, left: str, formed: bool
) -> None:
    first = open_dir(tmp_path)
    SegmentLog(first.log_path).restore()
    first.keep(1, {1: "new"}, formed, None)
    first.close()
    first.log_path.rename(tmp_path / "kept")
    if left != "nothing":
        first.log_path.mkdir()
    if left == "other files":
        (first.log_path / "spare").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StorageError, match="lost its log, and"):
            open_dir(tmp_path)
    shutil.rmtree(first.log_path, ignore_errors=True)
    (tmp_path / "kept").rename(first.log_path)
    second = open_dir(tmp_path)
    assert second.identity.starts == 2, "refused starts do not count"
    second.close()


def test_before_any_member_is_pinned_there_is_no_log_to_lose(tmp_path: Path) -> None:
    open_dir(tmp_path).close()
    open_dir(tmp_path).close()


def test_another_configuration_is_refused_by_name(tmp_path: Path) -> None:
    open_dir(tmp_path).close()
    with pytest.raises(StorageError, match=r"made for .* 1,2/2/2, .* configured with 1,2/1/2"):
        open_dir(tmp_path, configuration="1,2/1/2")


def test_another_format_is_refused(tmp_path: Path) -> None:
    open_dir(tmp_path).close()
    file = tmp_path / "identity.json"
    file.write_text(file.read_text().replace('"format": 4', '"format": 99'))
    with pytest.raises(StorageError, match="format 99"):
        open_dir(tmp_path)


@pytest.mark.parametrize(("node", "configuration"), [(2, "1,2/2/2"), (1, "1,2,3/2/2")])
def test_a_failed_open_gives_the_lock_back(tmp_path: Path, node: int, configuration: str) -> None:
    open_dir(tmp_path).close()
    before = (tmp_path / "identity.json").read_bytes()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"belongs to|was made for"):
            open_dir(tmp_path, node, configuration)
    assert (tmp_path / "identity.json").read_bytes() == before
    open_dir(tmp_path).close()


FORMAT_3 = (
    '{"node_id": 1, "incarnation": "abc", "life": %d, "configuration": "1,2/2/2", '
    '"pinned": {"1": "abc"}, "formed": true, "format": 3}'
)
FORMAT_4 = (
    '{"node_id": 1, "incarnation": "abc", "life": %d, "configuration": "1,2/2/2", '
    '"pinned": {"1": "abc"}, "formed": true, "format": 4, "begun_as": 1, "roster": null}'
)


@pytest.mark.parametrize("written", [FORMAT_3, FORMAT_4])
def test_the_file_is_that_of_its_format(tmp_path: Path, written: str) -> None:
    """Byte for byte: this program must read what an older one wrote."""
    file = tmp_path / "identity.json"
    file.write_text(written % 4)
    SegmentLog(tmp_path / "log").restore()
    held = open_dir(tmp_path)
    assert (held.identity.starts, held.identity.incarnation) == (5, "abc")
    held.close()
    assert file.read_text() == FORMAT_4 % 5


def test_a_new_directory_and_its_parents_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(disk, "_sync_directory", synced.append)
    disk.SYSTEM_DISK.make_directory(tmp_path / "a" / "b")
    assert set(synced) == {tmp_path, tmp_path / "a"}
    synced.clear()
    disk.SYSTEM_DISK.make_directory(tmp_path / "a" / "b")
    assert synced == []
