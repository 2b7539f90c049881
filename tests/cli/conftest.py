"""Fixtures of the command line's tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "client"))

from cluster_fixtures import cluster, shared_cluster

__all__ = ["cluster", "shared_cluster"]
