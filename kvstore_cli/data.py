"""`kvstore put`, `get`, `del` and `list`."""

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvstore.client import Client
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
"""


def _key_flags(parser: ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")


async def _get(client: Client, options: Namespace) -> int:
    key = _key(options)
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


_DEL = """\
examples:
  kvstore del greeting                              1 if it does not exist
  kvstore del lock --if-revision 17
"""


async def _delete(client: Client, options: Namespace) -> int:
    key = _key(options)
    result = await client.delete(key, if_revision=options.if_revision, if_exists=options.if_exists)
    if options.json:
        print_json({"revision": result.revision, "deleted": result.deleted})
    elif result.deleted:
        print(f"deleted, revision {result.revision}")
    return OK if result.deleted else not_found(key)


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
        if options.json:
            print_json(entry_json(entry, keys_only=options.keys_only))
        elif options.keys_only:
            print(printable(entry.key))
        else:
            print(f"{printable(entry.key)}\t{printable(entry.value)}")
    return OK


def _key(options: Namespace) -> bytes:
    return octets(options, options.key)


COMMANDS = (
    client_command("put", "write a key", _PUT, _put, key_flags, condition_flags, _put_flags),
    client_command("get", "read a key", _GET, _get, key_flags, read_flags, _key_flags),
    client_command("del", "remove a key", _DEL, _delete, key_flags, condition_flags, _key_flags),
    client_command(
        "list", "list keys and values", _LIST, _list, key_flags, read_flags, _list_flags
    ),
)
