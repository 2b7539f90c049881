"""What the commands share that ask a cluster through `kvstore.client`."""

import asyncio
import logging
import math
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable

from kvstore.client import Client
from kvstore.client.credentials import Login
from kvstore_cli.command import Command, Flags, positive, seconds
from kvstore_cli.credentials import credential_flags, login_of

DEFAULT_ENDPOINTS = "127.0.0.1:2379,127.0.0.1:2389,127.0.0.1:2399"

AGAIN_S = 30.0
"""How often a command that waits says so."""

ClientHandler = Callable[[Client, Namespace], Awaitable[int]]
"""Makes its calls and prints what they gave; the exit code. Raises KvError."""


def client_command(
    name: str,
    summary: str,
    text: str,
    handler: ClientHandler,
    *flags: Flags,
    usage: str | None = None,
    takes_words: bool = False,
    who: Callable[[Namespace], Login] = login_of,
) -> Command:
    """A command that `handler` runs with a client, which it need not close. `who` says as whom: it
    may ask a person."""

    async def call(options: Namespace, login: Login) -> int:
        _tell_what_takes_long()
        async with Client(options.endpoints, timeout_s=options.timeout, **login) as client:
            return await handler(client, options)

    return Command(
        name,
        summary,
        text,
        (_client_flags, *flags),
        lambda options: asyncio.run(call(options, who(options))),
        usage=usage,
        takes_words=takes_words,
    )


class _StillTrying(logging.Handler):
    """Says on stderr what the client waits for: once, and again after AGAIN_S."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._told_s = -math.inf

    def emit(self, record: logging.LogRecord) -> None:
        if record.created - self._told_s >= AGAIN_S:
            self._told_s = record.created
            print(f"kvstore: {record.getMessage()}", file=sys.stderr, flush=True)


def _tell_what_takes_long() -> None:
    log = logging.getLogger("kvstore.client")
    log.handlers = [_StillTrying()]
    log.setLevel(logging.INFO)
    log.propagate = False


def endpoint_flags(parser: ArgumentParser) -> None:
    """Which nodes."""
    parser.add_argument(
        "--endpoints",
        metavar="URL,...",
        default=os.environ.get("KVSTORE_ENDPOINTS") or DEFAULT_ENDPOINTS,
        help="nodes to ask, tried in turn (KVSTORE_ENDPOINTS; default: %(default)s)",
    )


def _client_flags(parser: ArgumentParser) -> None:
    endpoint_flags(parser)
    parser.set_defaults(password=None)
    credential_flags(parser)
    parser.add_argument(
        "--timeout", metavar="S", type=seconds, default=5.0, help="in all (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON, one object per line")


def key_flags(parser: ArgumentParser) -> None:
    """How keys are given."""
    parser.add_argument("--key-base64", action="store_true", help="keys are given in base64")


def condition_flags(parser: ArgumentParser) -> None:
    """When a write is to be done."""
    parser.add_argument(
        "--if-revision", metavar="N", type=positive, help="only if its mod_revision is N"
    )
    parser.add_argument("--if-exists", action="store_true", help="only if it exists")


def read_flags(parser: ArgumentParser) -> None:
    """What a read is to see."""
    parser.add_argument(
        "--revision", metavar="N", type=positive, default=0, help="as it was at revision N"
    )
    parser.add_argument(
        "--serializable", action="store_true", help="the node's own state, perhaps stale"
    )
