"""The data directory: who this node is, how often it started, and that nobody else uses it.

`identity.json` is written once and then only replaced atomically. The *incarnation* is drawn when
the directory is created: an emptied directory gets another one, and peers refuse it (D2). The
incarnations of the other members are pinned here too; see `kvstore.peers.membership`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kvstore.errors import StorageError
from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.format2 import move_log
from kvstore.storage.room import NO_ROOM
from kvstore.storage.segments import AHEAD, NEW, segment_numbers

BACKUPS_MAX = 8
"""No more copies for clients are made at a time."""


def backup_name(number: int) -> str:
    """What a copy for a client is called while it is written; 0 <= number < BACKUPS_MAX."""
    return f"snapshot.backup-{number}"


SNAPSHOT_INCOMING, SNAPSHOT_OUTGOING = "snapshot.incoming", "snapshot.outgoing"
"""What a snapshot is called while it comes, or is sent."""

FORMAT = 4
"""Version of the files in a data directory."""

_WITH_LMDB_LOG = 2
"""A format in which the log was one LMDB file; it is moved at the start. Format 3 is as it is now,
but for what came with members that can change."""

READ_FORMATS = (_WITH_LMDB_LOG, FORMAT)
"""The oldest and the newest format that a start opens; what is older than FORMAT it converts."""

RECOVERING = "recovering"
"""Is there while a recovery is under way."""

_STARTS_KEY = "life"
"""What the file calls `Identity.starts`."""


@dataclass(frozen=True)
class Identity:
    """What a data directory says of its node.

    `starts` counts how often the node was started with it. `configuration` describes the founding
    members and quorum sizes; `pinned` holds the incarnations of those met, and `formed` says that
    the cluster is there (kvstore.peers.membership). `begun_as` is the id that the node was
    configured with when it came; as a member it may have another. `roster` holds the members as
    they were last known, in the form of JSON; None before there are any.
    """

    node_id: int
    incarnation: str
    starts: int
    configuration: str
    pinned: dict[int, str]
    formed: bool
    format: int = FORMAT
    begun_as: int = 0
    roster: list[Any] | None = None


def read_identity(path: Path, disk: Disk = SYSTEM_DISK) -> Identity | None:
    """What the data directory says of its node; None if there is nothing. Raises StorageError."""
    file = path / "identity.json"
    if disk.size(file) is None:
        return None
    try:
        fields = json.loads(disk.read(file))
        fields["starts"] = fields.pop(_STARTS_KEY)
        fields["pinned"] = {int(node): inc for node, inc in fields["pinned"].items()}
        identity = Identity(**fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageError(f"{file} is not readable ({error}); restore it from a copy") from None
    oldest, newest = READ_FORMATS
    if not oldest <= identity.format <= newest:
        raise StorageError(
            f"{file} has format {identity.format}, and this program reads formats "
            f"{oldest} to {newest}"
        )
    return identity


class DataDir:
    """An exclusively locked data directory.

    Raises StorageError if another process uses it, if it is another node's or was used with other
    members or quorum sizes, or if its files are not readable.
    """

    def __init__(
        self,
        path: Path,
        node_id: int,
        configuration: str,
        new_incarnation: str,
        disk: Disk = SYSTEM_DISK,
        *,
        recovering: bool = False,
    ) -> None:
        """`recovering`: a recovery that was interrupted may go on with it."""
        self.path = path
        self._disk = disk
        self._recovering = recovering
        try:
            disk.make_directory(path)
            self._unlock = disk.lock(path / "lock")
        except BlockingIOError:
            raise StorageError(
                f"the data directory {path} is in use by another process; stop it first, or choose "
                "another --data-dir"
            ) from None
        except OSError as error:
            raise StorageError(f"the data directory {path} cannot be used: {error}") from error
        try:
            self._open(node_id, configuration, new_incarnation)
        except OSError as error:
            self.close()
            raise StorageError(f"the data directory {path} cannot be used: {error}") from error
        except BaseException:
            self.close()
            raise

    def _open(self, node_id: int, configuration: str, new_incarnation: str) -> None:
        path = self.path
        # The process may have been killed while it wrote them. One release had one name.
        for name in ("snapshot.backup", *map(backup_name, range(BACKUPS_MAX))):
            self._disk.remove(path / name)
        held = self._load()
        if held is None:
            logs = self._has(self.format2_log_path) or self._has_segments()
            if logs or self._has(self.state_path):
                raise StorageError(
                    f"{path} holds a log or a state but no identity.json: it is not safe to vote "
                    "with it. Restore the file, or replace this member."
                )
            held = Identity(node_id, new_incarnation, 0, configuration, {}, False)
        if self._has(path / RECOVERING) and not self._recovering:
            raise StorageError(
                f"a recovery of {path} was interrupted: run `kvstore recover --data-dir {path} "
                "--new-cluster` again"
            )
        if node_id not in (0, held.node_id, held.begun_as) and not held.formed:
            raise StorageError(
                f"{path} belongs to node {held.node_id}, and this is node {node_id}: give each "
                "node a data directory of its own"
            )
        if (held.pinned or held.roster) and not self._has_log(held.format):
            # With an empty log under its old incarnation it would vote against its own promises.
            raise StorageError(
                f"{path} has lost its {'log.mdb' if held.format == _WITH_LMDB_LOG else 'log'}, and "
                "with it what this node promised: it must not vote again. Restore it, or remove "
                "the whole directory: then the cluster takes this node in again"
            )
        if held.configuration != configuration and not held.formed:
            # Quorums of the old sizes need not meet quorums of the new ones.
            raise StorageError(
                f"{path} was made for members/phase1/phase2 {held.configuration}, and this node is "
                f"configured with {configuration}: start it with the settings it had"
            )
        self._began_in_format = held.format
        if held.format == _WITH_LMDB_LOG:
            self._to_segments()
        # From here on, and not before, the segments are the log.
        self.identity = replace(
            held,
            starts=held.starts + 1,
            format=FORMAT,
            begun_as=held.begun_as or held.node_id,
            configuration=held.configuration if held.formed else configuration,
        )
        try:
            self._save_first()
        except OSError as error:
            text = f"{path} cannot be written: {error}"
            if error.errno in NO_ROOM:
                text += "; make room on its disk, and start this node again"
            raise StorageError(text) from error

    def _save_first(self) -> None:
        """The first write of a start. What another process was making when it was killed is worth
        nothing, and may be what has filled the disk. Raises OSError."""
        try:
            self._save()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            unfinished = [self.path / name for name in (SNAPSHOT_INCOMING, SNAPSHOT_OUTGOING)]
            unfinished += [self.log_path / name for name in (AHEAD, NEW)]
            for path in unfinished:
                self._disk.remove(path)
            self._save()

    def _to_segments(self) -> None:
        """Killed on the way, the next start begins anew: the old log is only read."""
        if self._disk.size(self.format2_log_path):
            move_log(self.format2_log_path, self.log_path, self._disk)

    def _has_log(self, format: int) -> bool:
        if format == _WITH_LMDB_LOG:
            return bool(self._disk.size(self.format2_log_path))
        return self._has_segments()

    def _has_segments(self) -> bool:
        return bool(segment_numbers(self._disk, self.log_path))

    def log_is_sound(self) -> None:
        """The log was read. At the second start after a move the old one is not needed any more."""
        if self._began_in_format != _WITH_LMDB_LOG:
            for name in (self.format2_log_path.name, f"{self.format2_log_path.name}-lock"):
                self._disk.remove(self.path / name)

    @property
    def log_path(self) -> Path:
        return self.path / "log"

    @property
    def format2_log_path(self) -> Path:
        return self.path / "log.mdb"

    @property
    def state_path(self) -> Path:
        return self.path / "state.mdb"

    def keep(
        self,
        node_id: int,
        pinned: Mapping[int, str],
        formed: bool,
        roster: list[Any] | None,
    ) -> None:
        """Keep who this node is and who the members are, durably. Raises OSError."""
        self.identity = replace(
            self.identity, node_id=node_id, pinned=dict(pinned), formed=formed, roster=roster
        )
        self._save()

    def recovery_begins(self) -> None:
        """From now on nobody but a recovery opens this directory. Raises OSError."""
        self._disk.replace(self.path / RECOVERING, b"")

    def found_anew(self, identity: Identity) -> None:
        """It is the member of another cluster now, and the recovery is over. Raises OSError."""
        self.identity = identity
        self._save()
        self._disk.remove(self.path / RECOVERING)
        self._disk.sync_directory(self.path)

    def close(self) -> None:
        self._unlock()

    def _has(self, path: Path) -> bool:
        return self._disk.size(path) is not None

    def _load(self) -> Identity | None:
        return read_identity(self.path, self._disk)

    def _save(self) -> None:
        file = self.path / "identity.json"
        fields = {
            _STARTS_KEY if name == "starts" else name: value
            for name, value in asdict(self.identity).items()
        }
        self._disk.replace(file, json.dumps(fields).encode())
