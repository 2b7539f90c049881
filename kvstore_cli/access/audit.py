"""`kvstore audit verify`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvstore.audit_log import START, verify
from kvstore.errors import InvalidArgument
from kvstore_cli.command import Command
from kvstore_cli.output import OK, print_json

CHANGED = 3

_VERIFY = """\
Each line of an audit log carries the hash of the line before. 3 if a line was changed, removed or
put in; it says which. Lines cut off at the end leave no trace in the file: keep the hash that is
printed somewhere else, and give it as --expect later, when more lines have come.

examples:
  kvstore audit verify audit.jsonl
  kvstore audit verify audit.jsonl --json
"""


def _verify_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", type=Path)
    add("--expect", metavar="HASH", help="this line must be in it: the hash that was last printed")
    add("--json", action="store_true", help="answer in JSON")


class _Expected:
    """Whether a line follows the one of this hash."""

    def __init__(self, hash: str | None) -> None:
        self.seen = hash in (None, START)
        self._mark = f'"before":"{hash}"'.encode()

    def look(self, line: bytes) -> bytes:
        """The line itself."""
        self.seen = self.seen or self._mark in line
        return line


def _verify(options: Namespace) -> int:
    expected = _Expected(options.expect)
    try:
        with options.file.open("rb") as file:
            verdict = verify(map(expected.look, file))
    except OSError as error:
        text = f"file: cannot read {options.file}: {error.strerror}"
        raise InvalidArgument("file", text) from None
    fault = verdict.fault
    if not fault and not expected.seen and verdict.last != options.expect:
        fault = "is the last one, and the line of the expected hash is not there: lines are cut off"
    if options.json:
        print_json({**verdict._asdict(), "fault": fault})
    elif fault:
        print(f"{options.file}, line {verdict.line}: {fault}")
    else:
        lost = f"; the node lost {verdict.missing} more" if verdict.missing else ""
        print(f"{verdict.records} records are as they were written{lost}; last: {verdict.last}")
    return CHANGED if fault else OK


COMMANDS = (
    Command(
        "audit", "look at an audit log", _VERIFY,
        actions=(
            Command("verify", "find lines that were changed", _VERIFY, (_verify_flags,), _verify),
        ),
    ),
)  # fmt: skip
