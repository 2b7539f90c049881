"""The data directory is nobody else's: it holds values, password hashes and the signing secret."""

import os
import pwd
from pathlib import Path

from kvstore.errors import StorageError

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600


def make_private(directory: Path) -> None:
    """Make the directory if it is not there, and take from others what they may do to it and to the
    files in it, whatever the umask is. What this process makes from now on is private as well.

    Raises StorageError, with the command that mends it, for what belongs to somebody else; OSError.
    """
    os.umask(0o077)
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        text = f"the data directory {directory} cannot be used: {error}"
        raise StorageError(text) from error
    _take(directory, DIRECTORY_MODE, directory)
    for path in directory.iterdir():
        if path.is_symlink():
            continue
        _take(path, DIRECTORY_MODE if path.is_dir() else FILE_MODE, directory)


def _take(path: Path, mode: int, directory: Path) -> None:
    status = path.stat()
    if status.st_uid != os.getuid():
        raise StorageError(
            f"{path} belongs to {_name(status.st_uid)}, and this process runs as "
            f"{_name(os.getuid())}; mend it with: chown -R {_name(os.getuid())} {directory}"
        )
    if status.st_mode & 0o077:
        path.chmod(status.st_mode & 0o7777 & mode | (mode & 0o600))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
