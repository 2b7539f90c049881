"""Verifies a data directory offline, and changes nothing in it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kvstore.backup.read_only_disk import ReadOnlyDisk
from kvstore.backup.state_checks import Looked, StateCheck
from kvstore.backup.state_files import UNREADABLE
from kvstore.errors import BackupError
from kvstore.state.state_machine import StateMachine
from kvstore.storage.disk import SYSTEM_DISK
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.state import StateStore
from paxos.records import Restored

IDENTITY, LOG, STATE = "identity.json", "log", "state.mdb"


class DirectoryReport(NamedTuple):
    """What was found. `problems` are sentences, none if the directory is sound; `notes` are not
    problems. None and 0 where a part could not be read."""

    node: int | None
    keys: int
    revision: int
    compacted_revision: int
    applied_through: int
    chosen_through: int
    entries: int
    digest: str
    notes: list[str]
    problems: list[str]


def check_directory(path: Path, looked: Looked) -> DirectoryReport:
    """Look at everything in the data directory at `path`. No node may use it meanwhile.

    Raises BackupError if there is no data directory or a node uses it, OSError.
    """
    if not (path / IDENTITY).exists() and not (path / STATE).exists():
        raise BackupError(f"{path} is no data directory: it has neither {IDENTITY} nor {STATE}")
    with _unused(path):
        problems: list[str] = []
        notes: list[str] = []
        node = _identity(path, problems)
        restored = _log(path, problems, notes)
        check = _state(path, problems, looked)
        state = None if check is None else check[1]
        if restored is not None and state is not None:
            _fit(restored, state, problems)
    return DirectoryReport(
        node,
        0 if check is None else check[0],
        0 if state is None else state.revision,
        0 if state is None else state.compacted_revision,
        0 if state is None else state.applied_through,
        0 if restored is None else restored.chosen_through,
        0 if restored is None else len(restored.entries),
        "" if state is None else state.digest.hex(),
        notes,
        problems,
    )


@contextmanager
def _unused(path: Path) -> Iterator[None]:
    """No node uses the directory during the block. Raises BackupError, OSError."""
    if not (path / "lock").exists():
        yield
        return
    try:
        unlock = SYSTEM_DISK.lock(path / "lock")
    except BlockingIOError:
        raise BackupError(f"{path} is in use by a node: stop it first") from None
    try:
        yield
    finally:
        unlock()


def _identity(path: Path, problems: list[str]) -> int | None:
    try:
        return int(json.loads((path / IDENTITY).read_bytes())["node_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{path / IDENTITY} is not readable: {error!r}")
        return None


def _log(path: Path, problems: list[str], notes: list[str]) -> Restored | None:
    """The log is read as a start reads it, which repairs its end: so it is a copy that is read."""
    if not (path / LOG).is_dir():
        notes.append(f"{path / LOG} is not there: the node has not started yet")
        return None
    with TemporaryDirectory(prefix="kvstore-check-") as work:
        copy = Path(work) / LOG
        shutil.copytree(path / LOG, copy)
        log = SegmentLog(copy)
        try:
            restored = log.restore()
        except UNREADABLE as error:
            problems.append(str(error).replace(f"{work}{os.sep}", f"{path}{os.sep}"))
            return None
        finally:
            log.close()
        if log.torn is not None:
            notes.append(
                f"the log's end is torn at byte {log.torn.offset} of {log.torn.path.name}: a "
                "group that was never acknowledged, which the next start cuts off"
            )
        return restored


def _state(path: Path, problems: list[str], looked: Looked) -> tuple[int, StateMachine] | None:
    """How many keys there are, and the state, of which only what is in memory may be used."""
    if not (path / STATE).exists():
        problems.append(f"{path / STATE} is not there")
        return None
    try:
        store = StateStore(path / STATE, ReadOnlyDisk())
    except UNREADABLE as error:
        problems.append(str(error))
        return None
    try:
        state = StateMachine(store)
        check = StateCheck(store, state, looked)
        check.run()
        problems += [f"{path / STATE}: {problem}" for problem in check.problems]
        return check.keys, state
    except UNREADABLE as error:
        problems.append(f"{path / STATE}: {error}")
        return None
    finally:
        store.close()


def _fit(restored: Restored, state: StateMachine, problems: list[str]) -> None:
    if state.applied_through + 1 < restored.first_slot:
        problems.append(
            f"the state reaches slot {state.applied_through} only, and the log begins at slot "
            f"{restored.first_slot}: what is between is lost"
        )
