"""One run: cluster, load, faults, and the reading back. What it found is judged by `report`."""

import asyncio
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from kvstore_cli.launcher.node_cluster import NodeCluster
from proof.processes import namespaces
from proof.processes.faulty_places import FaultyPlaces
from proof.processes.namespaces import NamespaceNetwork
from proof.processes.network import NetworkUnavailable, NodeNetwork
from proof.processes.proxies import ProxyNetwork
from proof.torture import readback
from proof.torture.clients import LoadClient
from proof.torture.cluster import READY_S_MAX, statuses, torture_nodes, wait_ready
from proof.torture.faults.catalogue import FAULTS
from proof.torture.faults.kinds import Target
from proof.torture.leases import LeaseClient
from proof.torture.nemesis import Injected, RealNemesis
from proof.torture.plan import Plan
from proof.torture.readback import ReadBack
from proof.torture.record import RunRecord
from proof.torture.requests import Requests, key_target

LOOK_S = 0.5
POLL_S = 0.02
LINE_S = 10.0
LEASE_CLIENTS = 3
COVER_S_MAX = 120.0
"""How long the load goes on at most until every fault that was demanded has come."""

Say = Callable[[str], None]


@dataclass
class Findings:
    """All that is known after a run."""

    plan: Plan
    network: str = "that of the cluster"
    record: RunRecord = field(default_factory=RunRecord)
    injected: list[Injected] = field(default_factory=list)
    read_back: ReadBack = field(default_factory=ReadBack)
    load_s: float = 0.0
    """How long the load lasted."""
    met: Counter[str] = field(default_factory=Counter)
    """What the nodes met of the faults."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Faults that cannot be had here, and why."""
    ready_s: float = 0.0
    """From the end of the last fault until all nodes served."""
    problems: list[str] = field(default_factory=list)


class FaultUnavailable(Exception):
    """A fault that was asked for by its name cannot be had here; the text says why."""


async def run(plan: Plan, directory: Path, say: Say = print) -> Findings:
    """Run `plan` with data and logs in `directory`, which exists.

    Whatever it makes but the files is gone when it returns or raises. Raises NetworkUnavailable
    if the network asked for cannot be had, FaultUnavailable likewise.
    """
    findings = Findings(plan)
    if plan.endpoints:
        async with Requests(dict(enumerate(plan.endpoints, start=1))) as requests:
            say(f"Load on {len(plan.endpoints)} endpoints that run already: no faults.")
            await _run_on(findings, requests, None, say)
        return findings
    rng = random.Random(plan.seed)
    async with _own_cluster(plan, directory, rng, say) as target:
        findings.network = target.network.name
        findings.skipped = _skipped(plan, target, say)
        findings.met = target.met
        possible = tuple(name for name in plan.faults if name not in findings.skipped)
        findings.plan = replace(plan, faults=possible)
        await _run_on(findings, target.requests, target, say)
        target.places.drain()
        target.cluster.look()
        findings.problems += target.problems + target.cluster.ended
    return findings


def _skipped(plan: Plan, target: Target, say: Say) -> dict[str, str]:
    """Faults that cannot be had, and why. Raises FaultUnavailable if they were demanded."""
    found = {}
    for name in plan.faults:
        if reason := FAULTS[name].unavailable(target.network, target.places):
            if plan.demanded:
                raise FaultUnavailable(f"{name} cannot be had: {reason}")
            found[name] = reason
            say(f"Without {name}: {reason}")
    return found


@asynccontextmanager
async def _own_cluster(
    plan: Plan, directory: Path, rng: random.Random, say: Say
) -> AsyncIterator[Target]:
    network = _network(plan, random.Random(rng.random()))
    places = FaultyPlaces(network, range(1, plan.nodes + 1), directory)
    cluster: NodeCluster | None = None
    try:
        await network.start()
        places.start()
        cluster = torture_nodes(plan.nodes, places, directory)
        say(
            f"Starting {plan.nodes} nodes, seed {plan.seed}, network: {network.name}; "
            f"data and logs in {directory}/"
        )
        cluster.start()
        endpoints = {number: node.url for number, node in cluster.nodes.items()}
        async with Requests(endpoints) as requests:
            yield Target(cluster, network, places, requests, rng)
    finally:
        if cluster is not None:
            cluster.close()
        places.close()
        await network.close()


def _network(plan: Plan, rng: random.Random) -> NodeNetwork:
    nodes = list(range(1, plan.nodes + 1))
    reason = "" if plan.network == "proxy" else namespaces.unavailable()
    if plan.network == "namespaces" and reason:
        raise NetworkUnavailable(reason)
    if plan.network == "proxy" or reason:
        return ProxyNetwork(nodes, rng)
    return NamespaceNetwork(nodes, rng)


async def _run_on(findings: Findings, requests: Requests, target: Target | None, say: Say) -> None:
    late = await wait_ready(requests)
    if late:
        findings.problems.append(f"nodes {late} were not ready {READY_S_MAX:g} s after their start")
        return
    views = await statuses(requests)
    before = max((view.get("revision", 0) for view in views.values()), default=0)
    await _load(findings, requests, target, say)
    say("The load is over; healing, waiting for all nodes, reading everything back.")
    if await _heal(findings, requests, target):
        await _read_back(findings, requests, before if target else None)
    if target is None:
        await _remove_keys(findings.record, requests)


async def _load(findings: Findings, requests: Requests, target: Target | None, say: Say) -> None:
    plan, stop = findings.plan, asyncio.Event()
    rng = random.Random(plan.seed + 1)
    record = findings.record = RunRecord()
    prefix = f"torture-{secrets.token_hex(4)}"
    nemesis = RealNemesis(target, record, list(plan.faults)) if target else None
    if nemesis:
        findings.injected = nemesis.injected
    interval_s = plan.clients / plan.rate
    async with asyncio.TaskGroup() as group:
        for number in range(plan.clients):
            client = LoadClient(number, requests, record, random.Random(rng.random()), prefix)
            group.create_task(client.run(interval_s, stop))
        if nemesis:
            for number in range(LEASE_CLIENTS):
                keeper = LeaseClient(number, requests, record, random.Random(rng.random()), prefix)
                group.create_task(keeper.run(stop))
            group.create_task(nemesis.run(stop))
        await _watch(plan, record, target, nemesis, say)
        findings.load_s = record.now_s()
        stop.set()


async def _watch(
    plan: Plan,
    record: RunRecord,
    target: Target | None,
    nemesis: RealNemesis | None,
    say: Say,
) -> None:
    """Until the load is over: tell how it goes, and look for nodes that ended by themselves."""
    terminal = sys.stdout.isatty()
    told_s = 0.0
    while (
        (left_s := plan.duration_s - record.now_s()) > 0
        or record.calls < plan.calls_min
        or (nemesis and plan.demanded and not_yet(plan, nemesis.injected) and -left_s < COVER_S_MAX)
    ):
        await asyncio.sleep(min(LOOK_S, max(POLL_S, left_s)))
        if target is not None:
            target.places.drain()
            target.cluster.look()
        line = _progress(plan.duration_s, record, nemesis)
        if terminal:
            print(f"\r\x1b[K{line}", end="", flush=True)
        elif record.now_s() >= told_s + LINE_S:
            told_s = record.now_s()
            say(line)
    if terminal:
        print("\r\x1b[K", end="", flush=True)


def not_yet(plan: Plan, injected: list[Injected]) -> list[str]:
    """Faults of the plan that have not been injected."""
    names = {name for fault in injected for name in fault.names}
    return [name for name in plan.faults if name not in names]


def _progress(duration_s: float, record: RunRecord, nemesis: RealNemesis | None) -> str:
    faults = ""
    if nemesis is not None:
        faults = f", {len(nemesis.injected)} faults; now: {nemesis.now or 'calm'}"
    return (
        f"{record.now_s():4.0f} of {duration_s:.0f} s: {record.calls} calls, "
        f"{len(record.acknowledged)} writes acknowledged, {record.unknown_writes} unknown{faults}"
    )


async def _heal(findings: Findings, requests: Requests, target: Target | None) -> bool:
    """Undo every fault; whether all nodes serve in time."""
    began = time.monotonic()
    if target is not None:
        target.network.links.heal()
        target.places.heal()
        for number in target.numbers:
            target.cluster.resume(number)
        target.cluster.start()
    late = await wait_ready(requests)
    findings.ready_s = time.monotonic() - began
    if late:
        findings.problems.append(f"nodes {late} were not ready {READY_S_MAX:g} s after the load")
    return not late


async def _read_back(findings: Findings, requests: Requests, before: int | None) -> None:
    record, found = findings.record, findings.read_back
    await readback.read_all(requests, record, findings.plan.clients)
    problems = await readback.check_convergence(requests, found)
    await readback.check_acknowledged(requests, record, found)
    if before is not None:
        # Another's cluster may be busy with other things than the torture.
        found.problems += problems
        readback.check_count(record, found, before)
        await readback.check_expiry(requests, record)


async def _remove_keys(record: RunRecord, requests: Requests) -> None:
    """Leave a store that is not ours as it was found."""
    nodes = sorted(requests.endpoints)
    for key in record.keys:
        for node in nodes:
            once = {"Idempotency-Key": f"remove-{key}"}
            target = key_target(key)
            reply = await requests.send(node, "DELETE", target, headers=once, timeout_s=3.0)
            if reply.status == 200:
                break
