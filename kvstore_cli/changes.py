"""`kvstore watch` and `history`."""

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from kvstore.client import Client, Event
from kvstore.errors import InvalidArgument
from kvstore_cli.client_command import client_command, key_flags
from kvstore_cli.command import positive
from kvstore_cli.output import OK, event_json, not_found, octets, print_json, printable

_WATCH = """\
One line per change: revision, put or delete, key, value, with tabs between; with --json one object
per line. It goes on for ever, also when nodes fail: every change once, in order. 2 if the changes
from --from-revision on are compacted.

examples:
  kvstore watch                                     everything from now on
  kvstore watch users/                              keys that begin with users/
  kvstore watch greeting --exact --limit 1          until greeting changes
  kvstore watch users/ --from-revision 120          what happened since, and what comes
  kvstore watch --json --previous | jq -c '[.key, .previous.value, .value]'
"""


def _watch_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("prefix", metavar="PREFIX", nargs="?", help="only keys that begin so")
    add("--exact", action="store_true", help="only the key that PREFIX is")
    add("--from-revision", metavar="N", type=positive, default=0, help="begin with this one")
    add("--previous", action="store_true", help="with what was there (--json)")
    add("--only", choices=("puts", "deletes"), help="leave the others out")
    add("--limit", metavar="N", type=positive, help="end after N changes")


async def _watch(client: Client, options: Namespace) -> int:
    keys: dict[str, Any] = (
        {} if options.prefix is None else {"prefix": octets(options, options.prefix)}
    )
    if options.exact:
        if not keys:
            raise InvalidArgument("exact", "--exact needs the key")
        keys = {"key": keys["prefix"]}
    left = options.limit
    async with client.watch(
        **keys,
        from_revision=options.from_revision,
        previous=options.previous,
        puts=options.only != "deletes",
        deletes=options.only != "puts",
    ) as watch:
        async for event in watch:
            _print_event(event, options.json)
            left = None if left is None else left - 1
            if left == 0:
                break
    return OK


_HISTORY = """\
Newest first, as far as it is not compacted: revision, put or delete, value. 1 if there is nothing.

examples:
  kvstore history greeting
  kvstore history greeting --limit 1 --json
"""


def _history_flags(parser: ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--limit", metavar="N", type=positive, help="at most N changes")


async def _history(client: Client, options: Namespace) -> int:
    key = octets(options, options.key)
    found = False
    async for event in client.history(key, limit=options.limit):
        found = True
        _print_event(event, options.json, key=False)
    return OK if found else not_found(key)


def _print_event(event: Event, json: bool, key: bool = True) -> None:
    if json:
        print_json(event_json(event))
    else:
        words = [str(event.revision), "delete" if event.deleted else "put"]
        words += [printable(event.key)] if key else []
        words += [] if event.deleted else [printable(event.value)]
        print("\t".join(words))
    sys.stdout.flush()


COMMANDS = (
    client_command("watch", "show changes as they happen", _WATCH, _watch, key_flags, _watch_flags),
    client_command(
        "history", "show the changes of a key", _HISTORY, _history, key_flags, _history_flags
    ),
)
