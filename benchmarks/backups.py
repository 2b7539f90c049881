"""Backups of a store of a million keys, while it is written to and after: seconds, bytes, and what
other writes notice; then restores, compared key by key.

python -m benchmarks.backups [--keys 1000000] [--connections 64] [--rate-mib-s 32]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from benchmarks.clients.load import Load, LoadFailed, Sample, best_client, measure
from benchmarks.clients.traffic import OursDialect, key_of, value_of, write_requests
from benchmarks.shared.procfs import machine
from benchmarks.shared.session import say, workspace
from benchmarks.systems.clusters import ClusterFailed, OurBenchCluster
from benchmarks.systems.filling import fill
from kvstore.backup.building import keys_of
from kvstore.backup.downloads import download
from kvstore.backup.inspecting import ContentDigest, Contents, contents_of, inspect
from kvstore.backup.restoring import restore
from kvstore.backup.sources import RestorePoint
from kvstore.backup.state_files import opened
from kvstore.client import Client
from kvstore.commands.operations import KeyValue
from kvstore.errors import KvError

SECONDS = 15
BACK = 50_000
"""So many revisions before the last one is the one that is restored to."""


def puts(keys: int) -> Iterator[bytes]:
    """Single puts of random keys."""
    random = Random(1)
    for number in range(20_000):
        key = random.randrange(keys)
        yield OursDialect().put(key_of(key), value_of(key, number))


async def listed(url: str, revision: int) -> Contents:
    """What the cluster serves as of a revision."""
    digest = ContentDigest()
    async with Client(url, timeout_s=60) as client:
        async for e in client.list(revision=revision):
            digest.add(
                KeyValue(e.key, e.value, e.create_revision, e.mod_revision, e.version, e.lease)
            )
    return digest.contents


async def revision_of(url: str) -> int:
    """The current one."""
    async with Client(url) as client:
        return (await client.status()).revision


def told(name: str, sample: Sample) -> None:
    """One line for a load."""
    say(
        f"{name}: {sample.per_s:,.0f} puts/s, p50 {sample.p50_ms:.1f} ms, p99 {sample.p99_ms:.1f} "
        f"ms, p99.9 {sample.p999_ms:.1f} ms, errors {sample.errors}"
    )


def examine(cluster: OurBenchCluster, directory: Path, options: argparse.Namespace) -> bool:
    """Whether all that was compared was equal."""
    url = cluster.nodes[0].url
    file, requests = directory / "during.kvb", directory / "puts"
    write_requests(requests, puts(options.keys))
    ports, pids = [node.client_port for node in cluster.nodes], cluster.pids()

    def press(seconds: float, seed: int) -> Sample:
        return measure(
            Load(best_client(), options.connections, seconds, seed), ports, requests, pids
        )

    told("before", press(SECONDS, 1))
    with ThreadPoolExecutor(1) as pool:
        pressing = pool.submit(press, options.during_s, 2)
        time.sleep(1)
        begun = time.monotonic()
        header = asyncio.run(download(url, file, rate_mib_s=options.rate_mib_s))
        backup_s = time.monotonic() - begun
        told(
            f"during (the backup took {backup_s:.1f} s of {options.during_s} s)", pressing.result()
        )
    told("after", press(SECONDS, 3))
    say(f"file {file.stat().st_size / 1e6:.0f} MB of {header.raw_bytes / 1e6:.0f} MB")
    begun = time.monotonic()
    found = inspect(file)
    say(f"inspect: {time.monotonic() - begun:.1f} s, {found.contents.keys:,} keys")
    last = asyncio.run(revision_of(url))
    quiet = directory / "quiet.kvb"
    begun = time.monotonic()
    asyncio.run(download(url, quiet, rate_mib_s=options.rate_mib_s))
    say(f"backup of an idle store: {time.monotonic() - begun:.1f} s")
    equal = True
    for wanted in (last, last - BACK):
        equal = restored(quiet, directory, url, wanted) and equal
    return equal


def restored(file: Path, directory: Path, url: str, revision: int) -> bool:
    """Whether a restore to three nodes holds what the live store says of that revision."""
    paths = [directory / f"r{revision}-{number}" for number in (1, 2, 3)]
    begun = time.monotonic()
    built = restore(str(file), paths, RestorePoint(revision)).built
    restore_s = time.monotonic() - begun
    expected = asyncio.run(listed(url, revision))
    found = set()
    for path in paths:
        with opened(path / "state.mdb") as (_, state):
            found.add((contents_of(keys_of(state, state.revision)), state.digest))
    equal = len(found) == 1 and next(iter(found))[0] == expected
    say(
        f"restore to revision {revision}: {restore_s:.1f} s for three nodes, {built.keys:,} keys, "
        f"{'equal key by key' if equal else 'DIFFERENT'}"
    )
    return equal


def main() -> int:
    """Measure, and tell; 1 if anything failed or differed."""
    parser = argparse.ArgumentParser(description="Backups of a large store.")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate-mib-s", type=int, default=32)
    parser.add_argument("--during-s", type=int, default=30)
    options = parser.parse_args()
    say(machine())
    try:
        with workspace() as directory, OurBenchCluster(directory) as cluster:
            cluster.start()
            cluster.wait_ready()
            say(f"{options.keys:,} keys in {fill(cluster, options.keys):.1f} s")
            return 0 if examine(cluster, directory, options) else 1
    except (ClusterFailed, LoadFailed, KvError) as error:
        say(f"FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
