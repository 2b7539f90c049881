"""Fixtures of the tests of incidents."""

from tests.support.cluster_fixtures import cluster, new_cluster, shared_cluster

__all__ = ["cluster", "new_cluster", "shared_cluster"]
