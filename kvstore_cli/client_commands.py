"""`kvstore put`, `get`, `del`, `list`, `status`, `compact` and `handover`, on `kvstore.client`."""

import asyncio
import os
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from kvstore.client import Client, ClusterStatus
from kvstore.errors import InvalidArgument, KvError, NoQuorum
from kvstore_cli.output import (
    OK,
    entry_json,
    not_found,
    octets,
    print_json,
    print_table,
    printable,
)


async def run(options: Namespace) -> int:
    """Run the call that `options.command` names; the exit code. Raises KvError."""
    timeout_s = options.timeout
    async with Client(options.endpoints, timeout_s=timeout_s) as client:
        return await _command(options.command)(client, options)


def _command(name: str) -> Callable[[Client, Namespace], Awaitable[int]]:
    # The rarer ones are imported when they are used, as in `kvstore_cli.main`.
    if name in ("watch", "txn", "history"):
        from kvstore_cli import changes as cli_changes

        return cli_changes.COMMANDS[name]
    if name in ("lease", "lock", "elect"):
        from kvstore_cli import locks as cli_locks

        return cli_locks.COMMANDS[name]
    return _COMMANDS[name]


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


async def _delete(client: Client, options: Namespace) -> int:
    key = _key(options)
    result = await client.delete(key, if_revision=options.if_revision, if_exists=options.if_exists)
    if options.json:
        print_json({"revision": result.revision, "deleted": result.deleted})
    elif result.deleted:
        print(f"deleted, revision {result.revision}")
    return OK if result.deleted else not_found(key)


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
        print_json({"endpoints": [_view_json(endpoint, view) for endpoint, view in views]})
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
        print_json({"compacted_revision": result.compacted_revision})
    else:
        print(f"the oldest readable revision is {result.compacted_revision}")
    return OK


async def _handover(client: Client, options: Namespace) -> int:
    result = await client.hand_over(options.to)
    if options.json:
        print_json({"leader": result.leader})
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


def _key(options: Namespace) -> bytes:
    return octets(options, options.key)


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
    print_table(rows)
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
    print_table(rows_of_members)
