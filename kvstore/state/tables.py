"""What the state needs of whatever keeps it: sorted tables, and checkpoints of all of them at once.

`kvstore.storage.state` fulfils these protocols; the two meet in `kvstore.replica.open`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol


class Table(Protocol):
    """A sorted map of bytes to bytes. A read sees every write before it."""

    @property
    def unfrozen_entries(self) -> int:
        """How many keys were put or deleted since the last `Tables.freeze`."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """`put` each of them."""

    def delete_all(self, keys: Sequence[bytes]) -> None:
        """`delete` each of them."""

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end (None: no end), in key order, to be consumed at once."""


class Tables(Protocol):
    """All tables of the state, by name, and the checkpoint that may be under way."""

    @property
    def tables(self) -> Mapping[str, Table]: ...

    @property
    def freezing(self) -> bool:
        """Whether a checkpoint has begun and is not finished."""

    @property
    def unwritten_bytes(self) -> int:
        """Size of what no finished checkpoint holds."""

    def freeze(self) -> bool:
        """Set all changes since the last call aside for a checkpoint."""

    def finish(self) -> None:
        """The checkpoint is durable."""


class KeyCursor(Protocol):
    """A place in one table. `first` moves it to the front, and answers whether there is an entry;
    at the end of the table, and in an empty one, `key` is b""."""

    def first(self) -> bool: ...
    def key(self) -> bytes: ...

    def delete(self) -> bool:
        """Delete the entry here; the cursor is at the one after it then."""


class CheckpointTransaction(Protocol):
    """The transaction that writes a checkpoint; its reads see what the checkpoint holds."""

    def get(self, table: str, key: bytes) -> bytes | None: ...
    def delete(self, table: str, key: bytes) -> bool: ...
    def cursor(self, table: str) -> KeyCursor: ...

    def drop_before(
        self, table: str, key: bytes, entries_max: int, shown: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """Delete entries from the front of a table that is only added to at its end, all before
        `key`, as many as are convenient and about `entries_max` at most; yields those whose
        first byte is `shown`."""


Housekeeping = Callable[[CheckpointTransaction], None]
"""Deletes, inside a checkpoint's transaction, what no read can see any more."""
