"""The clients with leases find a lease that ends early, one that never ends, and a stray revision;
and what the torture says of faults that were not injected."""

import asyncio
import random
import time
from types import SimpleNamespace

import pytest
from aiohttp import web

from kvstore.errors import InvalidArgument
from proof.processes import preload
from proof.processes.waiting import until
from proof.torture import leases, readback
from proof.torture.faults.catalogue import FAULTS
from proof.torture.faults.disks import _Seen
from proof.torture.faults.kinds import Target
from proof.torture.leases import LeaseClient
from proof.torture.nemesis import Injected
from proof.torture.plan import Plan
from proof.torture.record import OldWrite, RunRecord
from proof.torture.report import judge
from proof.torture.requests import Requests
from proof.torture.run import Findings, not_yet
from tests.proof.torture.test_torture import parse


class LeaseStore:
    """One node with leases that last `share` of their time."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self.ends: dict[str, float] = {}
        self.ttls: dict[str, float] = {}
        self.lease_of: dict[str, str] = {}
        self.revision = 1

    def _expire(self) -> None:
        for lease in [one for one, end_s in self.ends.items() if time.monotonic() > end_s]:
            self._end(lease)

    def _end(self, lease: str) -> None:
        del self.ends[lease]
        for key in [one for one, held in self.lease_of.items() if held == lease]:
            del self.lease_of[key]
            self.revision += 1

    async def serve(self, request: web.Request) -> web.Response:
        self._expire()
        path, lease = request.path, request.path.split("/")[3:4]
        if path == "/v1/leases":
            ttl_s = (await request.json())["ttl_s"]
            self.ttls[name := str(len(self.ttls))] = ttl_s
            self.ends[name] = time.monotonic() + self.share * ttl_s
            return web.json_response({"id": name}, status=201)
        if path.startswith("/v1/leases/"):
            if lease[0] not in self.ends:
                return web.json_response({}, status=404)
            if request.method == "DELETE":
                self._end(lease[0])
            else:
                self.ends[lease[0]] = time.monotonic() + self.share * self.ttls[lease[0]]
            return web.json_response({})
        if request.method == "PUT":
            if "lease" in request.query:
                self.lease_of[path] = request.query["lease"]
            self.revision += 1
            return web.json_response({"revision": self.revision})
        if path not in self.lease_of:
            return web.json_response({"type": "/problems/key-not-found"}, status=404)
        return web.Response(text="held", headers={"ETag": '"2"'})


async def with_store(store: LeaseStore, do) -> None:
    """`do(requests)` against the store."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", store.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Requests({1: f"http://127.0.0.1:{runner.addresses[0][1]}"}) as requests:
            await do(requests)
    finally:
        await runner.cleanup()


def keep(store: LeaseStore, lasts_s: float, enough=lambda record: True) -> RunRecord:
    """Some clients with leases for so long, and until `enough`, however busy the machine is."""
    record = RunRecord()

    async def go(requests: Requests) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                rng = random.Random(number)
                group.create_task(LeaseClient(number, requests, record, rng, "p").run(stop))
            await asyncio.sleep(lasts_s)
            await until(lambda: enough(record), 20.0)
            stop.set()

    asyncio.run(with_store(store, go))
    return record


@pytest.fixture
def short(monkeypatch):
    """Leases of a second, and little patience; not for real nodes."""
    monkeypatch.setattr(leases, "TTL_S", (1, 1))
    monkeypatch.setattr(leases, "LOOK_S", (0.01, 0.05))
    monkeypatch.setattr(leases, "ENDS_S_MAX", 3.0)


def test_honest_leases(short):
    """Nothing to complain of, and every revision is accounted for."""
    store = LeaseStore()
    record = keep(store, 2.5, lambda r: r.leases.looked > 20 and r.leases.ended >= 6)
    assert record.complaints == [] and record.leases.looked > 20 and record.leases.ended >= 6
    assert store.revision - 1 == record.leases.sure and record.leases.perhaps == 0


def test_leases_that_end_early(short):
    record = keep(LeaseStore(0.5), 1.0, lambda record: record.complaints)
    assert [text for text in record.complaints if "before the end of its lease" in text]


def test_leases_that_never_end(short):
    """Nor when they are revoked."""
    store = LeaseStore(100.0)
    store._end = lambda lease: None
    record = keep(store, 1.0)
    assert [text for text in record.complaints if "is still there" in text]
    assert record.leases.perhaps == 6


@pytest.mark.parametrize(("revision", "wrong"), [(2, True), (1, False)])
def test_an_answer_that_is_kept_for_ever(monkeypatch, revision, wrong):
    """The store answers revision 2 to the next write: is that what it answered long ago?"""
    record = RunRecord(began=time.monotonic() - 1000)
    record.first_put = OldWrite("k", "v", "once", revision, 1.0)
    asyncio.run(with_store(LeaseStore(), lambda requests: readback.check_expiry(requests, record)))
    assert bool([text for text in record.complaints if "clock stands" in text]) is wrong
    assert record.counts["expired write", "ok"] == 1


def test_a_node_that_does_not_say_that_its_disk_hangs(monkeypatch):
    """It is ready and leads: two complaints. One that says so and follows: none."""

    async def go(answers: tuple[int, str]) -> list[str]:
        status, role = answers

        async def serve(request: web.Request) -> web.Response:
            if request.path == "/readyz":
                return web.Response(status=status, text="the disk hangs")
            node = {"role": role}
            return web.json_response({"node": node, "ballot": "1.1"})

        store, found = LeaseStore(), []
        store.serve = serve

        async def do(requests: Requests) -> None:
            grip = SimpleNamespace(hung=1)
            cluster = SimpleNamespace(numbers=[1, 2])
            places = SimpleNamespace(grips={1: grip})
            target = Target(cluster, None, places, requests, random.Random(1))
            seen = _Seen(target, 1)
            watch = asyncio.create_task(seen.watch(0))
            await asyncio.sleep(0.5)
            await seen.judge()
            watch.cancel()
            found.extend(target.problems)

        await with_store(store, do)
        return found

    assert len(asyncio.run(go((200, "leader")))) == 2
    assert asyncio.run(go((503, "follower"))) == []


def test_a_fault_that_nobody_met_fails_the_run():
    """And one that was demanded and never came; one of a default run is only named."""
    findings = Findings(Plan())
    findings.injected.append(Injected(("hang-disk",), "", 0.0, 1.0, 2.0))
    target = Target(None, None, None, None, random.Random(1), met=findings.met)
    target.count("syncs that had to wait", 0, judged=False)
    assert "no node met" not in judge(findings).text()
    target.count("syncs that had to wait", 0)
    assert "no node met: syncs that had to wait" in judge(findings).text()
    target.count("syncs that had to wait", 3)
    assert "no node met" not in judge(findings).text()
    for demanded in (True, False):
        findings = Findings(Plan(faults=("kill-node", "hang-disk"), demanded=demanded))
        findings.injected.append(Injected(("kill-node",), "node 1 killed", 0.0, 1.0, 2.0))
        assert not_yet(findings.plan, findings.injected) == ["hang-disk"]
        report = judge(findings)
        assert ("hang-disk was demanded, and not injected" in report.text()) is demanded
        assert ("no time for: hang-disk" in report.text()) is not demanded


@pytest.mark.integration
def test_a_fault_that_cannot_be_had(environment, monkeypatch, capsys):
    """Demanded it is refused with the reason; otherwise the run goes on without it."""
    from proof.torture import cli

    monkeypatch.setattr(preload, "COMPILERS", ())
    with pytest.raises(InvalidArgument, match="hang-disk cannot be had: a C compiler"):
        cli.run(parse("--network", "proxy", "--faults", "hang-disk"))
    with pytest.raises(InvalidArgument, match=r"silent-incoming cannot be had: .* no packets"):
        cli.run(parse("--network", "proxy", "--faults", "silent-incoming"))
    capsys.readouterr()
    assert list(environment.iterdir()) == []


@pytest.mark.proof
@pytest.mark.integration
def test_what_nodes_live_in_fails(environment, capsys):
    """Disks, clocks, logs, descriptors and, with namespaces, silence: all are injected and met."""
    from proof.processes import namespaces
    from proof.torture import cli

    if reason := preload.unavailable():
        pytest.skip(reason)
    names = ["hang-disk", "step-clock", "full-log", "closed-log", "exhaust-descriptors"]
    if not namespaces.unavailable():
        names += ["silent-incoming", "silent-outgoing"]
    assert set(names) <= set(FAULTS)
    report = environment / "report.json"
    code = cli.run(parse("--minutes", "0.3", "--seed", "5", "--rate", "200", "--faults",
                         ",".join(names), "--json", str(report)))  # fmt: skip
    assert code == 0, capsys.readouterr().out
    assert list(environment.iterdir()) == [report]
