"""Watchers and leases across a leader's death, in small; `make proof` runs the same in large."""

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.at_scale import Leases, watch_all
from tests.support.real_cluster import Cluster

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("watchers", "writes", "kills"),
    [
        pytest.param(9, 900, 1, marks=pytest.mark.proof),
        pytest.param(60, 5000, 2, marks=pytest.mark.proof),
    ],
)
def test_watchers_miss_nothing(
    new_cluster: Callable[..., Cluster], watchers: int, writes: int, kills: int
) -> None:
    report = asyncio.run(watch_all(new_cluster(3), watchers, writes, kills))
    assert not report.wrong(), report
    assert report.kills == kills and report.events >= watchers * report.written


@pytest.mark.parametrize(
    ("leases", "ttl_s", "seconds"),
    [
        pytest.param(60, 3, 9, marks=pytest.mark.proof),
        pytest.param(2000, 8, 25, marks=pytest.mark.proof),
    ],
)
def test_leases_last_their_time(
    new_cluster: Callable[..., Cluster], leases: int, ttl_s: int, seconds: float
) -> None:
    report = asyncio.run(Leases(new_cluster(3), leases, ttl_s).run(seconds, kill=True))
    assert not report.early, report
    assert report.kills == 1 and report.let_go and report.renewals
