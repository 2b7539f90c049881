"""The judge that the demo shows: it sees what is not linearizable, and forgets what is judged."""

import tomllib
from importlib import import_module

from proof.histories.live import LiveJudge
from tests.support.paths import ROOT


def test_a_good_history_is_good() -> None:
    judge = LiveJudge()
    judge.put(1, "a/k", "1", 0.0, 1.0)
    judge.get(2, "a/k", "1", 2.0, 3.0)
    judge.put(1, "a/k", "2", 4.0, None)
    judge.get(2, "a/k", "2", 5.0, 6.0)
    judge.put(1, "b/k", "9", 4.0, 5.0)
    judge.judge("a/")
    assert judge.verdict() == {
        "rounds": 1,
        "operations": 4,
        "undecided": 0,
        "linearizable": True,
        "failures": [],
    }
    assert list(judge._open) == ["b/k"], "what is judged is forgotten"


def test_a_lost_write_is_seen_and_not_forgotten() -> None:
    judge = LiveJudge()
    judge.put(1, "a/k", "1", 0.0, 1.0)
    judge.get(2, "a/k", None, 2.0, 3.0)
    judge.judge("a/")
    judge.get(2, "b/k", None, 2.0, 3.0)
    judge.judge("b/")
    verdict = judge.verdict()
    assert verdict["linearizable"] is False
    assert verdict["rounds"] == 2 and len(verdict["failures"]) == 1


def test_the_demo_finds_it_by_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["kvstore.demo"]["judge"].partition(":")
    assert getattr(import_module(module), name) is LiveJudge
