"""`kvstore put`, `get`, `del`, `list`, `status`, `compact` and `handover`, on `kvstore.client`."""

import asyncio
import base64
import binascii
import os
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from kvstore.client import Client, ClusterStatus, Entry
from kvstore.errors import InvalidArgument, KvError, NoQuorum

OK = 0
NOT_FOUND = 1


async def run(options: Namespace) -> int:
    """Run the call that `options.command` names; the exit code. Raises KvError."""
    timeout_s = options.timeout
    async with Client(options.endpoints, timeout_s=timeout_s) as client:
        return await _COMMANDS[options.command](client, options)


async def _put(client: Client, options: Namespace) -> int:
    value = await asyncio.to_thread(_value, options)
    written = await client.put(
        _key(options),
        value,
        if_revision=options.if_revision,
        if_absent=options.if_absent,
        if_exists=options.if_exists,
    )
    if options.json:
        _print_json({"revision": written.revision, "version": written.version})
    else:
        print(f"revision {written.revision}, version {written.version}")
    return OK


async def _get(client: Client, options: Namespace) -> int:
    key = _key(options)
    entry = await client.get(key, revision=options.revision, serializable=options.serializable)
    if entry is None:
        return _not_found(key)
    if options.json:
        _print_json(_entry_json(entry))
        return OK
    end = b"\n" if sys.stdout.isatty() and not entry.value.endswith(b"\n") else b""
    sys.stdout.flush()
    sys.stdout.buffer.write(entry.value + end)
    return OK


async def _delete(client: Client, options: Namespace) -> int:
    key = _key(options)
    result = await client.delete(key, if_revision=options.if_revision, if_exists=options.if_exists)
    if options.json:
        _print_json({"revision": result.revision, "deleted": result.deleted})
    elif result.deleted:
        print(f"deleted, revision {result.revision}")
    return OK if result.deleted else _not_found(key)


async def _list(client: Client, options: Namespace) -> int:
    entries = client.list(
        limit=options.limit,
        prefix=_octets(options, options.prefix or ""),
        start=_octets(options, options.start or ""),
        end=_octets(options, options.end or ""),
        descending=options.descending,
        keys_only=options.keys_only,
        revision=options.revision,
        serializable=options.serializable,
    )
    async for entry in entries:
        if options.json:
            _print_json(_entry_json(entry, keys_only=options.keys_only))
        elif options.keys_only:
            print(printable(entry.key))
        else:
            print(f"{printable(entry.key)}\t{printable(entry.value)}")
    return OK


async def _status(client: Client, options: Namespace) -> int:
    answers = await asyncio.gather(
        *(client.status(endpoint) for endpoint in client.endpoints), return_exceptions=True
    )
    views: list[tuple[str, ClusterStatus | KvError]] = []
    for endpoint, answer in zip(client.endpoints, answers, strict=True):
        if not isinstance(answer, ClusterStatus | KvError):
            raise answer
        views.append((endpoint, answer))
    if options.json:
        _print_json({"endpoints": [_view_json(endpoint, view) for endpoint, view in views]})
    else:
        _print_status(views)
    seen = [view for _, view in views if isinstance(view, ClusterStatus)]
    if not seen:
        raise NoQuorum("none of the endpoints answers: " + ", ".join(client.endpoints))
    if all(view.leader is None for view in seen):
        raise NoQuorum("no leader is known: is a majority of the members running?")
    return OK


async def _compact(client: Client, options: Namespace) -> int:
    result = await client.compact(options.revision)
    if options.json:
        _print_json({"compacted_revision": result.compacted_revision})
    else:
        print(f"the oldest readable revision is {result.compacted_revision}")
    return OK


async def _handover(client: Client, options: Namespace) -> int:
    result = await client.hand_over(options.to)
    if options.json:
        _print_json({"leader": result.leader})
    else:
        print(f"node {result.leader} leads")
    return OK


_COMMANDS: dict[str, Callable[[Client, Namespace], Awaitable[int]]] = {
    "put": _put,
    "get": _get,
    "del": _delete,
    "list": _list,
    "status": _status,
    "compact": _compact,
    "handover": _handover,
}


def printable(octets: bytes) -> str:
    """Text as it is if a terminal shows it in one line; otherwise with backslash escapes."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return str(octets)[2:-1]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _key(options: Namespace) -> bytes:
    return _octets(options, options.key)


def _octets(options: Namespace, text: str) -> bytes:
    # fsencode gives back the very bytes of the argument, also those that are not UTF-8.
    if not options.key_base64:
        return os.fsencode(text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("key", f"key: {text!r} is not base64") from None


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


def _not_found(key: bytes) -> int:
    print(f"kvstore: not found: {printable(key)}", file=sys.stderr)
    return NOT_FOUND


def _print_json(value: object) -> None:
    print(msgspec.json.encode(value).decode())


def _text_or_base64(name: str, octets: bytes) -> dict[str, str]:
    try:
        return {name: octets.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(octets).decode()}


def _entry_json(entry: Entry, *, keys_only: bool = False) -> dict[str, Any]:
    return {
        **_text_or_base64("key", entry.key),
        **({} if keys_only else _text_or_base64("value", entry.value)),
        "create_revision": entry.create_revision,
        "mod_revision": entry.mod_revision,
        "version": entry.version,
    }


def _view_json(endpoint: str, view: ClusterStatus | KvError) -> dict[str, Any]:
    if isinstance(view, KvError):
        return {"endpoint": endpoint, "error": str(view)}
    return {"endpoint": endpoint, "cluster": msgspec.to_builtins(view)}


def _print_status(views: list[tuple[str, ClusterStatus | KvError]]) -> None:
    rows = [("ENDPOINT", "NODE", "ROLE", "LEADER", "BALLOT", "CHOSEN", "APPLIED", "NOTE")]
    members: ClusterStatus | None = None
    for endpoint, view in views:
        if isinstance(view, KvError):
            rows.append((endpoint, "-", "-", "-", "-", "-", "-", str(view)))
            continue
        members = view if members is None or view.node.role == "leader" else members
        leader = "none" if view.leader is None else str(view.leader.id)
        chosen, applied = str(view.chosen_through), str(view.applied_through)
        rows.append(
            (
                endpoint,
                str(view.node.id),
                view.node.role,
                leader,
                view.ballot,
                chosen,
                applied,
                view.node.reason,
            )
        )
    _print_table(rows)
    if members is None:
        return
    print(f"\nMembers, as node {members.node.id} sees them:")
    rows_of_members = [("NODE", "ROLE", "PEER", "CLIENT", "CONNECTED", "LAG")]
    for member in members.members:
        connected = (
            "itself" if member.id == members.node.id else ("yes" if member.connected else "no")
        )
        lag = "-" if member.lag is None else str(member.lag)
        peer, client = member.peer_address or "-", member.client_address or "-"
        rows_of_members.append((str(member.id), member.role or "-", peer, client, connected, lag))
    _print_table(rows_of_members)


def _print_table(rows: list[tuple[str, ...]] | list[Any]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
