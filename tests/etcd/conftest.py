"""A real etcd and ours, shared by the tests of this directory.

With AGAINST=etcd in the environment a second etcd stands in for ours: that must give no
difference, or the comparison itself is wrong.
"""

import os
from collections.abc import Iterator

import pytest

from proof.processes.etcd import ETCD_MISSING, etcd_binary
from tests.etcd.servers import Etcd, Ours, Server
from tests.support.cluster_fixtures import cluster, shared_cluster

__all__ = ["cluster", "pair", "shared_cluster"]


@pytest.fixture(scope="package")
def pair() -> Iterator[tuple[Server, Server]]:
    """etcd, and what is compared with it."""
    if etcd_binary() is None:
        pytest.skip(ETCD_MISSING)
    etcd = Etcd()
    try:
        other = Etcd("second etcd") if os.environ.get("AGAINST") == "etcd" else Ours()
        try:
            yield etcd, other
        finally:
            other.stop()
    finally:
        etcd.stop()
