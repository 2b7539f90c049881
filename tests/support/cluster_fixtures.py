"""Fixtures of real clusters, which are gone after the test with their processes and files.

A test directory that needs them imports them in its `conftest.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.real_cluster import Cluster, running_cluster

__all__ = ["cluster", "new_cluster", "shared_cluster"]


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    """Three nodes. A test that kills one starts it again; see `cluster`."""
    with running_cluster() as made:
        yield made


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The same, with all nodes running and a leader."""
    if not all(shared_cluster.running(number) for number in shared_cluster.numbers):
        shared_cluster.start()
    shared_cluster.leader()
    return shared_cluster


@pytest.fixture
def new_cluster() -> Iterator[Callable[..., Cluster]]:
    """Makes clusters; see `running_cluster` for the arguments."""
    with ExitStack() as stack:

        def make(n: int = 3, *, start: bool = True, **settings: object) -> Cluster:
            return stack.enter_context(running_cluster(n, start=start, **settings))

        yield make
