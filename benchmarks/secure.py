"""What TLS costs, on client and peer ports: ours and etcd, each with it and without.

python -m benchmarks.secure [--seconds 10] [--rounds 3] [--output FILE]

Three nodes, 64 connections that stay open, puts and then linearizable gets at the leader; the four
take turns in each round. The client is Python's in all cases: with TLS it costs more, too, so on
few cores rates say less than the servers' CPU does. The 64 handshakes count: rounds of a few
seconds measure little else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.clients.load import Load, LoadFailed, Sample, measure
from benchmarks.clients.traffic import write_requests
from benchmarks.scenarios import KEYS, BenchScenario, find
from benchmarks.shared.probe import CA
from benchmarks.shared.procfs import filesystem_of, machine
from benchmarks.shared.session import publish, say, workspace
from benchmarks.shared.tables import ratio, table
from benchmarks.systems.clusters import (
    BenchCluster,
    ClusterFailed,
    EtcdBenchCluster,
    OurBenchCluster,
)
from benchmarks.systems.filling import fill
from kvstore.certificates.authority import Authority

SCENARIOS = ("put-64", "get-64")
HOSTS = ["127.0.0.1", "localhost"]
FIGURES = {"per_s": "per s", "p50_ms": "p50 ms", "p99_ms": "p99 ms",
           "server_cpu": "CPU s per 1,000"}  # fmt: skip
Found = dict[tuple[str, str], list[Sample]]
"""By scenario and system."""


def plain_ours(directory: Path, _: Path) -> BenchCluster:
    return OurBenchCluster(directory)


def secure_ours(directory: Path, authority: Path) -> BenchCluster:
    return OurBenchCluster(directory, settings={"tls": "auto", "ca-dir": authority})


def plain_etcd(directory: Path, _: Path) -> BenchCluster:
    return EtcdBenchCluster(directory)


def secure_etcd(directory: Path, authority: Path) -> BenchCluster:
    """Clients show no certificate, as ours do not here; peers do."""
    pair = {"cert-file": authority / "etcd.crt", "key-file": authority / "etcd.key"}
    peers = {f"peer-{name}": file for name, file in pair.items()}
    peers["peer-trusted-ca-file"] = authority / "ca.crt"
    return EtcdBenchCluster(directory, certificates=pair | peers)


SYSTEMS: dict[str, Callable[[Path, Path], BenchCluster]] = {
    "ours": plain_ours, "ours, TLS": secure_ours,
    "etcd": plain_etcd, "etcd, TLS": secure_etcd,
}  # fmt: skip


@contextmanager
def believing(authority: Path | None) -> Iterator[None]:
    """Clients that are started, and those in here, speak TLS with whom it vouches for."""
    if authority is not None:
        os.environ[CA] = str(authority / "ca.crt")
    try:
        yield
    finally:
        os.environ.pop(CA, None)


def one_round(system: str, directory: Path, authority: Path, seconds: float, found: Found) -> None:
    """Each scenario on a new cluster of that system. Raises ClusterFailed, LoadFailed."""
    home = directory / "round"
    secure = authority if system.endswith("TLS") else None
    with believing(secure), SYSTEMS[system](home, authority) as cluster:
        cluster.start()
        cluster.wait_ready()
        fill(cluster, KEYS)
        for scenario in find(list(SCENARIOS)):
            sample = pressed(cluster, scenario, home, seconds)
            say(
                f"{system:<10} {scenario.name}: {sample.per_s:,.0f}/s, p99 {sample.p99_ms:.1f} ms, "
                f"CPU {sample.server_cpu:.2f} and {sample.client_cpu:.2f}"
            )
            found.setdefault((scenario.name, system), []).append(sample)
    shutil.rmtree(home)


def pressed(cluster: BenchCluster, scenario: BenchScenario, home: Path, seconds: float) -> Sample:
    """Raises LoadFailed for one with errors."""
    file = home / f"{scenario.name}.requests"
    write_requests(file, scenario.requests(cluster.dialect, 1))
    load = Load("raw", scenario.connections, seconds)
    sample = measure(load, [cluster.wait_leader().client_port], file, cluster.pids())
    if sample.failed:
        raise LoadFailed(f"{cluster.name}: {scenario.name}: {sample.errors} errors")
    return sample


def render(head: list[str], found: Found) -> str:
    """The report, in markdown."""
    parts = ["# With TLS and without", "\n".join(f"- {line}" for line in head)]
    for scenario in SCENARIOS:
        rows = []
        for system in SYSTEMS:
            samples = found[scenario, system]
            rows.append([system, *(f"{middle(samples, name):,.2f}" for name in FIGURES)])
        for name in ("ours", "etcd"):
            pair = [found[scenario, f"{name}, TLS"], found[scenario, name]]
            ratios = (ratio(*(middle(each, figure) for each in pair)) for figure in FIGURES)
            rows.append([f"{name}: TLS / plain", *ratios])
        pair = [found[scenario, "ours, TLS"], found[scenario, "etcd, TLS"]]
        rows.append(["TLS: ours / etcd", *(ratio(*(middle(e, f) for e in pair)) for f in FIGURES)])
        parts.append(f"## {scenario}\n\n{table(['system', *FIGURES.values()], rows)}")
    return "\n\n".join(parts) + "\n"


def middle(samples: list[Sample], figure: str) -> float:
    """The median."""
    return float(median(getattr(sample, figure) for sample in samples))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What TLS costs.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="parent of the temporary data directory")
    parser.add_argument("--output", type=Path, help="default: a new file in benchmarks/results/")
    return parser.parse_args()


def main() -> int:
    """All four in turns; 1 when one fails."""
    options = parse()
    found: Found = {}
    try:
        with workspace(options.directory) as directory:
            authority = directory / "authority"
            Authority(authority).create("benchmarks")
            Authority(authority).issue_server("etcd", HOSTS, 1)
            head = [
                f"Machine: {machine()}; data on {filesystem_of(directory)}.",
                f"Three nodes, 64 connections, medians of {options.rounds} rounds of "
                f"{options.seconds:g} s in turns. Load average {os.getloadavg()[0]:.1f} before.",
            ]
            for _ in range(options.rounds):
                for system in SYSTEMS:
                    one_round(system, directory, authority, options.seconds, found)
            publish(render(head, found), "secure", options.output)
    except KeyboardInterrupt:
        return 130
    except (ClusterFailed, LoadFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
