"""`kvstore restore`: a new cluster out of a backup, or a part of it back into a live one."""

import asyncio
import os
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kvstore.client.credentials import Login
from kvstore.errors import InvalidArgument
from kvstore_cli.command import Command, positive
from kvstore_cli.credentials import credential_flags, login_of
from kvstore_cli.output import OK, print_json, printable
from kvstore_cli.progress import progress

if TYPE_CHECKING:
    from kvstore.backup.sources import RestorePoint

_TEXT = """\
SOURCE is a backup's file, or the directory or s3://bucket/prefix of a continuous one.

The new cluster has a new id, and as many nodes as there are directories: 1, 2, 3 … in this order.
Start them with the usual flags of kvstore serve. Its revisions begin above all that the old cluster
may have handed out: what waits for changes after an old revision is told that they are compacted.
Users and roles are kept, tokens are not. Keys as of an earlier revision come with today's users.

With --into the keys that begin with --prefix go back into a live cluster instead, a transaction at
a time, each only if its keys are still what they were when they were compared. One line for each
key that differs: + it is not there, ~ it has another value, - it was not there then. Those with -
are deleted with --delete only; keys that were on a lease are put back with --leased only, on none.

examples:
  kvstore restore store.kvb --data-dir node-1 node-2 node-3
  kvstore restore store.kvb --to-revision 1200 --data-dir node-1
  kvstore restore s3://backups/shop --to-time 2031-05-01T11:59:00Z --data-dir a b c
  kvstore restore store.kvb --into http://127.0.0.1:2379 --prefix users/ --dry-run
"""


def _flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a backup")
    add("--data-dir", metavar="DIR", nargs="+", type=Path, default=[],
        help="directories to make, one for each node of the new cluster")  # fmt: skip
    add("--to-revision", metavar="N", type=positive, help="as the store was at revision N")
    add("--to-time", metavar="TIME",
        help="as it was then: 2031-05-01T11:59:00Z; without a zone, of this machine's")  # fmt: skip
    add("--revision-above", metavar="N", type=positive, default=0,
        help="begin above revision N, if the old cluster is known to have got there")  # fmt: skip
    add("--into", metavar="URL,...", help="a live cluster to put keys back into")
    add("--prefix", metavar="KEY", help="those that begin so, or the key itself (--into)")
    add("--dry-run", action="store_true", help="only show what differs (--into)")
    add("--delete", action="store_true", help="delete what was not there then (--into)")
    add("--leased", action="store_true", help="also keys that were on a lease (--into)")
    add("--json", action="store_true", help="answer in JSON")


def time_ms(text: str) -> int:
    """A moment in milliseconds since 1970. Raises InvalidArgument."""
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            "to-time", f"to-time: expected a time like 2031-05-01T11:59:00Z, got {text!r}"
        ) from None


def _run(options: Namespace) -> int:
    if options.to_revision is not None and options.to_time is not None:
        raise InvalidArgument("to-time", "give --to-revision or --to-time, not both")
    if options.into is None:
        return _directories(options)
    if options.data_dir or options.prefix is None:
        raise InvalidArgument(
            "into", "--into needs --prefix, and no --data-dir; --prefix '' is every key"
        )
    options.endpoints = options.into
    return asyncio.run(_into(options, login_of(options)))


def _moment(options: Namespace) -> "RestorePoint":
    from kvstore.backup.sources import RestorePoint

    at = None if options.to_time is None else time_ms(options.to_time)
    return RestorePoint(options.to_revision, at)


async def _into(options: Namespace, login: Login) -> int:
    from kvstore.backup.putting_back import Difference, put_back
    from kvstore.client import Client

    def show(found: Difference) -> None:
        if not options.json:
            print(f"{found.sign} {printable(found.key)}")

    async with Client(options.into, **login) as client:
        done = await put_back(
            options.source,
            _moment(options),
            client,
            os.fsencode(options.prefix),
            delete_others=options.delete,
            leased=options.leased,
            dry_run=options.dry_run,
            show=show,
        )
    if options.json:
        print_json({**done._asdict(), "dry_run": options.dry_run})
        return OK
    said = f"{done.added} added, {done.changed} changed, {done.deleted} deleted"
    said += f", {done.left} left that were not there then" if done.left else ""
    said += f", {done.leased} left out that were on a lease" if done.leased else ""
    print(f"{said}{' (dry run: nothing was changed)' if options.dry_run else ''}")
    return OK


def _directories(options: Namespace) -> int:
    from kvstore.backup.restoring import restore

    with progress("restore") as advanced:
        done = restore(
            options.source,
            options.data_dir,
            _moment(options),
            revision_above=options.revision_above,
            advance=advanced,
        )
    built = done.built
    if options.json:
        print_json(
            {
                "as_of_revision": built.as_of,
                "revision": built.revision,
                "keys": built.keys,
                "leases": built.leases,
                "leases_granted_again": built.leases_again,
                "data_dirs": {str(node): str(path) for node, path in done.directories.items()},
            }
        )
        return OK
    print(f"{built.keys:,} keys as of revision {built.as_of}; new writes begin after revision "
          f"{built.revision}")  # fmt: skip
    if built.leases_again:
        print(f"{built.leases_again} leases had ended since: they are granted again for a minute")
    for node, path in done.directories.items():
        print(f"node {node}: {path}")
    return OK


COMMANDS = (
    Command(
        "restore",
        "make a new cluster out of a backup",
        _TEXT,
        (_flags, credential_flags),
        _run,
    ),
)
"""Those of this file."""
