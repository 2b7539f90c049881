"""`kvstore simulate`: what it prints, what it writes, and its exit codes."""

import json
from pathlib import Path

import msgspec
import pytest

from kvstore_cli.main import main
from proof.simulation.cluster.fault_plan import FAULTS
from proof.simulation.cluster.scenario import draw
from proof.simulation.lessons import LESSONS


def simulate(*arguments: str) -> int:
    return main(["simulate", *arguments])


def test_one_seed_tells_its_scenario_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seed", "3", "--nodes", "3") == 0
    out = capsys.readouterr().out
    assert out.startswith("seed 3: 3 nodes, phase 1 quorum 2, phase 2 quorum 2")
    assert "trace digest" in out and out.endswith("No invariant was violated.\n")
    assert simulate("--seed", "3", "--nodes", "3") == 0
    assert capsys.readouterr().out == out


@pytest.mark.proof
def test_many_seeds_show_what_they_reached(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert simulate("--seeds", "2", "--jobs", "2", "--faults", "kill,pause", "--nodes", "3") == 0
    captured = capsys.readouterr()
    rows = {line.rsplit(maxsplit=2)[0] for line in captured.out.splitlines() if line.count(" ") > 2}
    assert {"election", "fault: kill", "fault: pause"} <= rows
    assert "2 seeds from 1 on" in captured.out and "virtual hours" in captured.out
    assert "2/2 seeds" in captured.err or captured.err == ""
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_trace_is_one_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "trace.html"
    assert simulate("--seed", "12", "--nodes", "3", "--trace", str(page)) == 0
    text = page.read_text()
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "kvstore simulate --seed 12 --nodes 3" in text
    assert str(page) in capsys.readouterr().out


def test_a_scenario_is_replayed_from_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "scenario.json"
    file.write_bytes(msgspec.json.encode(draw(5, nodes=3)))
    assert simulate("--replay", str(file)) == 0
    assert capsys.readouterr().out.startswith("seed 5: 3 nodes")


@pytest.mark.parametrize("name", LESSONS)
def test_lessons_are_told(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "lesson.html"
    assert simulate("--lesson", name, "--trace", str(page)) == 0
    out = capsys.readouterr().out
    assert "\n1. " in out and f"kvstore simulate --lesson {name}" in out
    assert page.stat().st_size > 10_000


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--lesson", "list") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(LESSONS)
    assert simulate("--faults", "list") == 0
    assert capsys.readouterr().out.split() == list(FAULTS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--faults", "kill,flood"), "'flood' is none of"),
        (("--lesson", "latin"), "'latin' is none of"),
        (("--nodes", "8"), "expected 1 to 7, got 8"),
        (("--jobs", "0"), "expected 1 to 256, got 0"),
        (("--seed", "1", "--nodes", "1", "--faults", "split"), "can happen to 1 nodes"),
        (("--replay", "nowhere.json"), "nowhere.json"),
    ],
)
def test_what_cannot_be_run_is_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_holds_no_scenario_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps({"seed": 1}))
    assert simulate("--replay", str(file)) == 2
    assert "replay" in capsys.readouterr().err
