"""A noisy neighbour: what one user's puts take while another floods the leader, with and without
a bound on what a user may have.

python -m benchmarks.neighbour [--seconds 15] [--connections 64] [--output FILE]

Three nodes with authentication on. User `calm` sends 100 puts a second on four connections, each
counted from when it was due, while user `noisy` sends as many as 64 connections can. Servers and
clients share the processors, so on few cores the flood costs `calm` something even if the nodes
refuse all of it: a refused request is sent again at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.clients.load import Load, LoadFailed, Sample, best_client, measure
from benchmarks.clients.traffic import OursDialect, key_of, value_of, write_requests
from benchmarks.shared.probe import Unreachable
from benchmarks.shared.procfs import machine
from benchmarks.shared.session import publish, say, workspace
from benchmarks.shared.tables import ratio, table
from benchmarks.systems.clusters import ClusterFailed, OurBenchCluster
from kvstore.client import BlockingClient
from kvstore.errors import KvError

KEYS = 1000
RATE_PER_S = 100.0
CALM_CONNECTIONS = 4
"""On one, a put of over 10 ms would make all later ones late; its own quota lets it have four."""
HEAD_START_S = 1.0
"""The flood is there before `calm` is measured, and for so long after."""
USERS = ("calm", "noisy")
PASSWORD = "not a secret"
REQUESTS: Mapping[str, object] = {"user-requests-max": 4}
BYTES: Mapping[str, object] = {"user-requests-max": 4, "user-bytes-per-s": 100_000}
SETTINGS: dict[str, Mapping[str, object]] = {
    "defaults": {},
    "--user-requests-max 4": REQUESTS,
    "--user-requests-max 4 --user-bytes-per-s 100000": BYTES,
}
"""What the nodes are started with, by what the report calls it."""


class Annoyed(NamedTuple):
    """Under one setting: `calm` by itself and beside the flood, and what came of the flood."""

    alone: Sample
    beside: Sample
    flood: Sample


def tokens(cluster: OurBenchCluster) -> dict[str, str]:
    """Switch authentication on; each user's token. Raises KvError."""
    urls = [node.url for node in cluster.nodes]
    with BlockingClient(urls) as open_client:
        open_client.add_user("root", PASSWORD)
        open_client.add_role("root")
        open_client.grant_role("root", "root")
        for user in USERS:
            open_client.add_user(user, PASSWORD)
            open_client.add_role(user)
            open_client.grant_permission(user, "readwrite", prefix=f"{user}/")
            open_client.grant_role(user, user)
        open_client.auth_enable()
    with BlockingClient(urls, user="root", password=PASSWORD) as root:
        return {user: root.log_in(user, PASSWORD).token for user in USERS}


def put(user: str, token: str, number: int) -> bytes:
    """A put of that user's."""
    plain = OursDialect().put(f"{user}/".encode() + key_of(number), value_of(number, 1))
    head, _, body = plain.partition(b"\r\n\r\n")
    return head + f"\r\nAuthorization: Bearer {token}\r\n\r\n".encode() + body


def look(directory: Path, settings: Mapping[str, object], options: argparse.Namespace) -> Annoyed:
    """One cluster. Raises ClusterFailed, LoadFailed, KvError."""
    with OurBenchCluster(directory, settings=settings) as cluster:
        cluster.start()
        cluster.wait_ready()
        ports, pids = [cluster.wait_leader().client_port], cluster.pids()
        files = {}
        for user, token in tokens(cluster).items():
            files[user] = directory / user
            write_requests(files[user], (put(user, token, number) for number in range(KEYS)))

        def calm(seed: int) -> Sample:
            load = Load("raw", CALM_CONNECTIONS, options.seconds, seed, RATE_PER_S)
            sample = measure(load, ports, files["calm"], pids)
            if sample.failed:
                raise LoadFailed(f"calm: {sample.errors} errors in {sample.requests} requests")
            return sample

        def noisy() -> Sample:
            load = Load(best_client(), options.connections, options.seconds + 2 * HEAD_START_S)
            return measure(load, ports, files["noisy"], pids)

        alone = calm(1)
        with ThreadPoolExecutor(1) as pool:
            flooding = pool.submit(noisy)
            time.sleep(HEAD_START_S)
            beside = calm(2)
            return Annoyed(alone, beside, flooding.result())


def render(head: list[str], found: Mapping[str, Annoyed]) -> str:
    """The report, in markdown."""
    rows = []
    for name, (alone, beside, flood) in found.items():
        done = flood.per_s * (1 - flood.errors / max(flood.requests, 1))
        rows.append(
            [
                name,
                *(f"{each.p50_ms:.1f} / {each.p99_ms:.1f}" for each in (alone, beside)),
                ratio(beside.p50_ms, alone.p50_ms),
                ratio(beside.p99_ms, alone.p99_ms),
                f"{done:,.0f}",
                f"{flood.per_s - done:,.0f}",
            ]
        )
    columns = ["nodes with", "alone, p50 / p99 ms", "beside the flood", "p50", "p99",
               "flood: puts/s", "refused/s"]  # fmt: skip
    lines = "\n".join(f"- {line}" for line in head)
    return f"# A noisy neighbour\n\n{lines}\n\n{table(columns, rows)}\n"


def main() -> int:
    """Measure and tell; 1 if anything failed."""
    parser = argparse.ArgumentParser(description="A noisy neighbour.")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found: dict[str, Annoyed] = {}
    try:
        with workspace() as directory:
            for number, (name, settings) in enumerate(SETTINGS.items()):
                home = directory / str(number)
                home.mkdir()
                found[name] = look(home, settings, options)
                say(f"{name}: p99 {found[name].alone.p99_ms:.1f} and "
                    f"{found[name].beside.p99_ms:.1f} ms")  # fmt: skip
    except (ClusterFailed, LoadFailed, Unreachable, KvError, TimeoutError) as error:
        say(f"FAILED: {error}")
        return 1
    head = [
        machine(),
        f"{RATE_PER_S:g} puts/s on {CALM_CONNECTIONS} connections, "
        f"{options.connections} connections that flood, "
        f"{options.seconds:g} s each, flood by {best_client()}",
    ]
    report = render(head, found)
    say(report)
    publish(report, "neighbour", options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
