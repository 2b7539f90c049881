"""The torture finds every lie that it is there to find, and praises no run that shows nothing."""

import argparse
import asyncio
import random
from collections import Counter

import pytest

from kvstore.errors import InvalidArgument
from proof.histories.history import CallRecord, Get, PutCall, Returned
from proof.torture import cli
from proof.torture import run as torture_run
from proof.torture.arguments import add_arguments
from proof.torture.faults.catalogue import FAULTS
from proof.torture.nemesis import TWO_AT_ONCE, Injected, rotation
from proof.torture.plan import Plan, check_data_dir, choose_faults
from proof.torture.readback import ReadBack, check_acknowledged, check_count
from proof.torture.record import Acknowledged, RunRecord
from proof.torture.report import Verdict, judge
from proof.torture.requests import Requests
from proof.torture.run import Findings
from proof.torture.timeline import availability, fault_rows, longest_gap_s
from tests.support.lying_store import LyingStore


def load_on(store: LyingStore, tmp_path) -> Verdict:
    """Some load on one store: enough calls for every lie, however slow the machine."""

    async def go() -> Findings:
        async with store.serve() as url:
            plan = Plan(
                duration_s=0.1, calls_min=900, seed=3, clients=8, rate=4000, endpoints=(url,)
            )
            return await torture_run.run(plan, tmp_path, lambda _: None)

    return judge(asyncio.run(go()))


def test_an_honest_store_passes(tmp_path):
    """Also every kind of call was made, and the keys are gone."""
    store = LyingStore()
    report = load_on(store, tmp_path)
    assert report.passed, report.text()
    assert {kind for kind, outcome in report.findings.record.counts if outcome == "ok"} >= {
        "get", "stale get", "last get", "put", "put if absent", "delete", "compare-and-put",
        "compare-and-delete", "repeated write",
    }  # fmt: skip
    assert store.keys and all(store.at(key)[1] is None for key in store.keys)


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ("forget", "lost: "),
        ("stale", "not linearizable"),
        pytest.param("twice", "sent again", marks=pytest.mark.proof),
        pytest.param("ignore", "not linearizable", marks=pytest.mark.proof),
        pytest.param("reuse", "was given to two writes", marks=pytest.mark.proof),
        pytest.param("fail", "answered 500", marks=pytest.mark.proof),
    ],
)
def test_a_lie_is_found(lie, complaint, tmp_path):
    """Each lie by the check that is there for it."""
    report = load_on(LyingStore(lie), tmp_path)
    assert not report.passed
    assert [text for text in report.complaints() if complaint in text], report.text()
    assert "FAILED" in report.text() and not report.document()["passed"]


@pytest.mark.parametrize(
    ("held", "value", "lost"),
    [
        ([(5, "a")], "a", ""),
        ([(5, "a"), (6, "b")], "a", ""),
        ([(4, "b")], "a", "has 'b' of revision 4 there"),
        ([(5, "b")], "a", "has 'b' of revision 5 there"),
        ([], "a", "has nothing there"),
        ([(4, "a"), (5, None)], None, ""),
        ([(4, "a")], None, "has 'a' of revision 4 there"),
    ],
)
def test_acknowledged_writes_are_looked_for(held, value, lost):
    """At the revision of the acknowledgement: a value, or that it was removed."""
    store, record, found = LyingStore(keys={"k": held}, revision=6), RunRecord(), ReadBack()
    record.acknowledged.append(Acknowledged("k", value, 5))

    async def go() -> None:
        async with store.serve() as url, Requests({1: url}) as requests:
            await check_acknowledged(requests, record, found)

    asyncio.run(go())
    assert found.checked == 1 and not found.unread
    assert [text for text in found.lost if lost in text] if lost else not found.lost


# -- one acknowledged write less ------------------------------------------------------------------


def findings_of(operations: list[CallRecord]) -> Findings:
    """A run that acknowledged one write, injected one fault, and read all back."""
    findings = Findings(Plan())
    findings.record.history.operations += operations
    findings.record.attempt("k", "a")
    findings.record.wrote("k", "a", 2)
    findings.read_back.checked = 1
    findings.injected.append(Injected(("kill-node",), "node 1 killed", 0.0, 1.0, 2.0))
    return findings


PUT = CallRecord(1, "k", PutCall("a"), 0.0, 1.0, Returned())


def test_a_lost_write_is_found_in_the_history():
    """The last reads of two nodes: one has the acknowledged value, the other has none."""
    honest = CallRecord(13, "k", Get(), 2.0, 3.0, Returned(value="a"))
    lost = CallRecord(14, "k", Get(), 4.0, 5.0, Returned(value=None))
    assert judge(findings_of([PUT, honest])).passed
    report = judge(findings_of([PUT, honest, lost]))
    assert not report.passed and not report.document()["linearizable"]
    assert "not linearizable" in report.complaints()[0]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda f: f.read_back.lost.append("k"), "lost: k"),
        (lambda f: f.read_back.unread.append("k"), "not read back: k"),
        (lambda f: f.read_back.problems.append("states differ"), "states differ"),
        (lambda f: f.problems.append("node 1 ended by itself"), "node 1 ended by itself"),
        (lambda f: f.record.complain("applied twice"), "applied twice"),
        (lambda f: f.injected.clear(), "no fault was injected"),
        (lambda f: f.record.acknowledged.clear(), "no write was acknowledged"),
        (lambda f: setattr(f.read_back, "checked", 0), "were not read back"),
    ],
)
def test_what_makes_a_run_fail(spoil, complaint):
    """Each by itself."""
    findings = findings_of([PUT])
    assert judge(findings).passed
    spoil(findings)
    report = judge(findings)
    assert not report.passed and complaint in report.text()


@pytest.mark.parametrize(("revision", "wrong"), [(3, False), (4, False), (2, True), (5, True)])
def test_the_store_counts_its_writes(revision, wrong):
    """Two acknowledged, one of unknown outcome: two or three were applied since revision 1."""
    record, found = RunRecord(), ReadBack(revision=revision)
    for number in (1, 2):
        record.attempt("k", f"v{number}")
        record.wrote("k", f"v{number}", 1 + number)
    record.unknown_writes = 1
    check_count(record, found, before=1)
    assert bool(found.problems) is wrong


def test_one_value_at_two_revisions():
    """A value that comes back with another revision was applied twice."""
    record = RunRecord()
    record.attempt("k", "a")
    record.wrote("k", "a", 5)
    record.seen("k", "a", 5)
    assert not record.complaints
    record.seen("k", "a", 7)
    record.seen("other", "a", 5)
    assert len(record.complaints) == 2


# -- time and choice --------------------------------------------------------------------------


def test_availability_and_gaps():
    """Windows of 100 ms from the beginning; gaps reach to both ends."""
    times = [0.01, 0.05, 0.25, 0.9]
    assert availability(times, 0.0, 1.0) == pytest.approx(0.3)
    assert availability([], 0.0, 1.0) == availability(times, 0.0, 0.05) == 0
    assert longest_gap_s(times, 0.0, 1.0) == pytest.approx(0.65)
    assert longest_gap_s(times, 0.95, 2.0) == pytest.approx(1.05)


def test_rows_of_faults():
    """Availability while it lasted, gaps until the next one; pairs have their own row."""
    times = [n / 20 for n in range(20)] + [3.0]
    faults = [
        Injected(("kill-node",), "", 0.0, 1.0, 1.0),
        Injected(("kill-node",), "", 1.0, 2.0, 3.0),
        Injected(("split", "kill-all"), "", 3.0, 4.0, 4.0),
    ]
    one, two = fault_rows(times, faults)
    assert (one.kind, one.injected, one.availability) == ("kill-node", 2, 0.5)
    assert (one.gap_min_s, one.gap_max_s) == (pytest.approx(0.05), pytest.approx(2.0))
    assert (two.kind, two.injected) == (TWO_AT_ONCE, 1)


def test_the_rotation_leaves_nothing_out():
    """Every round has each fault once by itself; pairs are of two groups."""
    turns = rotation(list(FAULTS.values()), random.Random(1))
    alone: Counter[str] = Counter()
    pairs = 0
    while sum(alone.values()) < 3 * len(FAULTS):
        names = next(turns)
        if len(names) == 1:
            alone[names[0].name] += 1
        else:
            pairs += 1
            assert len({fault.group for fault in names}) == 2
            assert all(fault.pairs for fault in names)
    assert set(alone.values()) == {3} and set(alone) == set(FAULTS) and pairs >= 9


@pytest.mark.parametrize(
    ("text", "nodes", "endpoints", "message"),
    [
        ("kill-nobody", 3, (), "there is no 'kill-nobody'"),
        ("bridge", 2, (), "needs 3 nodes"),
        (" , ", 3, (), "none given"),
        ("kill-node", 3, ("http://localhost:1",), "not started here"),
    ],
)
def test_faults_that_cannot_be(text, nodes, endpoints, message):
    """Refused, with the reason."""
    with pytest.raises(InvalidArgument, match=message):
        choose_faults(text, nodes, endpoints)


def test_the_list_of_faults(capsys, tmp_path):
    """`--faults list` starts nothing; a report that could not be written is refused at once."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert cli.run(parser.parse_args(["--faults", "list"])) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FAULTS)
    with pytest.raises(InvalidArgument, match="no directory"):
        cli.run(parser.parse_args(["--json", str(tmp_path / "missing" / "report.json")]))


def test_faults_that_can_be():
    """All by default that the number of nodes allows; none on a cluster of somebody else."""
    assert set(choose_faults(None, 3, ())) == set(FAULTS)
    assert "split" not in choose_faults(None, 1, ()) and "kill-all" in choose_faults(None, 1, ())
    assert choose_faults("split, kill-all,split", 3, ()) == ("split", "kill-all")
    assert choose_faults(None, 3, ("http://localhost:1",)) == ()


def test_a_data_directory_with_old_data(tmp_path):
    """It is refused: what an earlier run wrote would be counted."""
    check_data_dir(tmp_path)
    check_data_dir(tmp_path / "new")
    (tmp_path / "node-1").mkdir()
    with pytest.raises(InvalidArgument, match="not empty"):
        check_data_dir(tmp_path)
