"""Checksums of single records: what the disk gives back changed is noticed, and never an answer."""

from pathlib import Path
from zlib import crc32

from kvstore.errors import DataDamaged, StorageFailed

SEAL_BYTES = 4

_SOUND = 0x2144DF1C
"""The CRC-32 of anything that is followed by its own CRC-32, low byte first."""


def seal(key: bytes, value: bytes) -> bytes:
    """`value` as it is stored under `key`: with the checksum of both at its end."""
    return value + crc32(value, crc32(key)).to_bytes(SEAL_BYTES, "little")


def is_sound(key: bytes, sealed: bytes) -> bool:
    """Whether it is what `seal` made for this key."""
    return crc32(sealed, crc32(key)) == _SOUND


class DamagedRecord(StorageFailed, DataDamaged):
    """A record is not what was written. The node must stop: others have it whole."""

    def __init__(self, path: Path, table: str, key: bytes) -> None:
        super().__init__(
            f"{path} is damaged: the checksum of a record of table {table} does not fit, "
            f"key {key!r}. The node stops serving. Keep a copy of the file for inspection. If the "
            "other members are healthy, this node's data can be given up: replace the member."
        )
