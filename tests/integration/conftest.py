"""Fixtures of the integration tests."""

from tests.support.cluster_fixtures import cluster, new_cluster, shared_cluster

__all__ = ["cluster", "new_cluster", "shared_cluster"]
