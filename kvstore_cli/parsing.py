"""How the command line is read: mistakes get a suggestion, and flags may stand before the verb."""

import difflib
import re
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, NoReturn

from kvstore_cli.command import Command

SHARED_FLAGS = frozenset(
    ("--endpoints", "--timeout", "--user", "--password-file", "--token-file", "--ca", "--cert",
     "--key")
)  # fmt: skip
"""Flags with a value that every command of a client has, wherever they stand."""
SHARED_SWITCHES = frozenset(("--json",))


class SuggestingParser(ArgumentParser):
    """Says what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """See `ArgumentParser.error`."""
        super().error(message + self._suggestion(message))

    def _suggestion(self, message: str) -> str:
        chosen = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if chosen:
            known = [word.strip("'\" ") for word in chosen[2].split(",")]
            return _did_you_mean([chosen[1]], known)
        unknown = re.match(r"unrecognized arguments: (.*)", message)
        if unknown:
            words = [word.partition("=")[0] for word in unknown[1].split() if word[:1] == "-"]
            return _did_you_mean(words, self.known_flags())
        return ""

    def known_flags(self) -> list[str]:
        """Those of this parser and of the commands below it."""
        found = list(self._option_string_actions)
        for action in self._subparsers._group_actions if self._subparsers else ():
            choices: Mapping[str, Any] = action.choices or {}  # type: ignore[assignment]
            for parser in choices.values():
                found += parser.known_flags()
        return found


def _did_you_mean(words: list[str], known: list[str]) -> str:
    for word in words:
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
        if close:
            return f"\ndid you mean {close[0]}?"
    return ""


def verb_first(argv: list[str], commands: Mapping[str, Command]) -> list[str]:
    """The same words with the shared flags that stand before the verb behind it, or behind its
    action."""
    at = 0
    while at < len(argv):
        name = argv[at].partition("=")[0]
        if name in SHARED_FLAGS:
            at += 1 if "=" in argv[at] else 2
        elif name in SHARED_SWITCHES:
            at += 1
        else:
            break
    if not 0 < at < len(argv):
        return argv
    before, verb, rest = argv[:at], argv[at], argv[at + 1 :]
    if verb in commands and commands[verb].actions and rest:
        return [verb, rest[0], *before, *rest[1:]]
    return [verb, *before, *rest]
