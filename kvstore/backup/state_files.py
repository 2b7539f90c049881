"""A state's file outside of a running node: opened to be read, and what it says of itself."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb
import msgspec

from kvstore.errors import BackupError, DivergedState, StorageError
from kvstore.replica.layouts import bring_state_up_to_date
from kvstore.state.state_machine import StateMachine
from kvstore.storage.disk import SYSTEM_DISK
from kvstore.storage.state import StateStore, lock_of

COUNTED = ("keys", "deleted", "history", "leases", "lease_keys", "once", "auth")
"""Tables of which the records are counted; those of `history` are blocks of changes."""

UNREADABLE = (
    lmdb.Error,
    msgspec.MsgspecError,
    struct.error,
    ValueError,
    DivergedState,
    StorageError,
)
"""What reading a file raises that is not what it should be."""


class StateFacts(NamedTuple):
    """What a state's file says of itself."""

    slot: int
    revision: int
    compacted_revision: int
    digest: str
    records: dict[str, int]


@contextmanager
def opened(path: Path) -> Iterator[tuple[StateStore, StateMachine]]:
    """The state in the file at `path`, which nobody else may use; one of an older layout is
    converted first. Raises BackupError, OSError."""
    try:
        bring_state_up_to_date(path, SYSTEM_DISK)
        store = StateStore(path)
    except (StorageError, lmdb.Error) as error:
        raise BackupError(str(error)) from error
    try:
        yield store, StateMachine(store)
    except UNREADABLE as error:
        raise BackupError(f"{path} is not a state that can be read: {error}") from error
    finally:
        store.close()
        lock_of(path).unlink(missing_ok=True)


def facts_of(path: Path) -> StateFacts:
    """Of the file at `path`; it takes milliseconds, however large that is. Raises BackupError."""
    with opened(path) as (store, state):
        records = {table: store.records(table) for table in COUNTED}
        return StateFacts(
            state.applied_through,
            state.revision,
            state.compacted_revision,
            state.digest.hex(),
            records,
        )
