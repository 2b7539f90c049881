"""The file format of backups and change logs: a head, blocks with checksums, an end.

::

    head    magic (8 bytes), version (4), length of the header (4), header (JSON),
            BLAKE2b-128 of all these
    block   bytes unpacked (4, not 0), bytes packed (4), a zstd frame, BLAKE2b-128 of the block's
            number (8) and of all these
    end     8 zero bytes, number of blocks (8), bytes unpacked in all (8), BLAKE2b-256 of the
            head, of each block's checksum, and of the end's first 24 bytes

All numbers are little-endian. A block is read only as what its place says it is, so blocks that
were exchanged, left out or repeated are noticed like a flipped bit; so is a file that ends before
its end, or goes on after it.
"""

import hashlib
from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, NamedTuple

import zstandard

from kvstore.errors import BackupError

BACKUP_MAGIC = b"KVBACKUP"
CHANGES_MAGIC = b"KVCHANGE"
VERSION = 1
BLOCK_BYTES = 1 << 20
"""Of a block, unpacked: what a reader holds in memory at a time, and what is sent again at most
after a connection broke."""
BLOCK_BYTES_MAX = 8 << 20
HEADER_BYTES_MAX = 64 << 10
LEVEL = 1
"""Of zstd. Level 3 makes nothing smaller of what a state's file holds, and takes up to four times
as long: 15 ms of a core for a MiB, so half a core at the usual rate."""

PREFIX = Struct("<8sII")
LENGTHS = Struct("<II")
_NUMBER = Struct("<Q")
_COUNTS = Struct("<QQ")
CHECKSUM_BYTES = 16
TOTAL_BYTES = 32
END_BYTES = LENGTHS.size + _COUNTS.size + TOTAL_BYTES
_END_MARK = bytes(LENGTHS.size)


def _checksum(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=CHECKSUM_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


class Block(NamedTuple):
    """One block as it is stored, and its checksum."""

    stored: bytes
    checksum: bytes


def encode_head(magic: bytes, header: bytes) -> bytes:
    """The head of a file."""
    head = PREFIX.pack(magic, VERSION, len(header)) + header
    return head + _checksum(head)


def encode_block(number: int, data: bytes) -> Block:
    """Block `number`, from 0, of a file; `data` has 1 to BLOCK_BYTES_MAX bytes."""
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(data)
    lengths = LENGTHS.pack(len(data), len(packed))
    checksum = _checksum(_NUMBER.pack(number), lengths, packed)
    return Block(b"".join((lengths, packed, checksum)), checksum)


class WholeChecksum:
    """The checksum over a whole file, out of its head and the checksums of its blocks."""

    def __init__(self, head: bytes) -> None:
        self._digest = hashlib.blake2b(head, digest_size=TOTAL_BYTES)
        self.blocks = 0
        self.raw_bytes = 0

    def add(self, checksum: bytes, raw_bytes: int) -> None:
        """The next block."""
        self._digest.update(checksum)
        self.blocks += 1
        self.raw_bytes += raw_bytes

    @property
    def end(self) -> bytes:
        """The end of a file of these blocks."""
        counts = _END_MARK + _COUNTS.pack(self.blocks, self.raw_bytes)
        digest = self._digest.copy()
        digest.update(counts)
        return counts + digest.digest()


def header_bytes(prefix: bytes, magic: bytes, name: str) -> int:
    """How long the header is, of the first PREFIX.size bytes of a file called `name`.

    Raises BackupError.
    """
    if len(prefix) < PREFIX.size or prefix[:8] != magic:
        kind = "backup" if magic == BACKUP_MAGIC else "change log"
        raise BackupError(f"{name} is no {kind} of this store: it does not begin like one")
    _, version, length = PREFIX.unpack(prefix)
    if version != VERSION:
        raise BackupError(f"{name} has format {version}, and this program reads {VERSION}")
    if length > HEADER_BYTES_MAX:
        raise BackupError(f"{name} is damaged: its header cannot be {length} bytes long")
    return int(length)


def check_head(head: bytes, name: str) -> None:
    """`head` with its checksum. Raises BackupError."""
    if _checksum(head[:-CHECKSUM_BYTES]) != head[-CHECKSUM_BYTES:]:
        raise BackupError(f"{name} is damaged: the checksum of its header does not fit")


def check_lengths(lengths: bytes, number: int, name: str) -> tuple[int, int]:
    """Bytes unpacked and stored behind these, of block `number`; (0, 0) at the end of the file.

    Raises BackupError.
    """
    if len(lengths) < LENGTHS.size:
        raise _cut_short(name, number)
    raw, packed = LENGTHS.unpack(lengths)
    if (raw, packed) == (0, 0):
        return 0, 0
    if not 0 < raw <= BLOCK_BYTES_MAX or not 0 < packed <= 2 * BLOCK_BYTES_MAX:
        raise BackupError(f"{name} is damaged: block {number} cannot be so long")
    return raw, packed + CHECKSUM_BYTES


def check_block(number: int, lengths: bytes, body: bytes, name: str) -> Block:
    """Block `number`, of its lengths and what is stored behind them. Raises BackupError."""
    packed, checksum = body[:-CHECKSUM_BYTES], body[-CHECKSUM_BYTES:]
    if len(body) < LENGTHS.unpack(lengths)[1] + CHECKSUM_BYTES:
        raise _cut_short(name, number)
    if _checksum(_NUMBER.pack(number), lengths, packed) != checksum:
        raise BackupError(f"{name} is damaged: the checksum of block {number} does not fit")
    return Block(lengths + body, checksum)


def unpack(block: Block, number: int, name: str) -> bytes:
    """What a checked block holds. Raises BackupError."""
    raw = LENGTHS.unpack_from(block.stored)[0]
    packed = block.stored[LENGTHS.size : -CHECKSUM_BYTES]
    try:
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=raw)
    except zstandard.ZstdError as error:
        raise BackupError(f"{name}: block {number} cannot be unpacked: {error}") from None
    if len(data) != raw:
        raise BackupError(f"{name}: block {number} holds {len(data)} bytes instead of {raw}")
    return data


def check_end(end: bytes, total: WholeChecksum, name: str) -> None:
    """The whole end of a file whose blocks are in `total`. Raises BackupError."""
    if len(end) < END_BYTES:
        raise _cut_short(name, total.blocks)
    if end != total.end:
        raise BackupError(f"{name} is damaged: the checksum over the whole file does not fit")


def _cut_short(name: str, blocks: int) -> BackupError:
    return BackupError(f"{name} is cut short: it ends at block {blocks}, before its end")


class BackupFileReader:
    """Reads a file from its beginning, checking everything. `name` is for messages.

    All methods raise BackupError for what is not as it was written, and OSError.
    """

    def __init__(self, file: BinaryIO, magic: bytes, name: str) -> None:
        self._file = file
        self.name = name
        prefix = file.read(PREFIX.size)
        length = header_bytes(prefix, magic, name)
        rest = file.read(length + CHECKSUM_BYTES)
        if len(rest) < length + CHECKSUM_BYTES:
            raise BackupError(f"{name} is cut short: it ends inside its header")
        self.head = prefix + rest
        check_head(self.head, name)
        self.header = rest[:length]
        self.total = WholeChecksum(self.head)
        self.stored_bytes = len(self.head)
        """Of the file, as far as it was read and checked."""
        self.ended = False

    def next_block(self) -> Block | None:
        """The next block; None at the end of the file, which then is as it was written."""
        number = self.total.blocks
        lengths = self._file.read(LENGTHS.size)
        raw, stored = check_lengths(lengths, number, self.name)
        if not raw:
            self._end(lengths)
            return None
        block = check_block(number, lengths, self._file.read(stored), self.name)
        self.total.add(block.checksum, raw)
        self.stored_bytes += len(block.stored)
        return block

    def _end(self, mark: bytes) -> None:
        end = mark + self._file.read(END_BYTES - len(mark))
        check_end(end, self.total, self.name)
        if self._file.read(1):
            raise BackupError(f"{self.name} is damaged: something follows its end")
        self.stored_bytes += len(end)
        self.ended = True

    def blocks(self) -> Iterator[bytes]:
        """What all blocks hold, in order; the file is checked to its very end."""
        while (block := self.next_block()) is not None:
            yield unpack(block, self.total.blocks - 1, self.name)
