"""A node that was away catches up: from the log if that reaches back, else by a snapshot."""

import pytest

from tests.support.real_cluster import Load, check_all, eventually

pytestmark = pytest.mark.integration

INSTALLED = "snapshot installed"


@pytest.mark.proof
def test_catch_up_by_log(new_cluster):
    """What the log still holds travels as slots; no snapshot is made."""
    cluster = new_cluster()
    away = cluster.followers()[0]
    cluster.kill9(away)
    with Load(cluster, [n for n in cluster.numbers if n != away] * 2) as load:
        load.more(300)
    cluster.start(away)
    cluster.converged()
    assert "snapshot" not in cluster.log(away)
    check_all(cluster, away, load.acknowledged, "?consistency=serializable")


@pytest.mark.parametrize("again", ["at once", pytest.param("after", marks=pytest.mark.proof)])
def test_catch_up_by_snapshot(new_cluster, again):
    """The log was truncated beyond what the node has; kill -9 right after changes nothing.

    "at once" kills it the moment it logs the installation, "after" when it has converged.
    """
    cluster = new_cluster(log_tail_bytes=20_000, log_tail_slots=30)
    away = cluster.followers()[0]
    cluster.must_put(away, "before", b"1")
    cluster.converged()
    cluster.kill9(away)
    rest = [n for n in cluster.numbers if n != away]
    had = cluster.status(rest[0])["applied_through"]
    with Load(cluster, rest * 2, size=1000) as load:
        load.more(300)
        eventually(
            lambda: all(cluster.status(n)["node"]["log_first_slot"] > had + 1 for n in rest),
            "the others truncate what the laggard needs",
        )
    cluster.start(away, wait=False)
    eventually(lambda: INSTALLED in cluster.log(away), "a snapshot is installed")
    if again == "after":
        cluster.converged()
    cluster.kill9(away)
    cluster.start(away)
    cluster.converged()
    check_all(cluster, away, load.acknowledged, "?consistency=serializable")
    assert cluster.get(away, "before").body == b"1"
    _can_carry_the_cluster(cluster, away, rest)


def _can_carry_the_cluster(cluster, laggard, rest):
    """With one of the others gone, the laggard's vote and its log are needed, and do."""
    cluster.kill9(rest[0])
    cluster.must_put(laggard, "after", b"2")
    assert cluster.get(rest[1], "after").body == b"2"


@pytest.mark.proof
def test_snapshot_while_writes_go_on(new_cluster):
    """The laggard catches up with a cluster that does not wait for it."""
    cluster = new_cluster(log_tail_bytes=2_000_000, log_tail_slots=5)
    away = cluster.followers()[0]
    cluster.kill9(away)
    rest = [n for n in cluster.numbers if n != away]
    with Load(cluster, rest * 2, size=1000) as load:
        load.more(300)
        cluster.start(away, wait=False)
        eventually(lambda: INSTALLED in cluster.log(away), "a snapshot is installed")
        load.more(50)
    cluster.converged()
    check_all(cluster, away, load.acknowledged, "?consistency=serializable")
