"""Fixtures of the client's tests."""

from tests.support.cluster_fixtures import cluster, shared_cluster

__all__ = ["cluster", "shared_cluster"]
