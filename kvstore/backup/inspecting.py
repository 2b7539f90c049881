"""What is in a backup, verified without a server: every block, every record, every count."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from kvstore.backup.building import keys_of
from kvstore.backup.headers import BackupHeader
from kvstore.backup.state_files import COUNTED, opened
from kvstore.backup.unpacking import Advance, nobody_watches, unpack_state
from kvstore.commands.operations import KeyValue
from kvstore.errors import BackupError
from kvstore.state.state_machine import StateMachine
from kvstore.storage.state import StateStore

CONTENT_BYTES = 32
_ITEMS = 1000
_encode = msgspec.msgpack.Encoder().encode


class Contents(NamedTuple):
    """Keys and what they hold, in one number: equal for equal contents, wherever they are."""

    keys: int
    digest: str


class Inspection(NamedTuple):
    """A backup that is as it was written. `contents` are those at its revision."""

    header: BackupHeader
    stored_bytes: int
    contents: Contents
    leases: int
    users: int


class ContentDigest:
    """Digests keys in their order, with values, revisions and leases."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=CONTENT_BYTES)
        self._waiting: list[KeyValue] = []
        self._keys = 0

    def add(self, item: KeyValue) -> None:
        """The next one."""
        self._waiting.append(item)
        if len(self._waiting) >= _ITEMS:
            self._settle()

    def _settle(self) -> None:
        self._keys += len(self._waiting)
        self._digest.update(b"".join(map(_encode, self._waiting)))
        self._waiting.clear()

    @property
    def contents(self) -> Contents:
        """Of all that were added."""
        self._settle()
        return Contents(self._keys, self._digest.hexdigest())


def contents_of(items: Iterable[KeyValue]) -> Contents:
    """Of items in the order of their keys."""
    digest = ContentDigest()
    for item in items:
        digest.add(item)
    return digest.contents


def inspect(path: Path, advance: Advance = nobody_watches) -> Inspection:
    """Verify the backup at `path` wholly. It needs room for the unpacked state in the directory for
    temporary files. Raises BackupError, OSError."""
    with TemporaryDirectory(prefix="kvstore-inspect-") as directory:
        state_file = Path(directory) / "state.mdb"
        with path.open("rb") as file:
            header = unpack_state(file, str(path), state_file, advance)
        with opened(state_file) as (store, state):
            _check_claims(path, header, store, state)
            _read_all(store)
            contents = contents_of(keys_of(state, state.revision))
            if contents.keys != header.records["keys"]:
                raise BackupError(
                    f"{path} says that it holds {header.records['keys']} keys, and holds "
                    f"{contents.keys}"
                )
            return Inspection(
                header,
                path.stat().st_size,
                contents,
                sum(1 for _ in state.leases.all()),
                len(state.auth.users),
            )


def _check_claims(path: Path, header: BackupHeader, store: StateStore, state: StateMachine) -> None:
    claims = {
        "revision": (header.revision, state.revision),
        "compacted revision": (header.compacted_revision, state.compacted_revision),
        "slot": (header.slot, state.applied_through),
        "digest": (header.digest, state.digest.hex()),
    }
    claims |= {
        f"number of records of {table}": (header.records.get(table, -1), store.records(table))
        for table in COUNTED
    }
    for what, (said, found) in claims.items():
        if said != found:
            raise BackupError(f"{path} says that its {what} is {said}, and it is {found}")


def _read_all(store: StateStore) -> None:
    """Every record has a checksum of its own, which reading it compares."""
    for table in store.tables.values():
        for _ in table.scan(b"", None):
            pass
