"""How the tables were laid out before chains, and what becomes of them: release 0.2 wrote them so.

- `keys`: key -> current record.
- `versions`: (key, its mod revision) -> the revision that superseded it, and the old record.
- `history`: place -> whether the key was put or deleted, the mod revision that it superseded, key.

The other tables are as they were.
"""

import struct
from collections.abc import Iterator
from typing import Protocol

import msgspec

from kvstore.state.chains import FIRST, ChainEntry, ChainHead, place_of, revision_at

MARK = "versions"
"""A table that only this layout has."""
TABLES = (
    "meta",
    "keys",
    MARK,
    "history",
    "once",
    "once_expiry",
    "leases",
    "lease_keys",
    "auth",
)
_UNCHANGED = ("meta", "once", "once_expiry", "leases", "lease_keys", "auth")

_CHANGE = struct.Struct(">BQ")
_REVISION = struct.Struct(">Q")
_MOD_REVISION_AT = 8
_META_KEY = b"state"
_COMPACTED_AT = 2


class TablesOfLayout2(Protocol):
    """A file of this layout."""

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """All pairs, in order."""


class TablesToFill(Protocol):
    """A file of today's layout, empty at first; puts of a table need not be in order, but for those
    of `history`."""

    def put(self, table: str, key: bytes, value: bytes) -> None: ...


def convert(old: TablesOfLayout2, new: TablesToFill) -> None:
    """Put into `new` what `old` holds. Raises ValueError if something is missing in it.

    Holds in memory what was changed since the last compaction: about 200 bytes a key.
    """
    for table in _UNCHANGED:
        for key, value in old.scan(table):
            new.put(table, key, value)
    meta = old.get("meta", _META_KEY)
    if meta is None:
        return
    compacted: int = msgspec.msgpack.decode(meta)[_COMPACTED_AT]
    heads: dict[bytes, ChainHead] = {}
    for place, change in old.scan("history"):
        kind, superseded = _CHANGE.unpack_from(change)
        key = change[_CHANGE.size :]
        before = _version(old, key, superseded) if superseded else b""
        after = b"" if kind else _made_at(old, key, revision_at(place))
        # What the compacted revision superseded may be dropped already, and is not read.
        if (before is None and revision_at(place) > compacted) or after is None:
            raise ValueError(f"the record before or after revision {revision_at(place)} is missing")
        head = heads.get(key)
        if head is None:
            head = ChainHead(place_of(superseded, 0), 0, b"") if superseded else FIRST
        following = heads[key] = head.next(place)
        entry = ChainEntry(
            bool(kind), key, head.place, before or b"", after or b"", following.shortcuts
        )
        new.put("history", place, entry.entry)
    for key, record in old.scan("keys"):
        written = _REVISION.unpack_from(record, _MOD_REVISION_AT)[0]
        current = heads.pop(key, None) or ChainHead(place_of(written, 0), 1, b"")
        new.put("keys", key, current.with_record(record))
    for key, head in heads.items():
        new.put("deleted", key, head.of_deleted)


def _made_at(old: TablesOfLayout2, key: bytes, revision: int) -> bytes | None:
    """The record that the put of `key` at `revision` made."""
    record = old.get("keys", key)
    if record is not None and _REVISION.unpack_from(record, _MOD_REVISION_AT)[0] == revision:
        return record
    return _version(old, key, revision)


def _version(old: TablesOfLayout2, key: bytes, revision: int) -> bytes | None:
    encoded = key.replace(b"\0", b"\0\xff") + b"\0\0" + _REVISION.pack(revision)
    stored = old.get(MARK, encoded)
    return None if stored is None else stored[_REVISION.size :]
