"""LMDB in memory: what the store uses of it, with the same meaning, and a file that outlives it.

A write transaction is all or nothing and durable once committed; a reader sees the last commit from
before it began. `tests/integration/test_lmdb_claims.py` puts the same questions to the real one.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

import lmdb
import msgspec

PAGE_BYTES = 4096
_ITEM_BYTES = 32
"""What a pair costs in the file beside its bytes, about."""


class Tree:
    """One database as of one commit. Shared by transactions until one of them writes to it."""

    __slots__ = ("keys", "pairs", "size")

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []
        self.size = 0

    def copy(self) -> "Tree":
        tree = Tree()
        tree.pairs, tree.keys, tree.size = self.pairs.copy(), self.keys.copy(), self.size
        return tree

    def put(self, key: bytes, value: bytes) -> None:
        held = self.pairs.get(key)
        if held is None:
            insort(self.keys, key)
            self.size += len(key) + len(value) + _ITEM_BYTES
        else:
            self.size += len(value) - len(held)
        self.pairs[key] = value

    def delete(self, key: bytes) -> bool:
        held = self.pairs.pop(key, None)
        if held is None:
            return False
        del self.keys[bisect_left(self.keys, key)]
        self.size -= len(key) + len(held) + _ITEM_BYTES
        return True


class EnvironmentFile:
    """The durable content of one LMDB file: its databases as of the last commit."""

    def __init__(self) -> None:
        self.trees: dict[bytes, Tree] = {}
        self.map_bytes = 0

    @property
    def used_bytes(self) -> int:
        return sum(tree.size for tree in self.trees.values())

    def encode(self) -> bytes:
        """As it travels in a snapshot."""
        return msgspec.msgpack.encode({n: sorted(t.pairs.items()) for n, t in self.trees.items()})

    @staticmethod
    def decode(data: bytes) -> "EnvironmentFile":
        """Raises msgspec.DecodeError."""
        file = EnvironmentFile()
        content = msgspec.msgpack.decode(data, type=dict[bytes, list[tuple[bytes, bytes]]])
        for name, pairs in content.items():
            tree = file.trees[name] = Tree()
            for key, value in pairs:
                tree.put(key, value)
        return file


class Environment:
    """An open file. `commit(file)` is called before each commit and may raise what a disk raises:
    then nothing was written."""

    def __init__(
        self, file: EnvironmentFile, map_bytes: int, commit: Callable[[EnvironmentFile], None]
    ) -> None:
        self.file = file
        file.map_bytes = max(map_bytes, file.map_bytes)
        self._commit = commit

    def open_db(self, name: bytes, create: bool = True) -> bytes:
        """Raises lmdb.NotFoundError."""
        if not create and name not in self.file.trees:
            raise lmdb.NotFoundError(f"there is no database {name!r}")
        self.file.trees.setdefault(name, Tree())
        return name

    def begin(self, db: bytes = b"", write: bool = False) -> "TransactionModel":
        return TransactionModel(self, db, write)

    def __enter__(self) -> "Environment":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def info(self) -> dict[str, int]:
        return {
            "map_size": self.file.map_bytes,
            "last_pgno": self.file.used_bytes // PAGE_BYTES,
        }

    def stat(self) -> dict[str, int]:
        return {"psize": PAGE_BYTES}

    def set_mapsize(self, size: int) -> None:
        self.file.map_bytes = size

    def close(self) -> None:
        """What is committed stays."""

    def commit(self, trees: dict[bytes, Tree]) -> None:
        """Raises lmdb.MapFullError, or what the disk raises; then nothing was written."""
        if sum(tree.size for tree in trees.values()) > self.file.map_bytes:
            raise lmdb.MapFullError("the map is full")
        self._commit(self.file)
        self.file.trees = trees


class TransactionModel:
    """A context manager like LMDB's: commits at the end, aborts on an exception."""

    def __init__(self, environment: Environment, db: bytes, write: bool) -> None:
        self._environment = environment
        self._db = db
        self._write = write
        self._trees = dict(environment.file.trees)
        self._own: set[bytes] = set()

    def __enter__(self) -> "TransactionModel":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._write:
            self._environment.commit(self._trees)

    def abort(self) -> None:
        """Nothing was written."""

    def tree(self, db: bytes) -> Tree:
        """For reading."""
        return self._trees[db]

    def mutable(self, db: bytes) -> Tree:
        """For writing: a copy of its own from the first change on."""
        assert self._write, "a read transaction does not write"
        if db not in self._own:
            self._own.add(db)
            self._trees[db] = self._trees[db].copy()
        return self._trees[db]

    def get(self, key: bytes, default: bytes | None = None, *, db: bytes = b"") -> bytes | None:
        return self._trees[db or self._db].pairs.get(key, default)

    def put(self, key: bytes, value: bytes, *, db: bytes = b"") -> bool:
        self.mutable(db or self._db).put(key, value)
        return True

    def delete(self, key: bytes, *, db: bytes = b"") -> bool:
        db = db or self._db
        return key in self._trees[db].pairs and self.mutable(db).delete(key)

    def cursor(self, *, db: bytes = b"") -> "CursorModel":
        return CursorModel(self, db or self._db)


class CursorModel:
    """A position between the pairs of one database."""

    def __init__(self, transaction: TransactionModel, db: bytes) -> None:
        self._transaction = transaction
        self._db = db
        self._at = -1

    def __enter__(self) -> "CursorModel":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""

    def _tree(self) -> Tree:
        return self._transaction.tree(self._db)

    def _go(self, position: int) -> bool:
        self._at = position if 0 <= position < len(self._tree().keys) else -1
        return self._at >= 0

    def first(self) -> bool:
        return self._go(0)

    def last(self) -> bool:
        return self._go(len(self._tree().keys) - 1)

    def next(self) -> bool:
        return self._go(self._at + 1)

    def prev(self) -> bool:
        return self.last() if self._at < 0 else self._go(self._at - 1)

    def set_range(self, key: bytes) -> bool:
        return self._go(bisect_left(self._tree().keys, key))

    def key(self) -> bytes:
        return self._tree().keys[self._at] if self._at >= 0 else b""

    def value(self) -> bytes:
        return self._tree().pairs[self.key()] if self._at >= 0 else b""

    def delete(self) -> bool:
        """Remove the pair at the cursor, which then is at the next one."""
        if self._at < 0:
            return False
        self._transaction.mutable(self._db).delete(self.key())
        self._go(self._at)
        return True

    def putmulti(self, items: Iterable[tuple[bytes, bytes]]) -> tuple[int, int]:
        tree = self._transaction.mutable(self._db)
        count = 0
        for key, value in items:
            tree.put(key, value)
            count += 1
        return count, count

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Forwards from the position, or from the first pair."""
        return self._walk(1)

    def iterprev(self) -> Iterator[tuple[bytes, bytes]]:
        """Backwards from the position, or from the last pair."""
        return self._walk(-1)

    def _walk(self, step: int) -> Iterator[tuple[bytes, bytes]]:
        tree = self._tree()
        start = self._at if self._at >= 0 else (0 if step > 0 else len(tree.keys) - 1)
        stop = len(tree.keys) if step > 0 else -1
        for position in range(start, stop, step):
            self._at = position
            key = tree.keys[position]
            yield key, tree.pairs[key]


def as_lmdb(environment: Environment) -> Any:
    """The store is typed against the real library; this stands in for it."""
    return environment
