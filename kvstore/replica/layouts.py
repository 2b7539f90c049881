"""State files of older releases: what a directory or a snapshot may hold, and how it is read."""

from pathlib import Path

from kvstore.state import layout_2
from kvstore.storage.conversion import bring_up_to_date
from kvstore.storage.disk import Disk


def bring_state_up_to_date(path: Path, disk: Disk) -> bool:
    """Convert a file of the layout before; whether it was one. Raises StorageError, OSError."""
    return bring_up_to_date(path, disk, layout_2.MARK, layout_2.TABLES, layout_2.convert)
