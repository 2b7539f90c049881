"""`kvstore doctor` and `kvstore incident`: what is wrong now, and what happened lately."""

import asyncio
import contextlib
import gzip
import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec

from kvstore.client import Client
from kvstore.errors import InvalidArgument, KvError
from kvstore_cli.client_command import client_command
from kvstore_cli.command import Command
from kvstore_cli.output import OK, print_json

FORMAT = 1
SICK = 1
VIEWERS = "kvstore.incidents"
"""The group of entry points; the one named "show" takes what is saved: `show(path, html)`."""

_DOCTOR = """\
Asks one node, which asks all the others, and says what is wrong and what to do about it: lost nodes
and links, lost quorum, slow disks and networks, full disks, lag, clocks, elections, old versions.
Exit code 0 if nothing is wrong, 1 if something is.

examples:
  kvstore doctor
  kvstore doctor --json --endpoints 10.0.0.1:2379,10.0.0.2:2379
"""
_SAVE = """\
Gathers the flight recorder of every node that answers: its last consensus messages, slots, ballots,
elections, faults and log lines, without keys and values. Save soon: under full load a node keeps a
second or two of messages, and hours of what is rare.

examples:
  kvstore incident save monday.incident
"""
_SHOW = """\
Tells the story of a saved incident, on one time line: the nodes' clocks are aligned by their
messages. Checks the recording against the protocol's invariants: exit code 1 if one does not hold.

examples:
  kvstore incident show monday.incident
  kvstore incident show monday.incident --html monday.html
"""


_LIST = """\
What the nodes kept by themselves: when the leader changed, a link was lost, writes did not get on,
or a process stood still. Each node keeps a few recordings in its data directory.

examples:
  kvstore incident list
"""
_GET = """\
Fetches what the nodes kept by themselves at a moment, given as `kvstore incident list` prints it.

examples:
  kvstore incident get 2026-11-26T10:22:09Z tuesday.incident
"""


async def _doctor(client: Client, options: Namespace) -> int:
    found = msgspec.json.decode(await client.fetch("/v1/overview"))
    if options.json:
        print_json(found["findings"])
    else:
        _print_findings(found)
    return SICK if found["findings"] else OK


def _print_findings(found: dict[str, Any]) -> None:
    for one in found["findings"]:
        text = str(one["text"])
        print(f"{one['severity'].upper():5} {text[:1].upper()}{text[1:]}")
        print(f"      {one['advice']}")
    if not found["findings"]:
        print(f"All {len(found['nodes'])} nodes answer, and nothing is wrong.")


async def _save(client: Client, options: Namespace) -> int:
    status = await client.status()
    addresses = {member.id: member.client_address for member in status.members}
    asked = (_recording(client, node, url) for node, url in sorted(addresses.items()))
    nodes = await asyncio.gather(*asked)
    saved = [node for node in nodes if "recording" in node]
    if not saved:
        raise next(iter([node["error"] for node in nodes]))
    document = {"format": FORMAT, "nodes": [_plain(node) for node in nodes]}
    data = gzip.compress(json.dumps(document).encode())
    await asyncio.to_thread(options.file.write_bytes, data)
    told = {"file": str(options.file), "nodes": [node["id"] for node in saved]}
    if options.json:
        print_json(told)
        return OK
    for node in nodes:
        if "error" in node:
            print(f"node {node['id']} is not in it: {node['error']}")
    events = sum(node["recording"].count("\n") - 1 for node in saved)
    print(f"saved {options.file}: {events:,} events of {len(saved)} nodes, {len(data):,} bytes")
    return OK


async def _list(client: Client, options: Namespace) -> int:
    found = msgspec.json.decode(await client.fetch("/v1/incidents"))
    if options.json:
        print_json(found)
        return OK
    for one in found["incidents"]:
        print(_moment(one["at_ms"]))
        for kept in one["kept"]:
            print(f"  node {kept['node']}: {'; '.join(kept['causes'])}")
    if not found["incidents"]:
        print("The nodes that answer kept nothing.")
    for node, trouble in found["silent"].items():
        print(f"node {node} does not answer: {trouble}")
    return OK


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _at_ms(text: str) -> int:
    """Of a time with or without a zone; UTC without."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time like 2026-11-26T10:22:09Z") from None
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0, int(zoned.timestamp() * 1000))


async def _get(client: Client, options: Namespace) -> int:
    body = await client.fetch(f"/v1/incidents/{options.moment}")
    data = gzip.compress(body)
    await asyncio.to_thread(options.file.write_bytes, data)
    nodes = msgspec.json.decode(body)["nodes"]
    kept = [node["id"] for node in nodes if "error" not in node]
    if options.json:
        print_json({"file": str(options.file), "nodes": kept})
        return OK
    for node in nodes:
        if "error" in node:
            print(f"node {node['id']} is not in it: {node['error']}")
    print(f"saved {options.file}: what {len(kept)} nodes kept, {len(data):,} bytes")
    return OK


async def _recording(client: Client, node: int, url: str | None) -> dict[str, Any]:
    if url is None:
        return {"id": node, "error": KvError("the others have not met it")}
    base = url if "://" in url else f"http://{url}"
    try:
        body = await client.fetch("/v1/node/recording", base)
    except KvError as error:
        return {"id": node, "error": error}
    return {"id": node, "recording": body.decode()}


def _plain(node: dict[str, Any]) -> dict[str, Any]:
    return {name: value if name == "id" else str(value) for name, value in node.items()}


def _show(options: Namespace) -> int:
    for entry_point in entry_points(group=VIEWERS, name="show"):
        with contextlib.suppress(ImportError):
            show: Callable[[Path, Path | None], int] = entry_point.load()
            return show(options.file, options.html)
    raise InvalidArgument("incident", "what shows incidents is not installed: the package `proof`")


def _file_flag(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path)


def _moment_flag(parser: ArgumentParser) -> None:
    parser.add_argument("moment", metavar="MOMENT", type=_at_ms)


def _html_flag(parser: ArgumentParser) -> None:
    parser.add_argument("--html", metavar="FILE", type=Path, help="draw it as a page, too")


COMMANDS = (
    client_command("doctor", "say what is wrong and what to do", _DOCTOR, _doctor),
    Command(
        "incident",
        "save what happened lately, and look at it",
        actions=(
            client_command("save", "gather all nodes' flight recorders", _SAVE, _save, _file_flag),
            client_command("list", "what the nodes kept by themselves", _LIST, _list),
            client_command("get", "fetch one of those", _GET, _get, _moment_flag, _file_flag),
            Command("show", "tell what happened", _SHOW, (_file_flag, _html_flag), _show),
        ),
    ),
)
