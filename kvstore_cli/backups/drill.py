"""`kvstore backup drill`: a backup is worth what its restore is, so one is made and looked at."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from http_api.callers.tokens import TTL_S_MAX, Tokens
from http_api.core.state_copy import STATE_NAME
from kvstore.backup.headers import BackupHeader
from kvstore.backup.inspecting import ContentDigest, Contents, contents_of
from kvstore.backup.putting_back import items_at
from kvstore.backup.restoring import restore
from kvstore.backup.sources import RestorePoint, choose
from kvstore.backup.state_files import opened
from kvstore.client import Client, ClusterStatus
from kvstore.client.credentials import Login
from kvstore.commands.accounts import ROOT
from kvstore.commands.operations import KeyValue
from kvstore.errors import BackupError, KvError
from kvstore.state.rights import Caller
from kvstore_cli.launcher.held_ports import HeldPlaces
from kvstore_cli.launcher.node_cluster import NodeCluster

READY_S = 120.0
POLL_S = 0.1
_PROBE = b"kvstore-drill"


class DrillReport(NamedTuple):
    """A drill that went well, and the seconds that its steps took."""

    header: BackupHeader
    as_of: int
    contents: Contents
    leases: int
    nodes: int
    read_s: float
    restore_s: float
    serve_s: float
    compare_s: float


def drill(source: str, nodes: int, wanted: RestorePoint, say: Callable[[str], None]) -> DrillReport:
    """Restore into a temporary cluster of so many nodes on this machine, and compare what each of
    them serves with what the backup holds.

    Both are read on ways of their own: the one from the backup's files, the other from the nodes.
    Raises BackupError if they differ or if the cluster does not serve; OSError.
    """
    with TemporaryDirectory(prefix="kvstore-drill-") as work:
        directory = Path(work)
        began_s = time.monotonic()
        say("reading the backup")
        header, expected, leases = _held(source, wanted, directory / "read")
        read_s = time.monotonic()
        say(f"restoring {expected.keys:,} keys to {nodes} nodes")
        paths = [directory / f"node-{number}" for number in range(1, nodes + 1)]
        built = restore(source, paths, wanted).built
        if built.keys != expected.keys:
            raise BackupError(f"{expected.keys} keys are in the backup, {built.keys} came of it")
        login = _login(paths[0] / STATE_NAME)
        restored_s = time.monotonic()
        say("starting the cluster")
        places = HeldPlaces(range(1, nodes + 1))
        cluster = NodeCluster(list(places.ports), places, directory)
        try:
            with cluster:
                cluster.start()
                served_s, compared_s = asyncio.run(_compare(cluster, expected, login, say))
        finally:
            places.close()
    return DrillReport(
        header=header,
        as_of=built.as_of,
        contents=expected,
        leases=leases,
        nodes=nodes,
        read_s=read_s - began_s,
        restore_s=restored_s - read_s,
        serve_s=served_s - restored_s,
        compare_s=compared_s - served_s,
    )


def _held(source: str, wanted: RestorePoint, work: Path) -> tuple[BackupHeader, Contents, int]:
    """What the backup's files hold as of the moment. Raises BackupError."""
    work.mkdir()
    chosen = choose(source, wanted, work / "state.mdb")
    with opened(work / "state.mdb") as (store, state):
        keys = store.records("keys")
        if keys != chosen.header.records["keys"]:
            raise BackupError(
                f"{source} says that it holds {chosen.header.records['keys']} keys, and holds "
                f"{keys}"
            )
        contents = contents_of(items_at(chosen, state, b""))
        return chosen.header, contents, sum(1 for _ in state.leases.all())


def _login(state_file: Path) -> Login:
    """Root's, of a cluster that has not begun: users and the switch are as they were in the backup,
    and the secret that signs tokens was made by this restore."""
    with opened(state_file) as (_, state):
        auth = state.auth
        if not auth.enabled:
            return {}
        by = Caller(ROOT, auth.revision)
        return {"token": Tokens().issue(by, auth.secret, TTL_S_MAX)}


async def _compare(
    cluster: NodeCluster, expected: Contents, login: Login, say: Callable[[str], None]
) -> tuple[float, float]:
    """When the cluster served, and when all was compared. Raises BackupError."""
    await _ready(cluster, login)
    served_s = time.monotonic()
    say("comparing what each node serves")
    for node in cluster.nodes.values():
        async with Client(node.url, timeout_s=60, **login) as client:
            found = await _served(client)
            if found != expected:
                raise BackupError(
                    f"node {node.number} of the restored cluster serves {found.keys} keys with "
                    f"digest {found.digest}, and the backup holds {expected.keys} with digest "
                    f"{expected.digest}"
                )
    compared_s = time.monotonic()
    urls = [node.url for node in cluster.nodes.values()]
    async with Client(urls, timeout_s=60, **login) as client:
        written = await client.put(_PROBE, b"1")
        await client.delete(_PROBE, if_revision=written.revision)
    return served_s, compared_s


async def _ready(cluster: NodeCluster, login: Login) -> None:
    """Wait until every node serves. Raises BackupError if one ends, or does not in time."""
    deadline_s = time.monotonic() + READY_S
    for node in cluster.nodes.values():
        async with Client(node.url, timeout_s=5, **login) as client:
            while not await _serves(client):
                cluster.look()
                if cluster.ended or time.monotonic() > deadline_s:
                    raise BackupError(
                        f"node {node.number} of the restored cluster does not serve:\n{node.tail()}"
                    )
                await asyncio.sleep(POLL_S)


async def _serves(client: Client) -> bool:
    try:
        status: ClusterStatus = await client.status()
    except KvError:
        return False
    return status.node.ready and status.leader is not None


async def _served(client: Client) -> Contents:
    """Everything that one node serves."""
    digest = ContentDigest()
    async for entry in client.list(serializable=True):
        digest.add(
            KeyValue(
                entry.key,
                entry.value,
                entry.create_revision,
                entry.mod_revision,
                entry.version,
                entry.lease,
            )
        )
    return digest.contents
