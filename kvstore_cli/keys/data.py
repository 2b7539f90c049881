"""`kvstore put`, `get`, `del` and `list`."""

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvstore.client import Client, DeleteResult, Entry, delete
from kvstore.errors import InvalidArgument
from kvstore_cli.client_command import client_command, condition_flags, key_flags, read_flags
from kvstore_cli.command import lease_id, positive
from kvstore_cli.output import OK, entry_json, not_found, octets, print_json, printable

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


def _put_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("key", metavar="KEY")
    add("value", metavar="VALUE", nargs="?", help="the value, or - to read stdin")
    add("--if-absent", action="store_true", help="only if it does not exist")
    add("--file", metavar="FILE", help="take the value from FILE, - for stdin")
    add("--ttl", metavar="S", type=positive, help="delete it after S seconds")
    add("--lease", metavar="ID", type=lease_id, help="delete it when this lease ends")


async def _put(client: Client, options: Namespace) -> int:
    value = await asyncio.to_thread(_value, options)
    written = await client.put(
        _key(options),
        value,
        if_revision=options.if_revision,
        if_absent=options.if_absent,
        if_exists=options.if_exists,
        ttl_s=options.ttl,
        lease=options.lease or 0,
    )
    if options.json:
        lease = {"lease": str(written.lease)} if written.lease else {}
        print_json({"revision": written.revision, "version": written.version, **lease})
    else:
        lease_text = f", lease {written.lease}" if written.lease else ""
        print(f"revision {written.revision}, version {written.version}{lease_text}")
    return OK


def _value(options: Namespace) -> bytes:
    """The value from the argument, the file or stdin."""
    if (options.value is None) == (options.file is None):
        raise InvalidArgument("value", "give either a VALUE, - for stdin, or --file FILE")
    if options.file is not None and options.file != "-":
        try:
            return Path(options.file).read_bytes()
        except OSError as error:
            raise InvalidArgument("file", f"cannot read {options.file}: {error.strerror}") from None
    if "-" in (options.file, options.value):
        return sys.stdin.buffer.read()
    return os.fsencode(options.value)


_GET = """\
The value goes to stdout byte by byte; a newline is added on a terminal only.

examples:
  kvstore get greeting
  kvstore get photo > cat.jpg
  kvstore get counter --json | jq .mod_revision     what put --if-revision takes
  kvstore get counter --revision 12                 as it was at revision 12
  kvstore get greeting --serializable               also without a quorum, perhaps stale
  kvstore get --prefix users/                       key and value, a line each
"""


def _key_flags(parser: ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--prefix", action="store_true", help="all keys that begin with KEY")


def _delete_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask, however many there are")


async def _get(client: Client, options: Namespace) -> int:
    key = _key(options)
    if options.prefix:
        return await _get_prefix(client, options)
    entry = await client.get(key, revision=options.revision, serializable=options.serializable)
    if entry is None:
        return not_found(key)
    if options.json:
        print_json(entry_json(entry))
        return OK
    end = b"\n" if sys.stdout.isatty() and not entry.value.endswith(b"\n") else b""
    sys.stdout.flush()
    sys.stdout.buffer.write(entry.value + end)
    return OK


async def _get_prefix(client: Client, options: Namespace) -> int:
    """As `list` shows them."""
    found = False
    async for entry in client.list(
        prefix=_key(options), revision=options.revision, serializable=options.serializable
    ):
        found = True
        _print_entry(entry, options)
    return OK if found else not_found(_key(options))


_DEL = """\
examples:
  kvstore del greeting                              1 if it does not exist
  kvstore del lock --if-revision 17
  kvstore del --prefix users/                       asks if there are more than 10
  kvstore del --prefix users/ --yes
"""
ASK_FROM = 11
"""So many keys are not deleted without asking."""
DELETED_AT_ONCE = 1000


async def _delete(client: Client, options: Namespace) -> int:
    key = _key(options)
    if options.prefix:
        return await _delete_prefix(client, options)
    result = await client.delete(key, if_revision=options.if_revision, if_exists=options.if_exists)
    if options.json:
        print_json({"revision": result.revision, "deleted": result.deleted})
    elif result.deleted:
        print(f"deleted, revision {result.revision}")
    return OK if result.deleted else not_found(key)


async def _delete_prefix(client: Client, options: Namespace) -> int:
    """In pieces, each of them at once; what is written meanwhile may be left."""
    if options.if_revision is not None or options.if_exists:
        raise InvalidArgument("prefix", "--prefix deletes keys whatever they hold: no conditions")
    prefix = _key(options)
    keys = [entry.key async for entry in client.list(prefix=prefix, keys_only=True)]
    if not keys:
        return not_found(prefix)
    if len(keys) >= ASK_FROM and not options.yes:
        await asyncio.to_thread(_confirm, f"delete {len(keys)} keys?")
    deleted, revision = 0, 0
    for at in range(0, len(keys), DELETED_AT_ONCE):
        piece = keys[at : at + DELETED_AT_ONCE]
        done = await client.txn(then=[delete(start=piece[0], end=piece[-1] + b"\0")])
        (result,) = done.results
        deleted += result.deleted if isinstance(result, DeleteResult) else 0
        revision = done.revision
    if options.json:
        print_json({"revision": revision, "deleted": deleted})
    else:
        print(f"{deleted} keys deleted, revision {revision}")
    return OK


def _confirm(question: str) -> None:
    """Raise InvalidArgument unless the person at the terminal says yes."""
    if not sys.stdin.isatty():
        raise InvalidArgument("yes", f"{question} There is nobody to ask: give --yes")
    print(f"kvstore: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidArgument("yes", "nothing was deleted")


_INCR = """\
The value is a whole number in decimal; a key that does not exist counts as 0. Others may add to it
at the same time, and each addition counts once. The new value is printed.

examples:
  kvstore incr visits
  kvstore incr visits 10
  kvstore incr stock -3
"""


def _incr_flags(parser: ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("by", metavar="N", type=int, nargs="?", default=1, help="(default: 1)")


async def _incr(client: Client, options: Namespace) -> int:
    value = await client.increment(_key(options), options.by)
    if options.json:
        print_json({"value": value})
    else:
        print(value)
    return OK


_LIST = """\
One line per entry, key and value with a tab between; what a terminal cannot show is escaped.
With --json, one JSON object per line; bytes that are not UTF-8 come as key_base64, value_base64.

examples:
  kvstore list                                      everything
  kvstore list users/                               keys that begin with users/
  kvstore list --start b --end d --limit 10
  kvstore list users/ --keys-only --descending
  kvstore list --json | jq -r .key
"""


def _list_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("prefix", metavar="PREFIX", nargs="?", help="only keys that begin so")
    add("--start", metavar="KEY", help="the first key, included")
    add("--end", metavar="KEY", help="where to end, excluded")
    add("--limit", metavar="N", type=positive, help="at most N entries")
    add("--descending", action="store_true", help="from the last key on")
    add("--keys-only", action="store_true", help="leave values out")


async def _list(client: Client, options: Namespace) -> int:
    entries = client.list(
        limit=options.limit,
        prefix=octets(options, options.prefix or ""),
        start=octets(options, options.start or ""),
        end=octets(options, options.end or ""),
        descending=options.descending,
        keys_only=options.keys_only,
        revision=options.revision,
        serializable=options.serializable,
    )
    async for entry in entries:
        _print_entry(entry, options, options.keys_only)
    return OK


def _print_entry(entry: Entry, options: Namespace, keys_only: bool = False) -> None:
    if options.json:
        print_json(entry_json(entry, keys_only=keys_only))
    elif keys_only:
        print(printable(entry.key))
    else:
        print(f"{printable(entry.key)}\t{printable(entry.value)}")


def _key(options: Namespace) -> bytes:
    return octets(options, options.key)


COMMANDS = (
    client_command("put", "write a key", _PUT, _put, key_flags, condition_flags, _put_flags),
    client_command("get", "read a key", _GET, _get, key_flags, read_flags, _key_flags),
    client_command(
        "del", "remove a key", _DEL, _delete, key_flags, condition_flags, _key_flags, _delete_flags
    ),
    client_command("incr", "add to a number", _INCR, _incr, key_flags, _incr_flags),
    client_command(
        "list", "list keys and values", _LIST, _list, key_flags, read_flags, _list_flags
    ),
)
