"""Pieces of a change log: what happened in a row of revisions, none left out, and when.

A piece is a file of `kvstore.backup.frames`, written once and as a whole. A longer piece may stand
for several short ones; whoever reads takes whatever goes on where it is.
"""

import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from kvstore.backup.building import KeyChange
from kvstore.backup.frames import (
    CHANGES_MAGIC,
    BackupFileReader,
    WholeChecksum,
    encode_block,
    encode_head,
)
from kvstore.commands.operations import KeyValue
from kvstore.errors import BackupError

CHANGES_PER_BLOCK_BYTES = 1 << 20


class PieceHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Which revisions a piece holds, both ends included, and when they were heard of."""

    cluster_id: str
    first: int
    last: int
    first_ms: int
    last_ms: int


class LoggedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key put; or deleted, if `version` is 0."""

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    version: int = 0
    lease: int = 0


class LoggedChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that one revision changed. `time_ms`: of the clock of whoever heard of it, since 1970."""

    revision: int
    time_ms: int
    events: tuple[LoggedEvent, ...]

    def key_changes(self) -> Iterator[KeyChange]:
        """In their order."""
        for event in self.events:
            item = None
            if event.version:
                item = KeyValue(
                    event.key,
                    event.value,
                    event.create_revision,
                    self.revision,
                    event.version,
                    event.lease,
                )
            yield KeyChange(self.revision, event.key, item)


class Piece(NamedTuple):
    """A piece in its place."""

    header: PieceHeader
    changes: list[LoggedChange]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[LoggedChange]).decode
_decode_header = msgspec.json.Decoder(PieceHeader).decode


def encode_piece(cluster_id: str, changes: Sequence[LoggedChange]) -> bytes:
    """The file that holds these changes, which follow each other without a gap."""
    header = PieceHeader(
        cluster_id=cluster_id,
        first=changes[0].revision,
        last=changes[-1].revision,
        first_ms=changes[0].time_ms,
        last_ms=changes[-1].time_ms,
    )
    head = encode_head(CHANGES_MAGIC, msgspec.json.encode(header))
    total, parts = WholeChecksum(head), [head]
    for data in _blocks(changes):
        block = encode_block(total.blocks, data)
        total.add(block.checksum, len(data))
        parts.append(block.stored)
    return b"".join((*parts, total.end))


def _blocks(changes: Sequence[LoggedChange]) -> Iterator[bytes]:
    held: list[LoggedChange] = []
    size = 0
    for change in changes:
        held.append(change)
        size += 64 + sum(len(event.key) + len(event.value) + 32 for event in change.events)
        if size >= CHANGES_PER_BLOCK_BYTES:
            yield _encode(held)
            held, size = [], 0
    if held:
        yield _encode(held)


def decode_piece(data: bytes, name: str) -> Piece:
    """What `encode_piece` made. Raises BackupError if anything is not as it was written, or if a
    revision is missing."""
    reader = BackupFileReader(io.BytesIO(data), CHANGES_MAGIC, name)
    try:
        header = _decode_header(reader.header)
        changes = [change for block in reader.blocks() for change in _decode(block)]
    except msgspec.MsgspecError as error:
        raise BackupError(f"{name} holds what this program cannot read: {error}") from None
    expected = range(header.first, header.last + 1)
    if [change.revision for change in changes] != list(expected):
        raise BackupError(f"{name} does not hold all revisions from {header.first} on")
    return Piece(header, changes)
