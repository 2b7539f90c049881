"""Out of a backup's file comes the state's file that it holds, checked to the last byte."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from kvstore.backup.frames import BACKUP_MAGIC, BackupFileReader
from kvstore.backup.headers import BackupHeader, decode_header
from kvstore.errors import BackupError

Advance = Callable[[int, int], None]
"""Hears how many bytes are done, of how many."""


def nobody_watches(_done: int, _of: int) -> None:
    """For callers without a progress bar."""


def read_header(file: BinaryIO, name: str) -> BackupHeader:
    """Of an open backup. Raises BackupError."""
    return decode_header(BackupFileReader(file, BACKUP_MAGIC, name).header, name)


def unpack_state(
    file: BinaryIO, name: str, to: Path, advance: Advance = nobody_watches
) -> BackupHeader:
    """Write the state that the backup in `file` holds to `to`, which is replaced.

    Raises BackupError if anything in the backup is not as it was written, and OSError.
    """
    reader = BackupFileReader(file, BACKUP_MAGIC, name)
    header = decode_header(reader.header, name)
    with to.open("wb") as out:
        done = 0
        for data in reader.blocks():
            out.write(data)
            done += len(data)
            advance(done, header.raw_bytes)
        out.flush()
        os.fsync(out.fileno())
    if done != header.raw_bytes:
        raise BackupError(f"{name} says that it holds {header.raw_bytes} bytes, and holds {done}")
    return header
