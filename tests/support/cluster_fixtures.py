"""A real cluster for a module, from the helpers of the integration tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["cluster", "shared_cluster"]


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Any]:
    """Three nodes. A test that kills one starts it again; see `cluster`."""
    from tests.support.real_cluster import Cluster

    directory = Path(tempfile.mkdtemp(prefix="kvstore-test-"))
    cluster = Cluster(3, directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(directory)


@pytest.fixture
def cluster(shared_cluster: Any) -> Any:
    """The same, with all nodes running and a leader."""
    if not all(shared_cluster.running(number) for number in shared_cluster.numbers):
        shared_cluster.start()
    shared_cluster.leader()
    return shared_cluster
