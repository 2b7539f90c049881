"""Restores a backup into data directories of a new cluster.

Nothing of the new cluster can be taken for the old one: its nodes draw new incarnations, from
which its id follows, and its revisions begin above all that the old one may have handed out.
"""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kvstore.backup.building import Built, StateBuilder
from kvstore.backup.headers import BackupHeader
from kvstore.backup.parts import private
from kvstore.backup.sources import RestorePoint, StartingPoint, choose
from kvstore.backup.state_files import opened
from kvstore.backup.targets import sync_directory
from kvstore.backup.unpacking import Advance, nobody_watches
from kvstore.errors import BackupError, InvalidArgument
from kvstore.peers.founding import founding_text
from kvstore.storage.data_dir import DataDir
from kvstore.storage.state import lock_of
from paxos.ballot import NodeId
from paxos.configuration import Configuration
from paxos.quorum import majority

REVISIONS_PER_MS = 100
"""More than a cluster hands out: what it may have done since the backup is counted so."""
JUMP_MIN = 1_000_000_000
REVISION_MAX = 1 << 53
"""JSON readers round numbers above."""


class RestoredCluster(NamedTuple):
    """What was made of which backup."""

    header: BackupHeader
    built: Built
    directories: dict[NodeId, Path]


def restore(
    source: str,
    directories: Sequence[Path],
    wanted: RestorePoint,
    *,
    revision_above: int = 0,
    advance: Advance = nobody_watches,
) -> RestoredCluster:
    """Make a data directory for each node of a new cluster, nodes 1, 2, … in this order.

    None may be there yet, or hold anything. `revision_above`: the new cluster's revisions begin
    above that too. Raises BackupError, InvalidArgument, StorageError, OSError; then none of the
    directories is there.
    """
    nodes = dict(enumerate(directories, 1))
    _check_directories(directories)
    parent = directories[0].absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".restore-", dir=parent) as work, ExitStack() as undo:
        old, new = Path(work) / "old.mdb", Path(work) / "state.mdb"
        chosen = choose(source, wanted, old, advance)
        built = build(chosen, old, new, revision_above)
        for node, path in nodes.items():
            undo.callback(shutil.rmtree, _partial(path), ignore_errors=True)
            write_directory(_partial(path), node, nodes, new)
        for path in directories:
            undo.callback(shutil.rmtree, path, ignore_errors=True)
            if path.exists():
                path.rmdir()
            _partial(path).rename(path)
            sync_directory(path.absolute().parent)
        undo.pop_all()
    return RestoredCluster(chosen.header, built, nodes)


def build(chosen: StartingPoint, old: Path, new: Path, revision_above: int = 0) -> Built:
    """The state's file of a new cluster at `new`. Raises BackupError, OSError."""
    known, known_ms = max(chosen.header.revision, revision_above), chosen.header.created_ms
    builder = StateBuilder(new)
    try:
        with opened(old) as (store, state):
            builder.take(store, state, chosen.base_revision)
        for change in chosen.changes():
            for key_change in change.key_changes():
                builder.change(key_change)
            known, known_ms = max(known, change.revision), max(known_ms, change.time_ms)
        age_ms = max(0, int(time.time() * 1000) - known_ms)
        revision = known + max(JUMP_MIN, age_ms * REVISIONS_PER_MS)
        if revision > REVISION_MAX:
            raise BackupError(f"revision {revision} is too large: is this machine's clock right?")
        return builder.finish(revision)
    finally:
        builder.close()
        lock_of(new).unlink(missing_ok=True)


def write_directory(path: Path, node: NodeId, nodes: dict[NodeId, Path], state: Path) -> None:
    """A data directory at `path` of that one of `nodes`, with the state in the file `state`."""
    data_dir = DataDir(path, node, founding_text(Configuration(1, majority(nodes))), token_hex(8))
    try:
        part = data_dir.state_path.with_name("state.mdb.part")
        with state.open("rb") as source, open(part, "wb", opener=private) as out:
            shutil.copyfileobj(source, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        part.rename(data_dir.state_path)
        sync_directory(path)
    finally:
        data_dir.close()


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _check_directories(directories: Sequence[Path]) -> None:
    if not directories:
        raise InvalidArgument("data-dir", "data-dir: give one for each node of the new cluster")
    if len({path.absolute() for path in directories}) < len(directories):
        raise InvalidArgument("data-dir", "data-dir: two nodes share a directory")
    for path in directories:
        for each in (path, _partial(path)):
            if each.exists() and (not each.is_dir() or any(each.iterdir())):
                raise InvalidArgument(
                    "data-dir",
                    f"data-dir: {each} is there already; a restore makes new directories, and "
                    "never writes into one that is in use",
                )
