"""What is taken out of a copy of the state before it leaves the cluster.

A backup lies where others can read it, and the secret that signs tokens makes everybody root who
has it. So no copy that a client gets holds it: not in the table, and not in a page that is free. A
state that was restored from such a copy has none, and makes one at the first login.
(Copies for other members keep it: they are the cluster.)
"""

import mmap
from pathlib import Path

import lmdb

from kvstore.state.users import META_KEY, TABLE, secret_of, without_secret
from kvstore.storage.environment import damaged, open_environment
from kvstore.storage.sealed import SEAL_BYTES, is_sound, seal
from kvstore.storage.state import lock_of


def strip_secret(path: Path) -> None:
    """Take the secret out of the state file at `path`, which nobody uses. Takes as long as to read
    the file: not for the loop's thread. Raises StorageError, OSError, lmdb.Error."""
    secret = _forget(path)
    if secret:
        _erase(path, secret)


def _forget(path: Path) -> bytes:
    """Remove it from its record; what it was, b"" if there was none."""
    environment = open_environment(path, 1)
    try:
        table = environment.open_db(TABLE.encode(), create=False)
        with environment.begin(write=True) as transaction:
            sealed = transaction.get(META_KEY, db=table)
            if sealed is None:
                return b""
            if not is_sound(META_KEY, sealed):
                raise damaged(path, "the checksum of a record of users does not fit")
            record = sealed[:-SEAL_BYTES]
            transaction.put(META_KEY, seal(META_KEY, without_secret(record)), db=table)
            return secret_of(record)
    except lmdb.NotFoundError:
        return b""
    finally:
        environment.close()
        lock_of(path).unlink(missing_ok=True)


def _erase(path: Path, secret: bytes) -> None:
    """Overwrite it wherever it is left: in pages that are free now."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        at = pages.find(secret)
        while at >= 0:
            pages[at : at + len(secret)] = bytes(len(secret))
            at = pages.find(secret, at)
        pages.flush()
