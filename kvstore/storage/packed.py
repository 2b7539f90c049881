"""A table that grows at one end and is dropped at the other: many small entries in one record.

A checkpoint writes its entries in blocks of about one page, and each block is one record of LMDB,
under the key of its first entry. So a thousand entries cost a hundred puts, full pages, and later a
hundred deletions, where one record for each would cost ten times as many.

A block: the number of entries (2 bytes); their keys, all of one length; where each entry ends in
what follows (4 bytes each); the entries, each sealed. All numbers are little-endian.
"""

from collections.abc import Iterator
from struct import Struct

import lmdb

from kvstore.storage.sealed import SEAL_BYTES, DamagedRecord, is_sound, seal
from kvstore.storage.tables import Backing, StoredTable

BLOCK_BYTES = 4_072
"""What LMDB keeps in a page of its own: 4 KiB without its header. Larger blocks would need pages
that lie side by side."""
_ENTRIES_MAX = 1_000

_COUNT = Struct("<H")
_END = Struct("<I")


class PackedTable(StoredTable):
    """Keys have `key_bytes` bytes each; each put is of a greater key than all before. Nothing is
    deleted but by `drop_before`."""

    __slots__ = ("_key_bytes",)

    def __init__(self, backing: Backing, name: str, key_bytes: int) -> None:
        super().__init__(backing, name)
        self._key_bytes = key_bytes

    def delete(self, key: bytes) -> None:
        raise TypeError(f"{self.name}: entries are dropped from the front only")

    # -- what LMDB holds --------------------------------------------------------------------

    def _stored_value(self, key: bytes) -> bytes | None:
        cursor = self._cursor()
        if not self._go_to_block(cursor, key):
            return None
        block = cursor.value()
        count, width = _COUNT.unpack_from(block)[0], self._key_bytes
        past = _COUNT.size + count * width
        at = block.find(key, _COUNT.size, past)
        while at >= 0 and (at - _COUNT.size) % width:
            at = block.find(key, at + 1, past)
        if at < 0:
            return None
        return self._unsealed(key, self._entry(block, count, (at - _COUNT.size) // width))

    def _stored(
        self, start: bytes, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursor()
        if reverse:
            found = cursor.last() if end is None else self._go_to_block(cursor, end)
        else:
            found = self._go_to_block(cursor, start) or cursor.first()
        while found:
            block = cursor.value()
            keys = self._keys(block)
            if reverse:
                if keys[-1] < start:
                    return
            elif end is not None and keys[0] >= end:
                return
            for index in range(len(keys) - 1, -1, -1) if reverse else range(len(keys)):
                key = keys[index]
                if start <= key and (end is None or key < end):
                    yield key, self._unsealed(key, self._entry(block, len(keys), index))
            found = cursor.prev() if reverse else cursor.next()

    @staticmethod
    def _go_to_block(cursor: "lmdb.Cursor[bytes]", key: bytes) -> bool:
        """To the block that holds `key` if any does."""
        if cursor.set_range(key):
            return cursor.key() == key or cursor.prev()
        return cursor.last()

    def _keys(self, block: bytes) -> list[bytes]:
        width = self._key_bytes
        past = _COUNT.size + _COUNT.unpack_from(block)[0] * width
        if not _COUNT.size < past < len(block):
            raise self._backing.damaged(self.name, block[:width])
        return [block[at : at + width] for at in range(_COUNT.size, past, width)]

    def _entry(self, block: bytes, count: int, index: int) -> bytes:
        """Sealed; of a damaged block anything."""
        ends = _COUNT.size + count * self._key_bytes
        entries = ends + count * _END.size
        if entries > len(block):
            return b""
        end = _END.unpack_from(block, ends + index * _END.size)[0]
        start = _END.unpack_from(block, ends + (index - 1) * _END.size)[0] if index else 0
        return block[entries + start : entries + end]

    def _check_pair(self, key: bytes, stored: bytes) -> int:
        """A block: all its entries, and that it lies under the key of the first."""
        count: int = _COUNT.unpack_from(stored.ljust(_COUNT.size, b"\0"))[0]
        width = self._key_bytes
        past = _COUNT.size + count * width
        if not _COUNT.size < past < len(stored) or stored[_COUNT.size :][:width] != key:
            raise DamagedRecord(self._backing.path, self.name, key)
        for index in range(count):
            at = _COUNT.size + index * width
            each = stored[at : at + width]
            if not is_sound(each, self._entry(stored, count, index)):
                raise DamagedRecord(self._backing.path, self.name, each)
        return count

    # -- writing ----------------------------------------------------------------------------

    def write(self, transaction: "lmdb.Transaction[bytes]") -> None:
        """Write the frozen entries in blocks. Runs on the thread of the checkpoint."""
        head = self._key_bytes + _END.size
        keys: list[bytes] = []
        entries: list[bytes] = []
        size = _COUNT.size
        for key in self.frozen_order:
            sealed = seal(key, self.frozen[key] or b"")
            if keys and (size + head + len(sealed) > BLOCK_BYTES or len(keys) == _ENTRIES_MAX):
                self._write_block(transaction, keys, entries)
                keys, entries, size = [], [], _COUNT.size
            keys.append(key)
            entries.append(sealed)
            size += head + len(sealed)
        if keys:
            self._write_block(transaction, keys, entries)

    def _write_block(
        self, transaction: "lmdb.Transaction[bytes]", keys: list[bytes], entries: list[bytes]
    ) -> None:
        ends, end = [], 0
        for entry in entries:
            end += len(entry)
            ends.append(_END.pack(end))
        block = b"".join((_COUNT.pack(len(keys)), *keys, *ends, *entries))
        transaction.put(keys[0], block, db=self.database)

    def drop_before(
        self, transaction: "lmdb.Transaction[bytes]", key: bytes, entries_max: int, shown: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """Delete blocks from the front whose entries all come before `key`, until they are about
        `entries_max`; yields of each the entries whose first byte is `shown`."""
        cursor = transaction.cursor(db=self.database)
        first = bytes((shown,))
        dropped = 0
        found = cursor.first()
        while found and dropped < entries_max:
            block = cursor.value()
            keys = self._keys(block)
            if keys[-1] >= key:
                return
            cursor.delete()
            dropped += len(keys)
            for index, each in enumerate(keys):
                entry = self._entry(block, len(keys), index)
                if entry[:1] == first and len(entry) > SEAL_BYTES:
                    yield each, self._unsealed(each, entry)
            found = bool(cursor.key())
