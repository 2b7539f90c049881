"""A real etcd and ours, shared by the tests of this directory.

With AGAINST=etcd in the environment a second etcd stands in for ours: that must give no
difference, or the comparison itself is wrong.
"""

import os
from collections.abc import Iterator

import pytest

from tests.etcd.servers import MISSING, Etcd, Ours, Server, etcd_binary


@pytest.fixture(scope="session")
def pair() -> Iterator[tuple[Server, Server]]:
    """etcd, and what is compared with it."""
    if etcd_binary() is None:
        pytest.skip(MISSING)
    etcd = Etcd()
    try:
        other = Etcd("second etcd") if os.environ.get("AGAINST") == "etcd" else Ours()
        try:
            yield etcd, other
        finally:
            other.stop()
    finally:
        etcd.stop()
