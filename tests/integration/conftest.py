"""Clusters that are gone after the test, with their processes, threads and files."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.real_cluster import Cluster


@pytest.fixture
def new_cluster() -> Iterator[Callable[..., Cluster]]:
    """Makes clusters; see `Cluster` for the arguments. `start=False` leaves them down."""
    with ExitStack() as stack:

        def make(n: int = 3, *, start: bool = True, **settings: object) -> Cluster:
            directory = Path(tempfile.mkdtemp(prefix="kvstore-test-"))
            stack.callback(shutil.rmtree, directory)
            cluster = Cluster(n, directory, **settings)
            stack.callback(cluster.close)
            if start:
                cluster.start()
            return cluster

        yield make
