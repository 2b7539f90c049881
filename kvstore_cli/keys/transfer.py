"""`kvstore export` and `import`: keys as JSON lines, out and in."""

import asyncio
import hashlib
import os
import secrets
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kvstore.client import Client
from kvstore.errors import BackupError, InvalidArgument
from kvstore_cli.client_command import client_command, key_flags
from kvstore_cli.command import positive
from kvstore_cli.output import OK, octets, print_json
from kvstore_cli.progress import progress

if TYPE_CHECKING:
    from kvstore.backup.importing import Numbered

_EXPORT = """\
One JSON object a line, all of one revision: strings as they are, and base64 where bytes need it.
The file gets its name once it is whole. Marks of imports (kvstore-import/) are left out.

examples:
  kvstore export > all.jsonl
  kvstore export users/ --to users.jsonl
  kvstore export --revision 1200 --leases --revisions --to then.jsonl
"""

_IMPORT = """\
Takes what kvstore export and kvstore list --json write. Every line is put exactly once, however
often the import is killed and run again: how far it is, is a key of the store, kvstore-import/NAME.
NAME is made of what the file holds, so a changed file is another import. --again begins anew.

examples:
  kvstore import all.jsonl
  kvstore import then.jsonl --leases
  kvstore list users/ --json | kvstore import - --name users-of-today

From a live etcd, by its HTTP/JSON API: copies it as of one revision with its leases, and follows
its changes. Once it has caught up, let your programs stop writing to etcd, interrupt it with
Ctrl-C, which is the cut, and let them go on here; it compares both before it ends. Killed, it goes
on when it is run again. --once cuts as soon as it has caught up.

  kvstore import --from-etcd http://10.0.0.1:2379

From Consul and Redis keys are read once: run it again, and they are put again. Of Redis strings
only, those that expire on leases; keys of other types are counted.

  kvstore import --from-consul http://127.0.0.1:8500
  kvstore import --from-redis redis://127.0.0.1:6379/0
"""


def _export_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("prefix", metavar="PREFIX", nargs="?", help="only keys that begin so")
    add("--to", metavar="FILE", type=Path, help="instead of stdout")
    add("--revision", metavar="N", type=positive, default=0, help="as it was at revision N")
    add("--revisions", action="store_true", help="with the revisions and versions of keys")
    add("--leases", action="store_true", help="with leases, and which keys are on them")


async def _export(client: Client, options: Namespace) -> int:
    from kvstore.backup.importing import MARK_PREFIX
    from kvstore.backup.lines import key_line, lease_line

    status = await client.status()
    count = 0
    with _output(options.to) as out, progress("export", "keys") as advanced:
        if options.leases:
            for lease in await client.leases():
                out.write(lease_line(lease.id, lease.ttl_s))
        async for entry in client.list(
            prefix=octets(options, options.prefix or ""),
            revision=options.revision or status.revision,
        ):
            if entry.key.startswith(MARK_PREFIX):
                continue  # elsewhere it would say that something is imported which is not
            out.write(key_line(entry, revisions=options.revisions, leases=options.leases))
            count += 1
            advanced(count, 0)
    if options.to is not None:
        if options.json:
            print_json({"file": str(options.to), "keys": count})
        else:
            print(f"{options.to}: {count:,} keys")
    return OK


@contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    """Stdout, or a file that gets its name when all is in it. Raises OSError."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _import_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", nargs="?", help="JSON lines, or - for stdin")
    add("--name", metavar="NAME", help="of the import; - needs one")
    add("--leases", action="store_true", help="grant leases, and put keys on them")
    add("--from-etcd", metavar="URL,...", help="move a live etcd into this store")
    add("--from-consul", metavar="URL", help="keys of Consul")
    add("--from-redis", metavar="URL", help="strings of Redis")
    add("--prefix", metavar="KEY", default="",
        help="only keys that begin so (--from-consul, --from-redis)")  # fmt: skip
    add("--once", action="store_true", help="cut as soon as it has caught up (--from-etcd)")
    add("--merge", action="store_true", help="although there are other keys here (--from-etcd)")
    add("--again", action="store_true", help="begin anew, although it was imported before")


async def _import(client: Client, options: Namespace) -> int:
    from kvstore.backup.importing import Import

    if options.from_etcd is not None:
        return await _move(client, options)
    if options.from_consul is not None or options.from_redis is not None:
        return await _read_once(client, options)
    if options.file is None:
        raise InvalidArgument("file", "give a FILE, or - for stdin")
    with _input(options.file) as (source, size):
        name = options.name or await asyncio.to_thread(_name_of, options.file, source)
        with progress("import", "bytes" if size else "keys") as advanced:
            lines = _Lines(source, options.leases)
            run = Import(client, name, lambda count: advanced(lines.read or count, size))
            if options.again:
                await run.forget()
            begun = await run.begin()
            if begun.done:
                count = begun.records
            else:
                count = await run.run(lines.numbered())
    if options.json:
        print_json({"name": name, "lines": count, "before": begun.records})
    elif begun.done:
        print(f"{count:,} lines were imported before; --again imports them anew")
    else:
        went_on = f", {begun.records:,} of them before" if begun.records else ""
        print(f"{count:,} lines imported{went_on}")
    return OK


async def _move(client: Client, options: Namespace) -> int:
    import aiohttp

    from kvstore.backup.etcd_moving import EtcdMove
    from kvstore.backup.etcd_reading import TIMEOUT, EtcdReader

    if options.file is not None:
        raise InvalidArgument("file", "give a FILE or --from-etcd, not both")
    cut, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, cut.set)
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        etcd = EtcdReader(http, options.from_etcd)
        with progress("import", "keys") as advanced:
            move = EtcdMove(
                etcd,
                client,
                options.name or "etcd",
                merge=options.merge,
                say=lambda text: print(f"kvstore: {text}", file=sys.stderr, flush=True),
                advance=lambda count: advanced(count, 0),
            )
            if options.once:
                cutting = asyncio.create_task(_cut_when_caught_up(move.caught_up, cut))
            done = await move.run(cut)
            if options.once:
                await cutting
    if options.json:
        print_json({"revision": done.revision, "keys": done.keys, "leases": done.leases})
    else:
        print(f"the same at etcd's revision {done.revision}: {done.keys:,} keys, "
              f"{done.leases:,} leases")  # fmt: skip
    return OK


async def _read_once(client: Client, options: Namespace) -> int:
    import aiohttp

    from kvstore.backup.importing import Import
    from kvstore.backup.other_stores import RedisLines, consul_lines

    if options.file is not None or (options.from_consul and options.from_redis):
        raise InvalidArgument("file", "give one source: a FILE, --from-consul or --from-redis")
    left_out: dict[str, int] = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_connect=5)) as http:
        with progress("import", "keys") as advanced:
            run = Import(client, secrets.token_hex(16), lambda count: advanced(count, 0))
            if options.from_redis is not None:
                redis = RedisLines(options.from_redis, os.fsencode(options.prefix))
                left_out = redis.left_out
                count = await run.run(redis.numbered())
            else:
                count = await run.run(consul_lines(http, options.from_consul, options.prefix))
            await run.forget()
    if options.json:
        print_json({"lines": count, "left_out": left_out})
    else:
        print(f"{count:,} keys and leases imported")
        for kind, number in left_out.items():
            print(f"{number:,} keys of type {kind} left out")
    return OK


async def _cut_when_caught_up(caught_up: asyncio.Event, cut: asyncio.Event) -> None:
    await caught_up.wait()
    cut.set()


class _Lines:
    """The lines of a file; `read` bytes of it were read."""

    def __init__(self, source: BinaryIO, leases: bool) -> None:
        self._source = source
        self._leases = leases
        self.read = 0

    async def numbered(self) -> AsyncIterator["Numbered"]:
        from kvstore.backup.importing import Numbered
        from kvstore.backup.lines import LINE_BYTES_MAX, parse_line

        number = 0
        while line := self._source.readline(LINE_BYTES_MAX):
            number += 1
            if len(line) == LINE_BYTES_MAX:
                raise BackupError(f"line {number} is longer than any key and value can be")
            self.read += len(line)
            yield Numbered(number, parse_line(line, number, self._leases))


@contextmanager
def _input(name: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size, 0 if that is not known."""
    if name == "-":
        yield sys.stdin.buffer, 0
        return
    with Path(name).open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def _name_of(name: str, file: BinaryIO) -> str:
    """Of what a file holds; it is read from its beginning again afterwards."""
    if name == "-":
        raise InvalidArgument("name", "stdin can be read once only: give the import a --name")
    digest = hashlib.blake2b(digest_size=16)
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


COMMANDS = (
    client_command(
        "export", "write keys as JSON lines", _EXPORT, _export, key_flags, _export_flags
    ),
    client_command("import", "put keys that JSON lines hold", _IMPORT, _import, _import_flags),
)
