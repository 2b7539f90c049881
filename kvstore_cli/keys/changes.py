"""`kvstore watch`, `history` and `changes`."""

import asyncio
import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from kvstore.client import Client, Event
from kvstore.errors import InvalidArgument
from kvstore_cli.client_command import client_command, key_flags
from kvstore_cli.command import positive
from kvstore_cli.output import OK, event_json, not_found, octets, print_json, printable
from kvstore_cli.progress import tell

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


_CHANGES = """\
Hands every change on, in order and at least once, in batches of JSON lines: {"revision":…,
"events":[{"type":"put" or "delete","key":…,…}]}. To an address by POST, with the headers
X-First-Revision, X-Last-Revision and X-Cluster-Id: an answer of 2xx acknowledges the batch, and
what was not acknowledged comes again. Or to the end of a file. It runs until it is interrupted, and
goes on behind what was acknowledged last, which is a key of the store: kvstore-changes/NAME.

examples:
  kvstore changes --to http://127.0.0.1:8080/changes --name search-index
  kvstore changes orders/ --since 1200 --to orders.jsonl --name orders
"""


def _changes_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("prefix", metavar="PREFIX", nargs="?", help="only keys that begin so")
    add("--to", metavar="URL|FILE", required=True, help="who gets them")
    add("--name", metavar="NAME", required=True, help="of this delivery")
    add("--since", metavar="N", type=positive, default=0,
        help="the first revision, for a new delivery (default: what comes next)")  # fmt: skip


async def _hand_on(client: Client, options: Namespace) -> int:
    import aiohttp

    from kvstore.backup.delivering import ANSWER_S, Delivery, FileReceiver, HttpReceiver

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    prefix = octets(options, options.prefix or "")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as http:
        to = options.to
        web = to.startswith(("http://", "https://"))
        receiver = HttpReceiver(http, to) if web else FileReceiver(Path(to))
        delivery = Delivery(client, receiver, options.name, prefix, tell)
        await delivery.run(options.since, stop)
    print(f"acknowledged through revision {delivery.acknowledged}")
    return OK


COMMANDS = (
    client_command("watch", "show changes as they happen", _WATCH, _watch, key_flags, _watch_flags),
    client_command(
        "history", "show the changes of a key", _HISTORY, _history, key_flags, _history_flags
    ),
    client_command(
        "changes", "hand every change on", _CHANGES, _hand_on, key_flags, _changes_flags
    ),
)
