"""Commits transactions to an LMDB file until it is killed; see test_lmdb_claims.py.

    python lmdb_writer.py FILE FIRST KEYS

Transaction i writes i to every key. It prints "commit i" before its commit, and "done i" once the
commit has returned.
"""

import sys
from itertools import count
from pathlib import Path

from kvstore.storage.environment import open_environment

DATABASE = b"claims"
PADDING = 700
"""Bytes beside the number: a transaction is to touch several pages."""


def main() -> None:
    """Never returns."""
    path, first, keys = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    environment = open_environment(path, databases=1)
    database = environment.open_db(DATABASE)
    for number in count(first):
        value = b"%d" % number
        with environment.begin(db=database, write=True) as transaction:
            for key in range(keys):
                transaction.put(b"%d" % key, value.ljust(PADDING))
            print("commit", number, flush=True)
        print("done", number, flush=True)


if __name__ == "__main__":
    main()
