"""Fixtures of the integration tests."""

from tests.support.cluster_fixtures import new_cluster

__all__ = ["new_cluster"]
