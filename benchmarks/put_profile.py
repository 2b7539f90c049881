"""Where the time of a put goes, from the leader's own histograms before and after a load.

They count batches, so a stage's mean is that of a batch; the client's mean is that of a put. What
the stages inside the replica do not add up to is the wait for turns of its loop between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.clients.load import Load, measure
from benchmarks.clients.traffic import request, write_requests
from benchmarks.scenarios import KEYS, PUT_64
from benchmarks.shared.probe import call
from benchmarks.shared.tables import table
from benchmarks.systems.clusters import ClusterFailed, OurBenchCluster
from benchmarks.systems.filling import fill

HTTP, REPLICA = "kvstore_http_write_stage_seconds", "kvstore_write_stage_seconds"
INSIDE = ("batch", "commit", "quorum", "apply")
STAGES = {
    (HTTP, "in"): "http in",
    (REPLICA, "batch"): "wait for the batch",
    (REPLICA, "commit"): "log commit",
    (REPLICA, "quorum"): "network and quorum",
    (REPLICA, "apply"): "apply",
    (HTTP, "out"): "http out",
}
"""A put's way, in its order."""
Totals = dict[tuple[str, str], tuple[float, float]]
"""Count and seconds of each stage."""


@dataclass(frozen=True)
class PutProfile:
    """What was found."""

    text: str
    failed: bool


def totals(exposition: str) -> Totals:
    """Count and sum of every stage in the text of `/metrics`."""
    found: dict[tuple[str, str, str], float] = {}
    for family in text_string_to_metric_families(exposition):
        if family.name in (HTTP, REPLICA):
            for sample in family.samples:
                kind = sample.name.removeprefix(family.name)
                found[family.name, sample.labels["stage"], kind] = sample.value
    stages = {(name, stage) for name, stage, _ in found}
    return {s: (found[(*s, "_count")], found[(*s, "_sum")]) for s in stages}


def means_ms(before: Totals, after: Totals) -> dict[tuple[str, str], tuple[int, float]]:
    """Batches and mean milliseconds of each stage, of what came between the two."""
    means = {}
    for stage, (count, seconds) in after.items():
        old_count, old_seconds = before.get(stage, (0.0, 0.0))
        batches = int(count - old_count)
        means[stage] = (batches, (seconds - old_seconds) / max(batches, 1) * 1000)
    return means


def describe(means: dict[tuple[str, str], tuple[int, float]], client_ms: float) -> str:
    """The table, with what is left between the stages."""
    rest_ms = means[HTTP, "store"][1] - sum(means[REPLICA, stage][1] for stage in INSIDE)
    inside_ms = sum(means[HTTP, stage][1] for stage in ("in", "store", "out"))
    rows = [(text, f"{means[key][0]:,}", means[key][1]) for key, text in STAGES.items()]
    rows.insert(5, ("turns of the loop between", "", rest_ms))
    rows.append(("client, sockets, waiting to be read", "", client_ms - inside_ms))
    rows.append(("a put, as its client sees it", "", client_ms))
    return table(
        ["stage", "batches", "mean ms", "share"],
        [[text, count, f"{ms:.3f}", f"{ms / client_ms:.0%}"] for text, count, ms in rows],
    )


def run(directory: Path, seconds: float, client: str, writes: int) -> PutProfile:
    """Three nodes of ours with many writes behind them, and 64 connections to the leader."""
    with OurBenchCluster(directory) as cluster:
        cluster.start()
        cluster.wait_ready()
        fill(cluster, KEYS, max(1, writes // KEYS))
        leader = cluster.wait_leader()
        file = directory / "profile.requests"
        write_requests(file, PUT_64.requests(cluster.dialect, 1))

        def look() -> Totals:
            return totals(call(leader.client_port, request("GET", "/metrics"))[1].decode())

        before = look()
        load = Load(client, PUT_64.connections, seconds)
        sample = measure(load, [leader.client_port], file, cluster.pids())
        after = look()
        if cluster.wait_leader() is not leader:
            raise ClusterFailed("the leader changed during the load")
    means = means_ms(before, after)
    head = (
        f"{cluster.version()}: {sample.per_s:,.0f} puts/s over {PUT_64.connections} connections "
        f"to the leader; p50 {sample.p50_ms:.2f} ms, p99 {sample.p99_ms:.2f} ms\n\n"
    )
    nothing = sample.failed or not all(count for count, _ in means.values())
    return PutProfile(head + describe(means, sample.mean_ms), nothing)
