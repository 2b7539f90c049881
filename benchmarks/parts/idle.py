"""10,000 idle connections to one node: what they cost the puts of others, and in memory."""

from __future__ import annotations

import contextlib
import re
import resource
import socket

from benchmarks.clients.load import Load, Sample, measure
from benchmarks.clients.traffic import request, write_requests
from benchmarks.parts.plan import BenchPlan, Section
from benchmarks.report import plain
from benchmarks.scenarios import PUT_64
from benchmarks.shared.probe import call
from benchmarks.shared.procfs import resident_mb
from benchmarks.systems.clusters import OurBenchCluster

IDLE = 10_000
SETTINGS = {"pending-requests-max": 12_000}
"""It bounds connections, too, and is 10,000 by default."""
_OPEN = re.compile(rb"^kvstore_http_connections ([\d.]+)$", re.M)


def connections(port: int) -> int:
    """How many the node says are open."""
    found = _OPEN.search(call(port, request("GET", "/metrics"))[1])
    return int(float(found[1])) if found else 0


def run(plan: BenchPlan, count: int = IDLE) -> Section:
    """The same load without them and with them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    home = plan.home("idle")
    try:
        with OurBenchCluster(home, settings=SETTINGS) as cluster, contextlib.ExitStack() as held:
            cluster.start()
            cluster.wait_ready()
            leader = cluster.wait_leader()
            write_requests(home / "put", PUT_64.requests(cluster.dialect, 1))

            def press() -> Sample:
                load = Load(plan.effort.client, PUT_64.connections, 2 * plan.effort.seconds)
                return measure(load, [leader.client_port], home / "put", cluster.pids())

            press()  # the node is warm then
            alone, before_mb = press(), resident_mb(leader.pid)[0]
            for _ in range(count):
                held.enter_context(socket.create_connection(("127.0.0.1", leader.client_port), 10))
            beside, after_mb = press(), resident_mb(leader.pid)[0]
            there = connections(leader.client_port)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    problems = [f"puts {name}: {s}" for name, s in (("alone", alone), ("beside", beside))
                if s.failed]  # fmt: skip
    if there < count:
        problems.append(f"only {there} of {count} connections were open at the end")
    return Section(
        f"{count:,} idle connections",
        f"Puts over 64 other connections to the same node: {alone.per_s:,.0f}/s without them, "
        f"{beside.per_s:,.0f}/s with them (p99 {alone.p99_ms:.1f} and {beside.p99_ms:.1f} ms). "
        f"An idle connection takes {(after_mb - before_mb) * 1000 / count:.1f} kB of the node.",
        {"alone": plain(alone), "beside": plain(beside), "anonymous_mb": [before_mb, after_mb]},
        problems=tuple(problems),
    )
