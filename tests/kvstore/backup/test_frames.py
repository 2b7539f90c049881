"""The file format: what comes out is what went in, and every flip and every cut is noticed."""

import io
import random

import pytest

from kvstore.backup.frames import (
    BACKUP_MAGIC,
    BLOCK_BYTES_MAX,
    CHANGES_MAGIC,
    BackupFileReader,
    WholeChecksum,
    encode_block,
    encode_head,
)
from kvstore.errors import BackupError


def written(header: bytes, *contents: bytes) -> bytes:
    head = encode_head(BACKUP_MAGIC, header)
    total, parts = WholeChecksum(head), [head]
    for number, data in enumerate(contents):
        block = encode_block(number, data)
        total.add(block.checksum, len(data))
        parts.append(block.stored)
    return b"".join([*parts, total.end])


def read(data: bytes) -> tuple[bytes, list[bytes]]:
    reader = BackupFileReader(io.BytesIO(data), BACKUP_MAGIC, "x")
    return reader.header, list(reader.blocks())


CONTENTS = (b"a" * 5000, random.Random(1).randbytes(300), b"\0" * 1024)
SAMPLE = written(b'{"a":1}', *CONTENTS)


@pytest.mark.parametrize("contents", [(), (b"x",), CONTENTS, (bytes(BLOCK_BYTES_MAX),)])
def test_what_went_in_comes_out(contents: tuple[bytes, ...]) -> None:
    assert read(written(b"{}", *contents)) == (b"{}", list(contents))


def test_every_flipped_bit_is_noticed() -> None:
    for at in range(len(SAMPLE)):
        flipped = bytearray(SAMPLE)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(BackupError):
            read(bytes(flipped))


def test_every_cut_and_every_addition_is_noticed() -> None:
    for size in range(len(SAMPLE)):
        with pytest.raises(BackupError):
            read(SAMPLE[:size])
    with pytest.raises(BackupError, match="something follows"):
        read(SAMPLE + b"\0")


def test_blocks_out_of_place_are_noticed() -> None:
    """Each is sound by itself."""
    head = encode_head(BACKUP_MAGIC, b"{}")
    first, second = encode_block(0, b"first"), encode_block(1, b"second")
    end = written(b"{}", b"first", b"second")[-56:]
    assert read(head + first.stored + second.stored + end)[1] == [b"first", b"second"]
    for blocks in ((second, first), (first,), (first, first), (first, second, second)):
        with pytest.raises(BackupError):
            read(b"".join([head, *(block.stored for block in blocks), end]))


def test_the_end_of_another_file_does_not_fit() -> None:
    other = written(b'{"a":2}', *CONTENTS)
    with pytest.raises(BackupError, match="whole file"):
        read(SAMPLE[:-56] + other[-56:])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no backup"),
        (b"SQLite format 3\0", "no backup"),
        (encode_head(CHANGES_MAGIC, b"{}"), "no backup"),
        (BACKUP_MAGIC + b"\2\0\0\0" + bytes(4), "has format 2"),
        (BACKUP_MAGIC + b"\1\0\0\0" + b"\xff" * 4, "header cannot be"),
        (BACKUP_MAGIC + b"\1\0\0\0" + b"\x10\0\0\0", "inside its header"),
    ],
)
def test_what_is_no_backup_is_told(data: bytes, says: str) -> None:
    with pytest.raises(BackupError, match=says):
        read(data)
