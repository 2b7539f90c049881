"""Watchers and leases across a leader's death, in small; `at_scale.py` runs the same in large."""

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.at_scale import Leases, watch_all
from tests.support.real_cluster import Cluster

pytestmark = pytest.mark.integration


def test_watchers_miss_nothing(new_cluster: Callable[..., Cluster]) -> None:
    report = asyncio.run(watch_all(new_cluster(3), watchers=9, writes=900, kills=1))
    assert not report.wrong(), report
    assert report.kills == 1 and report.events >= 9 * report.written


def test_leases_last_their_time(new_cluster: Callable[..., Cluster]) -> None:
    report = asyncio.run(Leases(new_cluster(3), leases=60, ttl_s=3).run(9, kill=True))
    assert not report.early, report
    assert report.kills == 1 and report.let_go and report.renewals
