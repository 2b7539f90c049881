"""The command `kvstore`: all commands together, and one table from errors to exit codes."""

import asyncio
import io
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable
from contextlib import suppress

from kvstore import __version__
from kvstore.errors import (
    BackupError,
    ConditionFailed,
    InvalidArgument,
    KvError,
    LeaseNotFound,
    MemberNotFound,
    MembershipConflict,
    OutcomeUnknown,
    RequestError,
    TokenNotFound,
    Unauthenticated,
    Unavailable,
)
from kvstore_cli import help, learn, nodes
from kvstore_cli.access import accounts, audit, certs
from kvstore_cli.backups import backup, restore
from kvstore_cli.cluster import incidents, members, status, tokens, upgrade
from kvstore_cli.command import EXIT_CODES_TEXT, NOT_SOUND, Command, add_command
from kvstore_cli.descriptors import open_standard
from kvstore_cli.keys import changes, data, leases, locks, transactions, transfer
from kvstore_cli.node import check, recover
from kvstore_cli.parsing import SuggestingParser, verb_first

_TEXT = f"""\
A replicated key-value store on Multi-Paxos.

first steps:
  kvstore demo                              three nodes on this machine, until Ctrl-C
  kvstore put greeting hello                then, in another terminal
  kvstore get greeting
  kvstore status

{EXIT_CODES_TEXT}"""

_PUT = """\
examples:
  kvstore put greeting hello
  kvstore put photo --file cat.jpg
  date | kvstore put now -
  kvstore put lock "$HOSTNAME" --if-absent          3 if somebody holds it
  kvstore put counter 2 --if-revision 17            3 if it changed since revision 17
  kvstore put temperature -- -5                     a value that looks like a flag
  kvstore put seen/host-7 now --ttl 60              gone after a minute
  kvstore put workers/7 up --lease "$LEASE"         gone with the lease; see kvstore lease
"""

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConditionFailed, 3),
    (MembershipConflict, 3),
    (LeaseNotFound, 1),
    (MemberNotFound, 1),
    (TokenNotFound, 1),
    (RequestError, 2),
    (Unavailable, 4),
    (OutcomeUnknown, 5),
    (KvError, 5),
)
COMMANDS: tuple[Command, ...] = (
    *nodes.COMMANDS,
    *recover.COMMANDS,
    *data.COMMANDS,
    *status.COMMANDS,
    *members.COMMANDS,
    *tokens.COMMANDS,
    *incidents.COMMANDS,
    *upgrade.COMMANDS,
    *changes.COMMANDS,
    *transactions.COMMANDS,
    *leases.COMMANDS,
    *locks.COMMANDS,
    *backup.COMMANDS,
    *restore.COMMANDS,
    *transfer.COMMANDS,
    *check.COMMANDS,
    *learn.COMMANDS,
    *accounts.COMMANDS,
    *certs.COMMANDS,
    *audit.COMMANDS,
    *help.COMMANDS,
)
"""What there is without any other package."""
NEED_ALL = frozenset(("help", "completion"))
"""Those that speak of all commands, so of the others too."""
ENTRY_POINTS = "kvstore.commands"
"""The group of entry points under which packages offer further commands, each a `Command`."""
INTERRUPTED = 130
_PIPE_CLOSED = 141
_NOT_WRITTEN = 74
"""EX_IOERR of sysexits.h."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's); the exit code."""
    open_standard()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A key that the terminal cannot show is shown by its numbers.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parse(sys.argv[1:] if argv is None else argv)
    try:
        code: int = options.handler(options)
        sys.stdout.flush()
        return code
    except KvError as error:
        print(f"kvstore: {error}{_hint(error, options)}", file=sys.stderr)
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    except BackupError as error:
        print(f"kvstore: {error}", file=sys.stderr)
        return NOT_SOUND
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # `kvstore list | head`: the reader went.
        _write_no_more()
        return _PIPE_CLOSED
    except OSError as error:
        # A full disk below the output, a file that cannot be made.
        _write_no_more()
        print(f"kvstore: {error}", file=sys.stderr)
        return _NOT_WRITTEN


def _write_no_more() -> None:
    """Python would complain again when it flushes what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser(commands: Iterable[Command]) -> ArgumentParser:
    """The parser of the command line with these commands."""
    parser = SuggestingParser(
        "kvstore", description=_TEXT, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"kvstore {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands:
        add_command(subparsers, command)
    return parser


def offered_commands() -> list[Command]:
    """What other packages add by entry points. Those that cannot be loaded are left out."""
    # Imported here: it is slow, and only those who ask for such a command need it.
    from importlib.metadata import entry_points

    found = []
    for entry_point in entry_points(group=ENTRY_POINTS):
        with suppress(ImportError):
            found.append(entry_point.load())
    return found


def _parse(argv: list[str]) -> Namespace:
    """The options; `words` is what `lock` and `elect` run, whose flags are none of ours."""
    commands = {command.name: command for command in COMMANDS}
    argv = verb_first(argv, commands)
    name = next((word for word in argv if not word.startswith("-")), "")
    if name not in commands or name in NEED_ALL:
        commands.update((command.name, command) for command in offered_commands())
    own, words = argv, []
    if name in commands and commands[name].takes_words and "--" in argv:
        at = argv.index("--")
        own, words = argv[:at], argv[at + 1 :]
    parser = build_parser(commands.values())
    if not argv:
        parser.print_help(sys.stderr)
        sys.exit(2)
    options = parser.parse_args(own)
    options.words, options.parser = words, parser
    return options


def _hint(error: KvError, options: Namespace) -> str:
    if isinstance(error, Unauthenticated):
        return "\nTry: kvstore login NAME, or --user NAME"
    if isinstance(error, InvalidArgument):
        return f"\nTry: kvstore {options.command} --help"
    if isinstance(error, Unavailable) and options.command != "status":
        return "\nNothing was changed; it is safe to try again."
    if isinstance(error, OutcomeUnknown):
        return "\nIt may have been applied, or may yet be: read before you try again."
    return ""


if __name__ == "__main__":
    sys.exit(main())
