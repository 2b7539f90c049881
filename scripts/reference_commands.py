"""The reference of the command line, written from its parsers."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping
from functools import partial
from typing import Any

from reference_text import fenced, page

from kvstore_cli.command import EXIT_CODES_TEXT
from kvstore_cli.main import COMMANDS, build_parser, offered_commands

_HEAD = """\
# Commands

What `kvstore --help` and `kvstore COMMAND --help` print. How to use them is in
[Python client and command line](../client.md), [operations](../operations.md) and the pages of
their subjects.
"""
_WIDTH = 96


def command_page() -> str:
    """The page. Commands that other packages offer are on it as far as they are installed."""
    parser = build_parser((*COMMANDS, *offered_commands()))
    exit_codes = EXIT_CODES_TEXT.strip()
    overview = _help(parser).replace(exit_codes, "")
    parts = [_HEAD, fenced(overview), f"## Exit codes\n\n{fenced(exit_codes)}"]
    for name, found in _below(parser).items():
        parts.append(f"## kvstore {name}")
        actions = _below(found)
        parts.append(fenced(_help(found)))
        for action, one in actions.items():
            parts += [f"### kvstore {name} {action}", fenced(_help(one))]
    return page(parts)


def _help(parser: ArgumentParser) -> str:
    """Its help, as wide on every terminal, without the exit codes, which are the same for all."""
    parser.formatter_class = partial(RawDescriptionHelpFormatter, width=_WIDTH)
    parser.epilog = None
    return parser.format_help()


def _below(parser: ArgumentParser) -> Mapping[str, ArgumentParser]:
    """The parsers of its commands or actions."""
    found: dict[str, ArgumentParser] = {}
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        choices: Mapping[str, Any] = action.choices or {}  # type: ignore[assignment]
        found |= choices
    return found
