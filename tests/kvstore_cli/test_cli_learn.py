"""`kvstore learn`: the list, one lesson, and one's way through it."""

import builtins
import sys
from collections.abc import Iterator

import pytest

from kvstore_cli.main import main


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["learn", *words]) == 0
    return capsys.readouterr().out


def test_the_list_and_a_lesson(capsys: pytest.CaptureFixture[str]) -> None:
    assert "leader-crash" in said(capsys)
    text = said(capsys, "single-decree", "--all")
    assert "1 -> 2  Prepare 1.1" in text and "1 -x 4  Prepare is lost" in text
    assert "knows that blue is chosen in slot 1" in text


def test_no_such_lesson(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "raft"]) == 2
    assert "single-decree" in capsys.readouterr().err


def test_one_goes_on_and_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Iterator[str] = iter(["", "", "b", "q"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(builtins, "input", lambda _: next(answers))
    text = said(capsys, "single-decree")
    numbers = [line.split("/")[0] for line in text.splitlines() if "/" in line[:4]]
    assert numbers == ["1", "2", "3", "2"]


def test_one_tries_it_oneself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Iterator[str] = iter(["p1", "nonsense", "d1", "u", "x1", "a", "a", "a", "q"])
    monkeypatch.setattr(builtins, "input", lambda _: next(answers))
    text = said(capsys, "try")
    assert "1 -> 3  Prepare 1.1" in text and "'nonsense' cannot be done now." in text
    assert "Node 2 promises to accept nothing below 1.1." in text
    assert "1 -x 2  Prepare is lost" in text
    assert "A quorum has promised. Node 1 proposes red in ballot 1.1" in text
    assert "chosen: red" in text
