"""What a command of the command line is: its name, help, flags and what runs it.

Each file of commands declares its own; `kvstore_cli.main` puts them together, with those that other
packages offer as entry points.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EXIT_CODES_TEXT = """\
exit codes:
  0   done
  1   the key, lease, member or token does not exist; doctor, incident show,
      upgrade: something is wrong
  2   the command line, a setting or the request is wrong; nothing was changed
  3   the condition did not hold, the lock was not free, or the members cannot be changed so;
      nothing was changed, but by txn --else
  4   unavailable (no node reachable, or no quorum); nothing was changed, try again
  5   outcome unknown: no answer in time; the write may have been applied
  6   lock, elect: the lease was lost; the command was stopped
  7   a backup or a change log is damaged, or not what it says
  74  serve: the disk, the state or an address failed; the message says what to do. Others: what
      they print cannot be written
  77  serve: this node was removed from its cluster
  130 interrupted

lock and elect end with the exit code of the command that they run.
"""

NOT_SOUND = 7

Flags = Callable[[ArgumentParser], None]
"""Adds flags and arguments to a parser."""
Handler = Callable[[Namespace], int]
"""Runs a parsed command line; the exit code. Raises KvError. It imports late what is large."""


@dataclass(frozen=True)
class Command:
    """One command. `summary` is a phrase that begins in lower case; `text` follows it in --help."""

    name: str
    summary: str
    text: str = ""
    flags: tuple[Flags, ...] = ()
    run: Handler | None = None
    """None if it is only a name for its actions."""
    actions: tuple["Command", ...] = ()
    usage: str | None = None
    """Instead of what argparse makes of the flags."""
    takes_words: bool = False
    """Whether what follows `--` is another program's command line; `run` finds it in `words`."""


def add_command(subparsers: Any, command: Command) -> None:
    """Add the command to what `ArgumentParser.add_subparsers` gave."""
    parser = subparsers.add_parser(
        command.name,
        help=command.summary,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.\n\n{command.text}",
        epilog=EXIT_CODES_TEXT,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage=command.usage,
    )
    for add_flags in command.flags:
        add_flags(parser)
    if command.run is not None:
        parser.set_defaults(handler=command.run)
    if command.actions:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for action in command.actions:
            add_command(actions, action)


# -- types of arguments; they raise ArgumentTypeError ----------------------------------------


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Seconds, more than 0 and less than a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return value


def seconds_or_zero(text: str) -> float:
    """Seconds, 0 or more and less than a day."""
    return 0.0 if text in ("0", "0.0") else seconds(text)


def lease_id(text: str) -> int:
    """The number of a lease: 64 bits with a sign, not 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 0 < abs(value) < 1 << 63:
        raise ArgumentTypeError(f"expected the number of a lease, got {text!r}")
    return value
