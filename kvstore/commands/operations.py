"""Operations: what a transaction is made of, and what each of them answers.

A range of keys is `start <= key < end`; `end` is None for no bound. The single key k is the range
from k to `only(k)`.
"""

from enum import IntEnum

import msgspec


class KeyValue(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key as of some revision. `lease` is 0 for none."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


def only(key: bytes) -> bytes:
    """The end of the range that holds `key` alone."""
    return key + b"\0"


def prefix_end(prefix: bytes) -> bytes | None:
    """The end of the range of all keys that begin with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


class Field(IntEnum):
    """What a compare looks at, and what a range is sorted by (there LEASE cannot be)."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4
    KEY = 5
    """For sorting only."""


class Relation(IntEnum):
    """What must hold between a key's field and the operand."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class Order(IntEnum):
    """NONE is the order of the keys, or ascending if something else is sorted by."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


class Comparison(msgspec.Struct, frozen=True, array_like=True):
    """Holds if it holds for every key of the range; for an absent key every number is 0.

    `operand` is bytes if and only if `field` is VALUE; the value of an absent key compares with
    nothing: such a compare is false, NOT_EQUAL too.
    """

    field: Field
    relation: Relation
    start: bytes
    end: bytes | None
    operand: int | bytes


class Select(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Read a range: filter, then sort, then limit. 0 means: now, no limit, no filter.

    `count` in the answer is that of the whole range, before filters.
    """

    start: bytes
    end: bytes | None
    revision: int = 0
    limit: int = 0
    order: Order = Order.NONE
    sort_by: Field = Field.KEY
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


class TxnPut(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """Put `value` under `key`; None keeps the value it has, lease None the lease it has.

    `previous`: answer what was there before.
    """

    key: bytes
    value: bytes | None
    lease: int | None = 0
    previous: bool = False


class TxnDelete(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """Delete every key of a range. `previous`: answer what was there."""

    start: bytes
    end: bytes | None
    previous: bool = False


class Transaction(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """If all compares hold, run `success` in order, else `failure`; all of it or nothing.

    All compares, those of inner transactions too, look at the state before the outermost one.
    Later operations see what earlier ones did. All writes share one revision.
    """

    compares: tuple[Comparison, ...]
    success: tuple["TxnOperation", ...]
    failure: tuple["TxnOperation", ...] = ()


TxnOperation = Select | TxnPut | TxnDelete | Transaction


class Selected(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """What a Select found. `revision`: the store's when it ran."""

    revision: int
    items: tuple[KeyValue, ...]
    count: int
    more: bool


class TxnPutDone(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """The store's revision, the key's new version and create revision, and what it held before if
    that was asked for."""

    revision: int
    version: int
    create_revision: int
    previous: KeyValue | None = None


class TxnDeleteDone(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """How many keys were deleted, and what they held if that was asked for."""

    revision: int
    deleted: int
    previous: tuple[KeyValue, ...] = ()


class TransactionDone(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """Which branch ran, and what its operations answered."""

    revision: int
    succeeded: bool
    results: tuple["TxnOperationResult", ...]


TxnOperationResult = Selected | TxnPutDone | TxnDeleteDone | TransactionDone
