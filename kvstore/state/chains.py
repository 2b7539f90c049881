"""The way back from a key to what it held before: a chain through the history, with short cuts.

Each change of a key is an entry of the table `history`, under its *place* (revision, part of the
change). It names the place of the change of this key before it, and holds what the key held until
then. So the table grows at one end only, in the order of revisions, and compaction drops its other
end. The chain's head, the last change, is named by the current record of the key, or after its
deletion by the table `deleted`.

A chain may be long. So a change also names the last one before it whose number in the chain is
divisible by 4, the last one by 16, and so on, as in a skip list (Pugh, "Skip Lists", CACM 1990): a
key that was written 100,000 times is searched in a few dozen steps.
"""

import struct
from typing import NamedTuple

Place = bytes
"""Of a change, packed; the order of bytes is the order of changes."""

_PLACE = struct.Struct(">QI")
PLACE_BYTES = _PLACE.size
_REVISION = struct.Struct(">Q")
HEAD = struct.Struct(">BII")
"""How many short cuts, part of the change, number in the chain."""
_ENTRY = struct.Struct(">BBHIQI")
"""Whether it is a deletion, how many short cuts, bytes of the key, bytes of the record before, and
the place before."""
DELETION = 1
"""With which the entry of a deletion begins."""
STEP = 4

INLINE_BYTES_MAX = 1 << 10
"""Up to this size a put's entry also holds the record that it made: the change feed reads it there.
A larger one is looked for at the change that superseded it, or where the current record is."""

NOWHERE: Place = bytes(PLACE_BYTES)


def place_of(revision: int, part: int) -> Place:
    """Of part `part` of the change that made `revision`: the key of its entry in `history`."""
    return _PLACE.pack(revision, part)


def last_place(revision: int) -> Place:
    """After all parts of `revision`, before the next one."""
    return _PLACE.pack(revision, 0xFFFFFFFF)


def revision_at(place: Place) -> int:
    """The revision of which this is a part."""
    return int(_REVISION.unpack_from(place)[0])


class ChainHead(NamedTuple):
    """The last change of a key: its place, its number in the chain, and its short cuts, packed, the
    nearest first."""

    place: Place
    number: int
    shortcuts: bytes

    def next(self, place: Place) -> "ChainHead":
        """The head once the key is changed at `place`."""
        number, cuts, at = self.number, self.shortcuts, 0
        while number and number % STEP == 0:
            at += PLACE_BYTES
            number //= STEP
        if at:
            cuts = self.place * (at // PLACE_BYTES) + cuts[at:]
        return ChainHead(place, self.number + 1, cuts)

    def without(self, place: Place) -> "ChainHead":
        """Without the short cuts to `place` and what is before it: compaction may drop that."""
        cuts = self.shortcuts
        while cuts and cuts[-PLACE_BYTES:] <= place:
            cuts = cuts[:-PLACE_BYTES]
        return self if len(cuts) == len(self.shortcuts) else self._replace(shortcuts=cuts)

    def with_record(self, record: bytes) -> bytes:
        """What `keys` holds: the head and the current record."""
        return with_head(_PLACE.unpack(self.place)[1], self.number, self.shortcuts, record)

    @property
    def of_deleted(self) -> bytes:
        """What `deleted` holds."""
        return self.with_record(self.place[: _REVISION.size])


FIRST = ChainHead(NOWHERE, 0, b"")
"""Before the first change of a key."""


def with_head(part: int, number: int, shortcuts: bytes, record: bytes) -> bytes:
    """What `keys` holds: the head of the chain, at `part` of the record's revision, and it."""
    if not shortcuts:
        return HEAD.pack(0, part, number) + record
    return HEAD.pack(len(shortcuts) // PLACE_BYTES, part, number) + shortcuts + record


def record_of(stored: bytes) -> bytes:
    """The current record, of what `keys` holds."""
    return stored[HEAD.size + PLACE_BYTES * stored[0] :]


def head_of(stored: bytes, revision: int) -> ChainHead:
    """The chain's head, of what `keys` holds; `revision` is that of the current record."""
    count, part, number = HEAD.unpack_from(stored)
    cuts = stored[HEAD.size : HEAD.size + PLACE_BYTES * count] if count else b""
    return ChainHead(_PLACE.pack(revision, part), number, cuts)


def head_of_deleted(stored: bytes) -> ChainHead:
    """The same of what `deleted` holds."""
    return head_of(stored, _REVISION.unpack(stored[-_REVISION.size :])[0])


class ChainEntry(NamedTuple):
    """One change of a key. `before` is what the key held until then, b"" if nothing, and
    `place_before` where that was written; `after` is what a put made of it, b"" if that is too
    large to stand here too. `shortcuts` as in the head that it was."""

    deletion: bool
    key: bytes
    place_before: Place
    before: bytes
    after: bytes
    shortcuts: bytes

    @property
    def entry(self) -> bytes:
        """What `history` holds under its place."""
        revision, part = _PLACE.unpack(self.place_before)
        return entry_of(
            self.deletion, self.key, revision, part, self.before, self.after, self.shortcuts
        )

    def towards(self, place: Place) -> Place | None:
        """The change to look at next for the oldest one after `place`; None: it is this one."""
        cuts = self.shortcuts
        for at in range(len(cuts) - PLACE_BYTES, -1, -PLACE_BYTES):
            if cuts[at : at + PLACE_BYTES] > place:
                return cuts[at : at + PLACE_BYTES]
        return self.place_before if self.place_before > place else None


def entry_of(
    deletion: bool,
    key: bytes,
    revision: int,
    part: int,
    before: bytes,
    after: bytes,
    shortcuts: bytes,
) -> bytes:
    """`ChainEntry.entry` of the change after the one at `part` of `revision`."""
    count = len(shortcuts) // PLACE_BYTES
    head = _ENTRY.pack(deletion, count, len(key), len(before), revision, part)
    if len(after) > INLINE_BYTES_MAX:
        after = b""
    return b"".join((head, shortcuts, key, before, after))


def change_of(entry: bytes) -> ChainEntry:
    """What `ChainEntry.entry` made an entry of."""
    deletion, count, key_bytes, before_bytes, revision, part = _ENTRY.unpack_from(entry)
    key = _ENTRY.size + PLACE_BYTES * count
    before = key + key_bytes
    after = before + before_bytes
    return ChainEntry(
        bool(deletion),
        entry[key:before],
        _PLACE.pack(revision, part),
        entry[before:after],
        entry[after:],
        entry[_ENTRY.size : key],
    )
