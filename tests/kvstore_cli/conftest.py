"""Fixtures of the command line's tests."""

from tests.support.cluster_fixtures import cluster, shared_cluster

__all__ = ["cluster", "shared_cluster"]
