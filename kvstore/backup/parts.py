"""A backup that has come in part: what of it is sound is kept, and gone on with by a later run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kvstore.backup.frames import BACKUP_MAGIC, BackupFileReader, WholeChecksum
from kvstore.backup.headers import BackupHeader, decode_header
from kvstore.errors import BackupError


@dataclass
class PartialBackup:
    """The head and the first blocks of a backup, in an open file of `size` bytes."""

    file: BinaryIO
    header: BackupHeader
    total: WholeChecksum
    size: int

    def append(self, data: bytes) -> None:
        """At the end of the file. Raises OSError."""
        self.file.write(data)
        self.size += len(data)


def private(path: str, flags: int) -> int:
    """An opener: a backup holds what the store holds, so only its owner reads it."""
    return os.open(path, flags, 0o600)


def part_of(path: Path) -> Path:
    """Where the backup to be at `path` is until it is whole."""
    return path.with_name(f"{path.name}.part")


def read_part(path: Path) -> PartialBackup | None:
    """What there is of a backup to be at `path`, cut behind its last sound block; None if there is
    nothing to go on with. Raises OSError."""
    try:
        file = part_of(path).open("r+b")
    except FileNotFoundError:
        return None
    try:
        reader = BackupFileReader(file, BACKUP_MAGIC, path.name)
        header = decode_header(reader.header, path.name)
    except BackupError:
        file.close()
        return None
    try:
        while not reader.ended and reader.next_block() is not None:
            pass
    except BackupError:
        pass  # torn, or not written to its end: from here on it comes again
    size = reader.stored_bytes - (len(reader.total.end) if reader.ended else 0)
    file.seek(size)
    file.truncate()
    return PartialBackup(file, header, reader.total, size)
