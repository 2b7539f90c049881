"""What the parsers of the command line share."""

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from typing import Any

EXIT_CODES_TEXT = """\
exit codes:
  0   done
  1   the key or the lease does not exist
  2   the command line, a setting or the request is wrong; nothing was changed
  3   the condition did not hold, or the lock was not free; nothing was changed, but by txn --else
  4   unavailable (no node reachable, or no quorum); nothing was changed, try again
  5   outcome unknown: no answer in time; the write may have been applied
  6   lock, elect: the lease was lost; the command was stopped
  74  serve: the disk, the state or an address failed; the message says what to do
  130 interrupted

lock and elect end with the exit code of the command that they run.
"""


def add(commands: Any, name: str, short: str, text: str, *parents: ArgumentParser) -> Any:
    """A command with its help: a sentence, then `text`, then the exit codes."""
    return commands.add_parser(
        name,
        help=short,
        description=f"{short[0].upper()}{short[1:]}.\n\n{text}",
        epilog=EXIT_CODES_TEXT,
        parents=parents,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def positive(text: str) -> int:
    """A type of argument."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A type of argument."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return value


def lease_id(text: str) -> int:
    """A type of argument."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 0 < abs(value) < 1 << 63:
        raise ArgumentTypeError(f"expected the number of a lease, got {text!r}")
    return value


def not_negative(text: str) -> float:
    """A type of argument."""
    return 0.0 if text in ("0", "0.0") else seconds(text)
