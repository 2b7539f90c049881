"""The command `kvstore`: parse, dispatch, and one table from errors to exit codes."""

import asyncio
import os
import sys
from argparse import Namespace

from kvstore.errors import (
    ConditionFailed,
    InvalidArgument,
    KvError,
    LeaseNotFound,
    OutcomeUnknown,
    RequestError,
    Unavailable,
)
from kvstore_cli.parser import build_parser

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConditionFailed, 3),
    (LeaseNotFound, 1),
    (RequestError, 2),
    (Unavailable, 4),
    (OutcomeUnknown, 5),
    (KvError, 5),
)
INTERRUPTED = 130
_PIPE_CLOSED = 141


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's); the exit code."""
    options = _parse(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(options)
        sys.stdout.flush()
        return code
    except KvError as error:
        print(f"kvstore: {error}{_hint(error, options)}", file=sys.stderr)
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # `kvstore list | head`: the reader went. Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED


def _parse(argv: list[str]) -> Namespace:
    """The options; `run` is the command of `lock` and `elect`, whose flags are none of ours."""
    words, run = argv, []
    if argv and argv[0] in ("lock", "elect") and "--" in argv:
        at = argv.index("--")
        words, run = argv[:at], argv[at + 1 :]
    options = build_parser().parse_args(words)
    options.run = run
    return options


def _dispatch(options: Namespace) -> int:
    # Imported where they are used, so that `kvstore put` loads neither the server nor LMDB.
    if options.command == "serve":
        from kvstore_cli.serve import serve
        from kvstore_cli.settings import load

        settings = load({k.replace("_", "-"): v for k, v in vars(options).items()}, os.environ)
        return serve(settings, exit_with_parent=options.exit_with_parent)
    if options.command == "demo":
        from kvstore_cli.demo import demo

        return demo(options.nodes, options.client_port, options.data_dir)
    if options.command == "simulate":
        from proof.simulation.cli import simulate

        return simulate(options)
    if options.command == "torture":
        from proof.torture.cli import run as torture

        return torture(options)
    from kvstore_cli.client_commands import run

    return asyncio.run(run(options))


def _hint(error: KvError, options: Namespace) -> str:
    if isinstance(error, InvalidArgument):
        return f"\nTry: kvstore {options.command} --help"
    if isinstance(error, Unavailable) and options.command != "status":
        return "\nNothing was changed; it is safe to try again."
    if isinstance(error, OutcomeUnknown):
        return "\nIt may have been applied, or may yet be: read before you try again."
    return ""


if __name__ == "__main__":
    sys.exit(main())
