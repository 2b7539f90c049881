"""`kvstore txn`'s little language, and what it sends."""

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kvstore.client import (
    Compare,
    LeaseId,
    ModRevision,
    Operation,
    Value,
    Version,
    absent,
    delete,
    exists,
    get,
    put,
)
from kvstore.errors import InvalidArgument
from kvstore_cli.keys.transactions import parse_compare, parse_operation
from kvstore_cli.main import main
from tests.support.flaky_node import FlakyNode, Seen, answers


@pytest.mark.parametrize(
    ("text", "compare"),
    [
        ("value(a) = x", Value("a") == "x"),
        (" value(a b)  !=  two words ", Value("a b") != "two words"),
        ("value(a)='two  words'", Value("a") == "two  words"),
        ('value(a) = ""', Value("a") == ""),
        ("value(f(x)) < y", Value("f(x)") < "y"),
        ("value(a) = ) = b", Value("a") == ") = b"),
        ("version(a) > 0", Version("a") > 0),
        ("mod_revision(a) <= 7", ModRevision("a") <= 7),
        ("lease(a) != 4611686018427387905", LeaseId("a") != 4611686018427387905),
        ("exists(a)", exists("a")),
        ("absent(a=b)", absent("a=b")),
    ],
)
def test_compares(text: str, compare: Compare) -> None:
    assert parse_compare(text).document == compare.document


@pytest.mark.parametrize(
    "text",
    [
        "",
        "value(a)",
        "value a = b",
        "size(a) = 3",
        "version(a) = x",
        "value(a) <= x",
        "exists(a) = 1",
    ],
)
def test_compares_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_compare(text)


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("put a 'two words'", put("a", "two words")),
        ("put a x --lease 7", put("a", "x", lease=7)),
        ("get a", get("a")),
        ("get --prefix a/", get(prefix="a/")),
        ("del a", delete("a")),
        ("del --prefix a/", delete(prefix="a/")),
    ],
)
def test_operations(text: str, operation: Operation) -> None:
    assert parse_operation(text) == operation


@pytest.mark.parametrize("text", ["", "put a", "put a b c", "drop a", "put a 'b", "get"])
def test_operations_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_operation(text)


def kvstore(answer: object, *words: str) -> tuple[int, list[Seen]]:
    async def run() -> tuple[int, list[Seen]]:
        async with asyncio.timeout(20), FlakyNode(answers(answer)) as node:
            flags = ["--endpoints", node.url, "--timeout", "2"]
            return await asyncio.to_thread(main, [words[0], *flags, *words[1:]]), node.seen

    return asyncio.run(run())


def done(succeeded: bool, *results: dict[str, Any]) -> dict[str, Any]:
    return {"succeeded": succeeded, "revision": 9, "results": list(results)}


def test_flags_become_a_transaction(capfd: pytest.CaptureFixture[str]) -> None:
    item = {"key": "b", "value": "tab\t", "create_revision": 1, "mod_revision": 1, "version": 1}
    found = {"get": {"items": [item], "count": 1, "more": False}}
    code, seen = kvstore(
        done(False, found, {"txn": done(True, {"delete": {"deleted": 2}})}),
        "txn", "--if", "absent(a)", "--then", "put a 1", "--then", "get a", "--else", "get b",
    )  # fmt: skip
    assert code == 3
    sent = json.loads(seen[0].body)
    assert [len(sent[part]) for part in ("compare", "then", "else")] == [1, 2, 1]
    assert capfd.readouterr().out == "else, revision 9\nget\tb\ttab\\t\nthen\n  del\t2\n"


def test_json_goes_through(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"compare": [], "then": [{"put": {"key": "a", "value": "1"}}]}
    answer = done(True, {"put": {"revision": 9, "version": 1}})
    (tmp_path / "t.json").write_text(json.dumps(document))
    code, seen = kvstore(answer, "txn", str(tmp_path / "t.json"), "--json")
    assert code == 0 and json.loads(seen[0].body) == document
    assert json.loads(capfd.readouterr().out) == answer
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(document).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, seen = kvstore(answer, "txn")
    assert code == 0 and json.loads(seen[0].body) == document


@pytest.mark.parametrize(
    "words", [["/nonexistent"], ["x.json", "--then", "get a"], ["--if", "nonsense"]]
)
def test_transactions_that_cannot_be(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert kvstore(done(True), "txn", *words)[0] == 2
    assert "kvstore txn --help" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["watch", "history", "txn", "lease", "lock", "elect", "put"])
def test_help_shows_examples_and_exit_codes(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capfd.readouterr().out
    assert "examples:\n  " in text and f"kvstore {command}" in text and "exit codes:" in text


def test_the_command_after_two_dashes_is_not_ours(capfd: pytest.CaptureFixture[str]) -> None:
    code, seen = kvstore({}, "lock", "a", "--ttl", "5", "--", "/nonexistent", "--ttl", "x")
    assert code == 127 and not seen
    code, seen = kvstore({}, "lock", "a", "--", "/etc/passwd")
    assert code == 126 and not seen
