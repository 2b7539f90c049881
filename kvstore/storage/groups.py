"""The binary form of the log: groups of records, and the seals behind them.

A *group* is what one commit writes. It begins at a multiple of SECTOR_BYTES and fills whole
sectors, so no write touches a sector that holds what was acknowledged before:

    head   CRC-32 of the rest of head and table, begun with the group's offset (4 bytes),
           generation of the segment (8), number of the group (8), kind (1), 3 zero bytes,
           rows of the table (4), bytes of all values (4)
    table  for each record: kind (1), 3 zero bytes, bytes of its value (4), slot (8),
           ballot round (8), ballot node (4), CRC-32 of its value (4)
    values
    zeros  to the end of the sector

Groups are numbered through the whole life of a log, without gaps. A *seal* is a head without a
table that repeats the number of the group before it, and says that this one was synced.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from paxos.ballot import Ballot
from paxos.messages import LogEntry
from paxos.records import ChosenThrough, Promised, Record, Truncation

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

_HEAD = struct.Struct(">I8sQB3xII")
_ROW = struct.Struct(">B3xIQQII")
_CRC_BYTES = 4
GENERATION_AT = _CRC_BYTES
"""Where in a head the generation stands."""

_GROUP, _SEAL = 1, 2
_ENTRY, _PROMISED, _CHOSEN_THROUGH, _TRUNCATION = 1, 2, 3, 4


class Head(NamedTuple):
    """Of a group, or of a seal: where its table and its values begin, and where it ends."""

    number: int
    is_seal: bool
    table: int
    values: int
    end: int


class NotWhole(Exception):
    """What stands there is not all that was written there, or nothing was."""


def group_bytes(records: Sequence[Record]) -> int:
    """How many bytes of a segment a group of these records takes."""
    values = sum(len(record.value) for record in records if isinstance(record, LogEntry))
    return sectors(_HEAD.size + len(records) * _ROW.size + values)


def sectors(size: int) -> int:
    """`size` rounded up to whole sectors."""
    return -(-size // SECTOR_BYTES) * SECTOR_BYTES


def encode_group(
    generation: bytes, number: int, offset: int, records: Sequence[Record]
) -> list[bytes]:
    """The group as it is written at `offset`, in parts."""
    rows, values = [], []
    for record in records:
        if isinstance(record, LogEntry):  # first, and without patterns: most records are entries
            value, ballot = record.value, record.ballot
            crc = zlib.crc32(value)
            rows.append(_ROW.pack(_ENTRY, len(value), record.slot, ballot.round, ballot.node, crc))
            values.append(value)
        else:
            rows.append(_mark_row(record))
    table, size = b"".join(rows), sum(map(len, values))
    head = _head(generation, number, offset, _GROUP, table, size)
    padding = -(len(head) + len(table) + size) % SECTOR_BYTES
    return [head + table, *values, bytes(padding)]


def _mark_row(record: Promised | ChosenThrough | Truncation) -> bytes:
    match record:
        case Promised(ballot):
            return _ROW.pack(_PROMISED, 0, 0, ballot.round, ballot.node, 0)
        case ChosenThrough(slot):
            return _ROW.pack(_CHOSEN_THROUGH, 0, slot, 0, 0, 0)
        case Truncation(slot):
            return _ROW.pack(_TRUNCATION, 0, slot, 0, 0, 0)


def encode_seal(generation: bytes, number: int, offset: int) -> bytes:
    """What stands at `offset` once the group `number`, which ends there, is synced."""
    return _head(generation, number, offset, _SEAL, b"", 0).ljust(SECTOR_BYTES, b"\0")


def _head(generation: bytes, number: int, offset: int, kind: int, table: bytes, size: int) -> bytes:
    head = _HEAD.pack(0, generation, number, kind, len(table) // _ROW.size, size)
    crc = zlib.crc32(table, zlib.crc32(head[_CRC_BYTES:], _begun(offset)))
    return crc.to_bytes(_CRC_BYTES, "big") + head[_CRC_BYTES:]


def _begun(offset: int) -> int:
    """A head that a disk wrote to a wrong place is none."""
    return offset // SECTOR_BYTES & 0xFFFFFFFF


def decode_head(data: bytes, at: int, generation: bytes, begins: int = 0) -> Head:
    """The head at `at` of `data`, which are those of a segment of this `generation` from the
    offset `begins` on. Raises NotWhole."""
    if at + _HEAD.size > len(data):
        raise NotWhole("the end of the file")
    crc, held, number, kind, rows, size = _HEAD.unpack_from(data, at)
    offset, table = begins + at, at + _HEAD.size
    values = table + rows * _ROW.size
    if held != generation:
        raise NotWhole("no group of this segment")
    if values > len(data):
        raise NotWhole("a table longer than the segment")
    if zlib.crc32(memoryview(data)[at + _CRC_BYTES : values], _begun(offset)) != crc:
        raise NotWhole("a head that fails its checksum")
    return Head(number, kind == _SEAL, table, values, sectors(values + size))


def decode_records(data: bytes, head: Head) -> list[Record]:
    """The records of the group that begins with `head`. Raises NotWhole."""
    records: list[Record] = []
    at, rows = head.values, memoryview(data)[head.table : head.values]
    for kind, size, slot, ballot_round, node, crc in _ROW.iter_unpack(rows):
        if kind == _ENTRY:
            value = bytes(data[at : at + size])
            if zlib.crc32(value) != crc or len(value) != size:
                raise NotWhole(f"an entry of slot {slot} that fails its checksum")
            records.append(LogEntry(slot, Ballot(ballot_round, node), value))
            at += size
        elif kind == _PROMISED:
            records.append(Promised(Ballot(ballot_round, node)))
        elif kind == _CHOSEN_THROUGH:
            records.append(ChosenThrough(slot))
        elif kind == _TRUNCATION:
            records.append(Truncation(slot))
        else:
            raise NotWhole(f"a record of kind {kind}, which this program does not know")
    return records
