"""What a backup leaves in the store it is of: a key that says how far it is, and how old.

So every node, its metrics and its dashboard know of the last backup, though it lies elsewhere and
was made by a process that may be gone. Decision 0063.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from kvstore.commands.operations import Select, Selected, prefix_end

MARKS_PREFIX = b"kvstore-backups/"
MARKS_MAX = 32
"""Backups of one store that are told apart. There is no mark for one more."""
NAME_BYTES_MAX = 128
PLACE_LENGTH_MAX = 1024
SAID_LENGTH_MAX = 500
_INTEGER_MAX = (1 << 63) - 1

Whole = Annotated[int, Meta(ge=0, le=_INTEGER_MAX)]
Period = Annotated[float, Meta(gt=0, le=1e9)]


class DrillMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the last drill went, and when the next one is due; times in milliseconds since 1970."""

    time_ms: Whole
    ok: bool
    said: Annotated[str, Meta(max_length=SAID_LENGTH_MAX)] = ""
    next_ms: Whole | None = None


class BackupMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was written up to `time_ms`, which is through `revision`, is kept in `place`.

    `fresh_s`: a mark that is older is trouble; None: nobody said how old it may be. `base_revision`
    and `base_ms` are of the last whole copy, `next_ms` says when the next one is due.
    """

    place: Annotated[str, Meta(min_length=1, max_length=PLACE_LENGTH_MAX)]
    continuous: bool
    revision: Whole
    time_ms: Whole
    fresh_s: Period | None = None
    base_revision: Whole = 0
    base_ms: Whole = 0
    next_ms: Whole | None = None
    drill: DrillMark | None = None

    def age_s(self, now_s: float) -> float:
        """Since all was kept; `now_s` is of a wall clock."""
        return max(0.0, now_s - self.time_ms / 1000)

    def late(self, now_s: float) -> bool:
        """Whether it is older than it may be."""
        return self.fresh_s is not None and self.age_s(now_s) > self.fresh_s


def key_of(name: str) -> bytes:
    """Where the mark of a backup is."""
    return MARKS_PREFIX + name.encode()


def decode_mark(value: bytes) -> BackupMark | None:
    """None if it is none: whoever may write the key may have put anything there. What a later
    release has added is passed over."""
    try:
        found = msgspec.json.decode(value)
        if not isinstance(found, dict):
            return None
        known = {name: found[name] for name in BackupMark.__struct_fields__ if name in found}
        if isinstance(drill := known.get("drill"), dict):
            fields = DrillMark.__struct_fields__
            known["drill"] = {name: drill[name] for name in fields if name in drill}
        return msgspec.convert(known, BackupMark)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def marks_in(select: Callable[[Select], Selected]) -> dict[str, BackupMark]:
    """By name, in order; what is no mark is left out."""
    wanted = Select(MARKS_PREFIX, prefix_end(MARKS_PREFIX), limit=2 * MARKS_MAX)
    found = {}
    for item in select(wanted).items:
        mark = decode_mark(item.value)
        if mark is not None:
            found[item.key[len(MARKS_PREFIX) :].decode(errors="replace")] = mark
    return found
