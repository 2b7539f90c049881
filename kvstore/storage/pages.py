"""How far an LMDB file is in use: its pages walked from the roots, as the last commit left them.

Needed where the file is shorter than its header says (`kvstore.storage.environment`). What a page
holds of users' bytes is never looked at: a missing end and a value of zeros look the same. Only
offsets and flags count, read with plain reads, so a page beyond the end is an answer and no SIGBUS.

Layout of LMDB 1.0, data version 3, all little endian on the machines that we know. A page is
(number 8, transaction 8, pad 2, flags 2, lower 2, upper 2), then one offset of 2 bytes a node,
counted from behind this head; `lower` is what they take. A value too large for its leaf lies in
pages of its own; the leaf holds the first one's number. Keys are padded to an even length.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_PAGE = struct.Struct("<QQHHHH")
_NODE = struct.Struct("<HHHH")
_META = struct.Struct("<IIQQ")
_TREE = struct.Struct("<IHHQQQQQ")
_NUMBER = struct.Struct("<Q")
_MAGIC, _VERSION = 0xBEEFC0DE, 3
_BRANCH, _LEAF, _META_PAGE = 1, 2, 8
_LARGE, _SUBTREE = 1, 2
_NO_ROOT = (1 << 64) - 1
_DEPTH_MAX = 32


class PageError(Exception):
    """The file cannot be walked: a page is missing, or is not what points to it says it is."""


class _Tree(NamedTuple):
    depth: int
    root: int


def bytes_in_use(path: Path) -> int:
    """The size that the file at `path` must have at least, for all that its last commit refers to.

    Raises PageError if a page that it needs is not there, OSError if it cannot be read.
    """
    with path.open("rb") as file:
        page_bytes, trees = _roots(file)
        walk = _Walk(file, page_bytes)
        for tree in trees:
            walk.tree(tree)
        return walk.pages * page_bytes


def _roots(file: BinaryIO) -> tuple[int, list[_Tree]]:
    """The page size, and the trees of the newer one of the two metas."""
    head = file.read(_PAGE.size + _META.size + _TREE.size)
    page_bytes = _tree_fields(head, _PAGE.size + _META.size)[0]
    if not 512 <= page_bytes <= 1 << 16:
        raise PageError("its first page is no meta page")
    newest: tuple[int, list[_Tree]] | None = None
    for number in (0, 1):
        file.seek(number * page_bytes)
        data = file.read(page_bytes)
        at = _PAGE.size
        if len(data) < page_bytes or not _PAGE.unpack_from(data)[3] & _META_PAGE:
            raise PageError(f"page {number} is no meta page")
        magic, version, _, _ = _META.unpack_from(data, at)
        if magic != _MAGIC or version != _VERSION:
            raise PageError(f"page {number} is of another format")
        at += _META.size
        trees = [_tree(data, at), _tree(data, at + _TREE.size)]
        transaction = _NUMBER.unpack_from(data, at + 2 * _TREE.size + _NUMBER.size)[0]
        if newest is None or transaction > newest[0]:
            newest = transaction, trees
    if newest is None:
        raise PageError("it has no meta page")
    return page_bytes, newest[1]


def _tree_fields(data: bytes, at: int) -> tuple[int, ...]:
    try:
        return _TREE.unpack_from(data, at)
    except struct.error:
        raise PageError("it is cut short") from None


def _tree(data: bytes, at: int) -> _Tree:
    _, _, depth, _, _, _, _, root = _tree_fields(data, at)
    return _Tree(depth, root)


class _Walk:
    """`pages` is one more than the number of the last page that was come to."""

    def __init__(self, file: BinaryIO, page_bytes: int) -> None:
        self._file = file
        self._page_bytes = page_bytes
        self.pages = 2

    def tree(self, tree: _Tree) -> None:
        """All pages below its root."""
        if tree.root != _NO_ROOT:
            if tree.depth > _DEPTH_MAX:
                raise PageError("a tree is too deep")
            self._page(tree.root, tree.depth)

    def _page(self, number: int, depth: int) -> None:
        data = self._read(number)
        held, _, _, flags, lower, _ = _PAGE.unpack_from(data)
        if held != number or not flags & (_BRANCH if depth > 1 else _LEAF):
            raise PageError(f"page {number} does not hold what it should")
        try:
            for low, high, node_flags, body in self._nodes(data, lower // 2):
                if depth > 1:
                    self._page(low | high << 16 | node_flags << 32, depth - 1)
                elif node_flags & _LARGE:
                    # The value follows its page's head, in as many pages as it takes.
                    first = _NUMBER.unpack_from(data, body)[0]
                    size = _PAGE.size + (low | high << 16)
                    self.pages = max(self.pages, first + -(-size // self._page_bytes))
                elif node_flags & _SUBTREE:
                    self.tree(_tree(data, body))
        except struct.error:
            raise PageError(f"page {number} points outside of itself") from None

    @staticmethod
    def _nodes(data: bytes, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Low and high part of what the node says, its flags, and where its value begins."""
        for offset in struct.unpack_from(f"<{count}H", data, _PAGE.size):
            at = _PAGE.size + offset
            low, high, flags, key_bytes = _NODE.unpack_from(data, at)
            yield low, high, flags, at + _NODE.size + key_bytes + key_bytes % 2

    def _read(self, number: int) -> bytes:
        self.pages = max(self.pages, number + 1)
        if number >= 1 << 48:
            raise PageError(f"page {number} cannot be")
        self._file.seek(number * self._page_bytes)
        data = self._file.read(self._page_bytes)
        if len(data) < self._page_bytes:
            raise PageError(f"page {number} is missing")
        return data
