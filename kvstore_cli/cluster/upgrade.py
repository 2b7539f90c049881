"""`kvstore upgrade --check`: whether the nodes of a cluster can be restarted with this release."""

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kvstore import __version__
from kvstore.client import Client, ClusterStatus
from kvstore.errors import KvError
from kvstore_cli.client_command import client_command
from kvstore_cli.output import OK, print_json, print_table

NOT_NOW = 1
LAG_SLOTS_MAX = 1_000
FORMATS_BEFORE = {"data": 3, "protocol": 2}
"""Of the release that did not tell them yet."""

_TEXT = """\
Asks all members what they run, and says whether they can be restarted one by one with this release,
whose `kvstore` is asked: it reads their directories and speaks with them, all are up and well, and
a quorum is left while any of them is away. Changes nothing. Exit code 0 if so, 1 if not.

example, with the new release, before the first node is restarted:
  kvstore upgrade --check --endpoints 10.0.0.1:2379,10.0.0.2:2379
"""


@dataclass(frozen=True)
class AskedMember:
    """What one member said; `trouble` if it did not."""

    id: int
    name: str = ""
    version: str = ""
    formats: dict[str, int] = field(default_factory=dict)
    """Empty if it does not tell them."""
    status: ClusterStatus | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Release:
    """What can be run with these nodes."""

    version: str
    oldest_data: int
    newest_data: int
    protocol: int


def problems(cluster: ClusterStatus, asked: list[AskedMember], release: Release) -> Iterator[str]:
    """Why the members, all of whom were `asked`, cannot be restarted with `release` one by one."""
    if cluster.leader is None:
        yield "no leader is known"
    for one in asked:
        yield from (f"node {one.id} {why}" for why in _about(one, cluster, release))
    if cluster.configuration is not None and cluster.configuration.under_way:
        yield f"a change of the members is under way ({cluster.configuration.under_way}); wait"
    yield from _quorum(cluster, asked)


def _about(one: AskedMember, cluster: ClusterStatus, release: Release) -> Iterator[str]:
    if one.status is None:
        yield f"does not answer: {one.trouble}"
        return
    if one.status.cluster_id != cluster.cluster_id:
        yield "is of another cluster"
        return
    node = one.status.node
    if not node.ready:
        yield f"is not ready: {node.reason}"
    yield from (f"warns: {warning}" for warning in node.warnings)
    own = next((member for member in one.status.members if member.id == one.id), None)
    if (lag := 0 if own is None else own.lag or 0) > LAG_SLOTS_MAX:
        yield f"is {lag:,} slots behind"
    formats = one.formats or FORMATS_BEFORE
    if formats["data"] > release.newest_data:
        yield (
            f"has data of format {formats['data']}, newer than {release.newest_data} of this "
            f"release, {release.version}: there is no way back"
        )
    elif formats["data"] < release.oldest_data:
        yield (
            f"has data of format {formats['data']}, and this release, {release.version}, reads "
            f"{release.oldest_data} and newer: upgrade to a release between first"
        )
    if formats["protocol"] != release.protocol:
        yield (
            f"speaks protocol {formats['protocol']}, and this release {release.protocol}: they "
            "would refuse each other"
        )


def _quorum(cluster: ClusterStatus, asked: list[AskedMember]) -> Iterator[str]:
    found = cluster.configuration
    if found is not None and found.voters:
        voters, needed = set(found.voters), max(found.phase1, found.phase2)
    else:  # a node that does not tell: then each member votes, and a majority is enough
        voters = {member.id for member in cluster.members if member.kind == "voter"}
        needed = len(voters) // 2 + 1
    well = {one.id for one in asked if one.status is not None and one.status.node.ready}
    if (left := len(voters & well) - 1) < needed:
        yield (
            f"while one node is restarted, {max(left, 0)} of {len(voters)} voters are left, and a "
            f"quorum needs {needed}: clients would have to wait"
        )


def notes(asked: list[AskedMember], release: Release) -> Iterator[str]:
    """What is good to know before the first restart."""
    versions = sorted({one.version for one in asked if one.version})
    if len(versions) > 1:
        yield f"the nodes run different releases already: {', '.join(versions)}"
    old = [one.id for one in asked if _is_old(one, release)]
    if old:
        ids = ", ".join(map(str, old))
        yield (
            f"at its first start each of these nodes converts its directory: {ids}. It needs room "
            "for the state a second time, and the release before cannot open it afterwards"
        )


def _is_old(one: AskedMember, release: Release) -> bool:
    if one.status is None:
        return False
    return (one.formats or FORMATS_BEFORE)["data"] < release.newest_data


def this_release() -> Release:
    """What is installed here."""
    # Imported late: they are large, and the other commands need neither.
    from kvstore.peers.frames import PROTOCOL_VERSION
    from kvstore.storage.data_dir import READ_FORMATS

    return Release(__version__, *READ_FORMATS, PROTOCOL_VERSION)


# -- the command ----------------------------------------------------------------------------


def _flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", required=True, help="only say whether it can be done"
    )


async def _ask(client: Client, id: int, name: str, url: str | None) -> AskedMember:
    if url is None:
        return AskedMember(id, name, trouble="the others have not met it")
    base = url if "://" in url else f"http://{url}"
    try:
        status, told = await asyncio.gather(client.status(base), client.fetch("/v1/version", base))
    except KvError as error:
        return AskedMember(id, name, trouble=str(error))
    try:
        version: dict[str, Any] = msgspec.json.decode(told, type=dict[str, Any])
        formats = msgspec.convert(version.get("formats", {}), dict[str, int])
        told_version = str(version["version"])
    except (msgspec.MsgspecError, KeyError) as error:
        return AskedMember(id, name, trouble=f"its answer cannot be understood: {error}")
    if status.node.id != id:
        return AskedMember(id, name, trouble=f"node {status.node.id} answers at {base}")
    return AskedMember(id, name, told_version, formats, status)


async def _check(client: Client, options: Namespace) -> int:
    cluster = await client.status()
    asked = await asyncio.gather(
        *(_ask(client, one.id, one.name, one.client_address) for one in cluster.members)
    )
    release = this_release()
    wrong, known = list(problems(cluster, asked, release)), list(notes(asked, release))
    if options.json:
        nodes = [
            {"id": one.id, "name": one.name, "version": one.version or None,
             "formats": one.formats or None, "error": one.trouble or None}
            for one in asked
        ]  # fmt: skip
        shown = {"release": release.version, "nodes": nodes, "problems": wrong, "notes": known}
        print_json({"can_be_upgraded": not wrong, **shown})
    else:
        _print(asked, release, wrong, known)
    return NOT_NOW if wrong else OK


def _print(asked: list[AskedMember], release: Release, wrong: list[str], known: list[str]) -> None:
    rows = [("NODE", "NAME", "VERSION", "DATA", "PROTOCOL")]
    for one in asked:
        formats = [str(one.formats.get(name, "-")) for name in ("data", "protocol")]
        rows.append((str(one.id), one.name or "-", one.version or "-", formats[0], formats[1]))
    print_table(rows)
    print()
    for text in known:
        print(f"note: {text}")
    for text in wrong:
        print(f"wrong: {text}")
    if wrong:
        print(f"Not now: mend this before a node is restarted with {release.version}.")
    else:
        print(f"The nodes can be restarted with {release.version}, one by one.")


COMMANDS = (
    client_command(
        "upgrade", "say whether the cluster can be upgraded to this release", _TEXT, _check, _flags
    ),
)
"""Those of this file."""
