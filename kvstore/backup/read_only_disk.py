"""A disk on which nothing is changed: what is looked at stays as it is."""

from collections.abc import Callable
from pathlib import Path

import lmdb

from kvstore.errors import StorageError
from kvstore.storage.disk import SystemDisk
from kvstore.storage.environment import LIB_VERSION, damaged, unusable
from kvstore.storage.pages import PageError, bytes_in_use

MAP_SLACK_BYTES = 1 << 20


class ReadOnlyDisk(SystemDisk):
    """Opens LMDB's files for reading only, once their pages are known to be there: LMDB ends the
    process by a signal where one is missing."""

    def environment(self, path: Path, databases: int, walk: bool = False) -> lmdb.Environment:
        """Raises StorageError."""
        try:
            size = path.stat().st_size
            in_use = bytes_in_use(path)
            if in_use > size:
                raise damaged(path, f"{size} bytes where at least {in_use} were written")
            return lmdb.open(
                str(path),
                subdir=False,
                map_size=-(-max(size, in_use) // (1 << 16) << 16) + MAP_SLACK_BYTES,
                max_dbs=databases,
                readonly=True,
                lock=False,
                readahead=False,
                lib_version=LIB_VERSION,
            )
        except PageError as error:
            raise damaged(path, str(error)) from None
        except (lmdb.Error, OSError) as error:
            raise unusable(path, error) from error

    def lock(self, path: Path) -> Callable[[], None]:
        """Raises StorageError: whoever only looks holds nothing."""
        raise StorageError(f"{path} is not locked by who only looks")
