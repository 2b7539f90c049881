"""Looks whether the older segments of the log are still what was written, while the log goes on.

They are read at a start only, and a start refuses a log that is damaged. So damage is looked for
before: what the disk has lost is told while the node runs and the others can still help.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kvstore.errors import StorageError
from kvstore.storage.disk import SYSTEM_DISK, Disk
from kvstore.storage.environment import damaged, unusable
from kvstore.storage.groups import SECTOR_BYTES, NotWhole, decode_head, decode_records
from kvstore.storage.segments import parse_header, segment_numbers, segment_path


def check_segments(directory: Path, bytes_max: int, disk: Disk = SYSTEM_DISK) -> Iterator[int]:
    """Look through all segments but the last, about `bytes_max` bytes for each number that it
    yields: how many records were sound. One that is given up meanwhile is left out.

    The last one is left out too: it is being written. Each `next` may run on another thread.
    Raises StorageError that names the file and the offset of what is not what was written.
    """
    for number in segment_numbers(disk, directory)[:-1]:
        path = segment_path(directory, number)
        try:
            yield from _check(disk, directory, number, bytes_max)
        except (StorageError, OSError) as error:
            # A file that is used again has lost its name before anything in it changes.
            if disk.size(path) is None:
                continue
            if isinstance(error, OSError):
                raise unusable(path, error) from error
            raise


def _check(disk: Disk, directory: Path, number: int, bytes_max: int) -> Iterator[int]:
    """All groups of a segment, up to the last one that it must hold."""
    _, last_group, _ = _header(disk, directory, number + 1)
    path = segment_path(directory, number)
    size, group, generation = _header(disk, directory, number)
    file = disk.open(path)
    try:
        begins, window = SECTOR_BYTES, bytes_max
        while group < last_group:
            data = file.read_at(begins, window)
            found = _whole_groups(data, begins, generation, group, last_group)
            if found.end:
                group, begins, window = found.group, begins + found.end, bytes_max
                yield found.records
            elif begins + window < size:
                window *= 2  # it may be a large one
            else:
                what = f"at byte {begins} there is no whole group {group + 1}: {found.reason}"
                raise damaged(path, what)
    finally:
        file.close()


def _header(disk: Disk, directory: Path, number: int) -> tuple[int, int, bytes]:
    """See `parse_header`. Raises StorageError, OSError."""
    path = segment_path(directory, number)
    file = disk.open(path)
    try:
        return parse_header(path, number, file.read_at(0, SECTOR_BYTES), file.size())
    finally:
        file.close()


class _Found(NamedTuple):
    """The groups at the beginning of some bytes: the last one's number, how many records they
    hold, where they end, and why there are no more."""

    group: int
    records: int
    end: int
    reason: str


def _whole_groups(
    data: bytes, begins: int, generation: bytes, group: int, last_group: int
) -> _Found:
    """Those that follow `group`, no further than `last_group`; `data` stands at `begins`."""
    records = end = 0
    reason = ""
    while group < last_group and not reason:
        try:
            head = decode_head(data, end, generation, begins)
            entries = decode_records(data, head)
        except NotWhole as error:
            reason = str(error)
            continue
        if head.is_seal or head.number != group + 1 or head.end > len(data):
            reason = "something else stands there"
        else:
            records += len(entries)
            group, end = head.number, head.end
    return _Found(group, records, end, reason)
