"""`kvstore backup list` and `forget`, and the mark that a single backup leaves in its store."""

import asyncio
import sys
import time
from argparse import Namespace
from pathlib import Path, PurePath
from typing import Any

import msgspec

from kvstore.backup.headers import BackupHeader
from kvstore.backup.marking import BackupMarker, Naming
from kvstore.backup.marks import NAME_BYTES_MAX, BackupMark
from kvstore.client import Client
from kvstore.errors import InvalidArgument
from kvstore_cli.credentials import login_of
from kvstore_cli.output import OK, print_json, print_table

LATE_AFTER = 1.5
"""A backup that is made every so often is late after so many times that."""
NOT_THERE = 1
TIMEOUT_S = 10.0


def name_of(given: str | None, place: str) -> str:
    """The name that was given, or the last part of the place. Raises InvalidArgument."""
    name = PurePath(place.partition("://")[2] or place).name if given is None else given
    name = name or "backup"
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
        raise InvalidArgument("name", f"--name: names have 1 to {NAME_BYTES_MAX} bytes")
    return name


def mark_file(
    header: BackupHeader, name: str, file: Path, options: Namespace, every_s: float | None
) -> None:
    """Tell the store of a backup that is whole; that it cannot be told is said on stderr."""
    naming = Naming(name_of(name, ""), str(file.absolute()))
    mark = BackupMark(
        place=naming.place,
        continuous=False,
        revision=header.revision,
        time_ms=header.created_ms,
        fresh_s=None if every_s is None else LATE_AFTER * every_s,
        base_revision=header.revision,
        base_ms=header.created_ms,
        next_ms=None if every_s is None else header.created_ms + int(every_s * 1000),
    )

    async def leave() -> None:
        async with Client(options.endpoints, timeout_s=TIMEOUT_S, **login_of(options)) as client:
            await BackupMarker(client, naming, _tell).leave(mark)

    asyncio.run(leave())


def _tell(what: str, **facts: object) -> None:
    words = ", ".join(str(value) for value in facts.values())
    print(f"kvstore: {what}: {words}", file=sys.stderr)


def list_backups(options: Namespace) -> int:
    """What backups have said of themselves."""

    async def fetch() -> bytes:
        async with Client(options.endpoints, timeout_s=TIMEOUT_S, **login_of(options)) as client:
            return await client.fetch("/v1/backups")

    found: list[dict[str, Any]] = msgspec.json.decode(asyncio.run(fetch()))["backups"]
    if options.json:
        for one in found:
            print_json(one)
        return OK
    rows: list[tuple[str, ...]] = [("NAME", "AGE", "REVISION", "NEXT BASE", "DRILL", "PLACE")]
    rows += [_row(one, time.time()) for one in found]
    print_table(rows)
    return OK


def _row(one: dict[str, Any], now_s: float) -> tuple[str, ...]:
    drill = one["drill"]
    next_s = None if one["next_ms"] is None else one["next_ms"] / 1000 - now_s
    return (
        one["name"],
        f"{_span(one['age_s'])}{' LATE' if one['late'] else ''}",
        str(one["revision"]),
        "-" if next_s is None else "due" if next_s < 0 else f"in {_span(next_s)}",
        "-" if drill is None else "well" if drill["ok"] else "FAILED",
        one["place"],
    )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def forget(name: str, options: Namespace) -> int:
    """Nobody waits for this one any more."""

    async def call() -> bool:
        async with Client(options.endpoints, timeout_s=TIMEOUT_S, **login_of(options)) as client:
            return await client.forget_backup(name)

    if asyncio.run(call()):
        print(f"forgotten: {name}")
        return OK
    print(f"kvstore: no backup has said anything under the name {name}", file=sys.stderr)
    return NOT_THERE
