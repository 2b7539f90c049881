"""A short run of `chaos.py`, and that its judge finds what it should."""

import pytest

from tests.integration.chaos import History, Report, Verdict, failover, run
from tests.support.real_cluster import Answer

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("rounds", [1, pytest.param(12, marks=pytest.mark.proof)])
def test_kill9_of_one_or_all_under_load(new_cluster, rounds):
    """Rounds of which at least one kills all nodes: nothing lost, nothing wrong."""
    report = run(new_cluster(), rounds=rounds, seed=1)
    assert report.complaints() == []
    assert report.kills > rounds, "choose a seed that kills all nodes in some round"


@pytest.mark.proof
@pytest.mark.parametrize("rounds", [6])
def test_time_without_leader(new_cluster, rounds):
    """The next write after the leader's death is not far away. Generous: machines differ."""
    assert max(failover(new_cluster(), rounds=rounds)) < 5


@pytest.mark.parametrize(
    ("got", "lost", "wrong"),
    [
        (Answer(200, b"v", '"7"', 1), 0, 0),
        (Answer(404), 1, 0),
        (Answer(200, b"w", '"7"', 1), 0, 1),
        (Answer(200, b"v", '"9"', 2), 0, 1),
        (Answer(503), 0, 1),
    ],
)
def test_judge_of_unique_keys(got, lost, wrong):
    """An acknowledged key must be there once, as it was acknowledged."""
    verdict = Verdict()
    verdict.judge_unique("k", (7, b"v"), None, got)
    assert (len(verdict.lost), len(verdict.wrong)) == (lost, wrong)


@pytest.mark.parametrize(
    ("got", "lost", "wrong"),
    [
        (Answer(200, b"b", '"7"', 2), 0, 0),
        (Answer(200, b"unknown", '"8"', 3), 0, 0),
        (Answer(200, b"a", '"3"', 1), 1, 0),
        (Answer(404), 1, 0),
        (Answer(200, b"a", '"7"', 2), 0, 1),
        (Answer(200, b"a", '"9"', 3), 0, 1),
    ],
)
def test_judge_of_shared_keys(got, lost, wrong):
    """The last acknowledged value, or one of unknown outcome after it."""
    verdict = Verdict()
    verdict.judge_shared("s", {3: b"a", 7: b"b"}, {b"unknown"}, got)
    assert (len(verdict.lost), len(verdict.wrong)) == (lost, wrong)


def test_a_run_that_shows_nothing_fails():
    """No acknowledgement or no kill is no success."""
    assert len(Report().complaints()) == 2
    history = History()
    history.add("unique/1/1/1", b"v", Answer(503))
    assert history.count == 0 and not history.unknown
