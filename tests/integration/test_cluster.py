"""A cluster of real processes: reads and writes everywhere, crashes, stops, lost quorums."""

import json
import time

import pytest

from tests.support.real_cluster import Load, check_all, eventually

pytestmark = pytest.mark.integration


def test_clean_stop_hands_leadership_over(cluster):
    """A rolling restart: each leader finds a successor before it ends, and writes go on.

    The first test here, because what was done to the nodes before would be in their logs too.
    """
    for round_ in range(3):
        leader = cluster.leader()
        rest = [n for n in cluster.numbers if n != leader]
        assert cluster.stop(leader) == [0]
        log = cluster.log(leader)
        assert "stopping without a successor" not in log
        assert "failed" not in log and "Traceback" not in log
        assert cluster.put(rest[0], "after", b"%d" % round_).status == 200
        cluster.start(leader)
    for number in cluster.numbers:
        assert cluster.get(number, "after").body == b"2"
    cluster.converged()


def test_put_on_each_get_on_all(cluster):
    """What one node acknowledged, every node reads at once."""
    for writer in cluster.numbers:
        put = cluster.put(writer, f"key-{writer}", b"value-%d" % writer)
        assert put.status == 200
        for reader in cluster.numbers:
            got = cluster.get(reader, f"key-{writer}")
            assert (got.status, got.body) == (200, b"value-%d" % writer)
            assert got.etag == put.etag
    cluster.converged()


@pytest.mark.parametrize(
    "ways",
    [
        ("stop", "kill9"),
        pytest.param(("stop", "stop"), marks=pytest.mark.proof),
        pytest.param(("kill9", "kill9"), marks=pytest.mark.proof),
    ],
    ids=" and ".join,
)
def test_restart_of_the_whole_cluster_keeps_all(cluster, ways):
    """All down, all up, twice: everything is there, revisions go on, deletions stay."""
    with Load(cluster, cluster.numbers) as load:
        load.more(100)
    cluster.must_put(1, "gone", b"x")
    assert cluster.call(2, "DELETE", "/v1/kv/gone").status == 200
    last = cluster.must_put(3, "last", b"1").revision
    for way in ways:
        getattr(cluster, way)()
        cluster.start()
        for number in cluster.numbers:
            check_all(cluster, number, load.acknowledged)
            assert cluster.get(number, "gone").status == 404
        assert cluster.get(1, "last").revision == last
    assert cluster.must_put(2, "last", b"2").revision == last + 1
    cluster.converged()


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_kill9_under_load(cluster, victim):
    """Acknowledged writes survive on all; the others go on, and the victim catches up."""
    dead = cluster.leader() if victim == "leader" else cluster.followers()[0]
    rest = [n for n in cluster.numbers if n != dead]
    with Load(cluster, cluster.numbers * 2) as load:
        load.more(100)
        cluster.kill9(dead)
        load.more(100)
    for number in rest:
        check_all(cluster, number, load.acknowledged)
    cluster.start(dead)
    cluster.converged()
    check_all(cluster, dead, load.acknowledged, "?consistency=serializable")


def test_without_quorum_only_stale_reads(cluster):
    """One of three left: writes and linearizable reads are refused in time, others served."""
    cluster.must_put(1, "key", b"value")
    cluster.converged()
    survivor = cluster.followers()[0]
    cluster.kill9(*(n for n in cluster.numbers if n != survivor))
    eventually(lambda: not cluster.ready(survivor), "the survivor notices")
    for call in (
        lambda: cluster.put(survivor, "key", b"other", "?timeout=1"),
        lambda: cluster.get(survivor, "key", "?timeout=1"),
    ):
        began = time.monotonic()
        answer = call()
        took_s = time.monotonic() - began
        assert answer.status == 503, answer
        assert json.loads(answer.body)["outcome"] == "not-applied"
        assert took_s < 4
    stale = cluster.get(survivor, "key", "?consistency=serializable")
    assert (stale.status, stale.body) == (200, b"value")
    assert cluster.call(survivor, "GET", "/healthz").status == 200
    cluster.start()
    for number in cluster.numbers:
        assert cluster.get(number, "key").body == b"value"


def test_leader_without_quorum_acknowledges_nothing(cluster):
    """The same when the one that is left led: from the kill on, no write is acknowledged."""
    leader = cluster.leader()
    cluster.kill9(*cluster.followers())
    statuses = [cluster.put(leader, "minority", b"x", "?timeout=1").status for _ in range(2)]
    assert statuses[0] in (503, 504) and statuses[1] == 503
    assert cluster.get(leader, "minority", "?timeout=1").status == 503


def test_conditional_write_on_another_node(cluster):
    """Compare-and-swap holds once, wherever it is tried."""
    first = cluster.put(1, "lock", b"a", If_None_Match="*")
    assert first.status == 200
    assert cluster.put(2, "lock", b"b", If_None_Match="*").status == 412
    assert cluster.put(3, "lock", b"c", If_Match=first.etag).status == 200
    assert cluster.put(1, "lock", b"d", If_Match=first.etag).status == 412
    assert cluster.get(2, "lock").body == b"c"


def test_idempotency_key_retried_on_another_node(cluster):
    """The same request at every node, before and after a restart of all: applied once."""
    answers = [cluster.put(n, "paid", b"10", Idempotency_Key="k1") for n in (1, 2, 3)]
    cluster.kill9()
    cluster.start()
    answers += [cluster.put(n, "paid", b"10", Idempotency_Key="k1") for n in (3, 1)]
    assert {(a.status, a.body) for a in answers} == {(200, answers[0].body)}
    assert cluster.get(2, "paid").version == 1
    assert cluster.put(2, "paid", b"11", Idempotency_Key="k1").status in (409, 422)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.proof
def test_other_sizes(new_cluster, n):
    """One node alone, and five of which two may die."""
    cluster = new_cluster(n)
    cluster.must_put(n, "key", b"1")
    minority = cluster.numbers[: (n - 1) // 2]
    if minority:
        cluster.kill9(*minority)
        cluster.must_put(n, "key", b"2")
        cluster.start()
    else:
        cluster.kill9()
        cluster.start()
        cluster.must_put(n, "key", b"2")
    for number in cluster.numbers:
        assert cluster.get(number, "key").body == b"2"
    cluster.converged()
