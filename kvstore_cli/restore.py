"""`kvstore restore`: a new cluster out of a backup, or a part of it back into a live one."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path

from kvstore.errors import InvalidArgument
from kvstore_cli.command import Command, positive
from kvstore_cli.output import OK, print_json
from kvstore_cli.progress import progress

_TEXT = """\
SOURCE is a backup's file, or the directory or s3://bucket/prefix of a continuous one.

The new cluster has a new id, and as many nodes as there are directories: 1, 2, 3 … in this order.
Start them with the usual flags of kvstore serve. Its revisions begin above all that the old cluster
may have handed out: what waits for changes after an old revision is told that they are compacted.
Users and roles are kept, tokens are not. Keys as of an earlier revision come with today's users.

examples:
  kvstore restore store.kvb --data-dir node-1 node-2 node-3
  kvstore restore store.kvb --to-revision 1200 --data-dir node-1
  kvstore restore s3://backups/shop --to-time 2031-05-01T11:59:00Z --data-dir a b c
"""


def _flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a backup")
    add("--data-dir", metavar="DIR", nargs="+", type=Path, default=[],
        help="directories to make, one for each node of the new cluster")  # fmt: skip
    add("--to-revision", metavar="N", type=positive, help="as the store was at revision N")
    add("--to-time", metavar="TIME",
        help="as it was at that moment: 2031-05-01T11:59:00Z; without a zone, of this machine's")  # fmt: skip
    add("--revision-above", metavar="N", type=positive, default=0,
        help="begin above revision N, if the old cluster is known to have got there")  # fmt: skip
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
    return _directories(options)


def _directories(options: Namespace) -> int:
    from kvstore.backup.restoring import restore
    from kvstore.backup.sources import Moment

    moment = Moment(
        options.to_revision, None if options.to_time is None else time_ms(options.to_time)
    )
    with progress("restore") as advanced:
        done = restore(
            options.source,
            options.data_dir,
            moment,
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
    Command("restore", "make a new cluster out of a backup", _TEXT, (_flags,), _run),
)
"""Those of this file."""
