"""Many watchers and many leases on a real cluster, and what must hold of them.

    python -m tests.integration.at_scale watch --watchers 200 --writes 20000 --kills 2
    python -m tests.integration.at_scale leases --leases 10000 --ttl 10 --seconds 60

The first follows every change at every node while the leader is killed, and counts events that are
missing, doubled or out of order. The second keeps leases alive, lets a part of them go, kills the
leader halfway, and compares when each key went with when it may go. Exit code 1 if anything is
wrong, or if the run showed nothing.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from kvstore.client import Client
from kvstore.errors import KvError
from tests.support.real_cluster import Cluster

WRITERS = 16
SETTLE_S = 60.0


def endpoints(cluster: Cluster, first: int) -> str:
    """All nodes, beginning with another one for each client."""
    numbers = cluster.numbers[first % len(cluster.numbers) :] + cluster.numbers
    return ",".join(f"127.0.0.1:{cluster.nodes[n].client_port}" for n in dict.fromkeys(numbers))


@dataclass
class Followed:
    """What one watcher was told."""

    keys: Counter[bytes] = field(default_factory=Counter)
    last_revision: int = 0
    disorder: int = 0


@dataclass
class WatchReport:
    watchers: int
    written: int = 0
    unknown: int = 0
    kills: int = 0
    events: int = 0
    missing: int = 0
    doubled: int = 0
    disorder: int = 0
    seconds: float = 0.0

    def wrong(self) -> bool:
        return bool(self.missing or self.doubled or self.disorder) or not self.written

    def __str__(self) -> str:
        return (
            f"{self.watchers} watchers, {self.written} writes acknowledged, {self.unknown} of "
            f"unknown outcome, leader killed {self.kills} times, {self.events} events in "
            f"{self.seconds:.0f} s: "
            f"missing {self.missing}, doubled {self.doubled}, out of order {self.disorder}"
        )


async def watch_all(cluster: Cluster, watchers: int, writes: int, kills: int) -> WatchReport:
    """Write `writes` keys while `watchers` follow them and the leader is killed `kills` times."""
    report, began = WatchReport(watchers), time.monotonic()
    clients = [Client(endpoints(cluster, n)) for n in range(watchers + 1)]
    followed = [Followed() for _ in range(watchers)]
    begun = [asyncio.Event() for _ in range(watchers)]
    tasks = [
        asyncio.create_task(_follow(clients[n], followed[n], begun[n])) for n in range(watchers)
    ]
    await asyncio.gather(*(event.wait() for event in begun))
    written: set[bytes] = set()
    unknown: set[bytes] = set()
    numbers = iter(range(writes))
    await asyncio.gather(
        _kill_leaders(cluster, kills, written, writes, report),
        *(_write(clients[-1], numbers, written, unknown) for _ in range(WRITERS)),
    )
    deadline_s = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline_s and any(written - one.keys.keys() for one in followed):
        await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.close()
    report.written, report.unknown = len(written), len(unknown)
    for one in followed:
        report.events += one.keys.total()
        report.missing += len(written - one.keys.keys())
        report.doubled += sum(times - 1 for times in one.keys.values())
        report.disorder += one.disorder
    report.seconds = time.monotonic() - began
    return report


async def _follow(client: Client, seen: Followed, begun: asyncio.Event) -> None:
    async with client.watch(prefix="w/") as watch:
        begun.set()
        async for event in watch:
            seen.keys[event.key] += 1
            seen.disorder += event.revision <= seen.last_revision
            seen.last_revision = event.revision


async def _write(client: Client, numbers, written: set[bytes], unknown: set[bytes]) -> None:  # type: ignore[no-untyped-def]
    for number in numbers:
        key = b"w/%d" % number
        try:
            await client.put(key, b"v" * 64)
            written.add(key)
        except KvError:
            unknown.add(key)


async def _kill_leaders(
    cluster: Cluster, kills: int, written: set[bytes], writes: int, report: WatchReport
) -> None:
    for kill in range(1, kills + 1):
        while len(written) < writes * kill / (kills + 1):
            await asyncio.sleep(0.02)
        leader = await asyncio.to_thread(cluster.leader)
        await asyncio.to_thread(cluster.kill9, leader)
        report.kills += 1
        await asyncio.sleep(0.5)
        await asyncio.to_thread(cluster.start, leader)


@dataclass
class LeaseReport:
    leases: int
    ttl_s: int
    kept: int = 0
    let_go: int = 0
    renewals: int = 0
    failed_renewals: int = 0
    early: int = 0
    late: int = 0
    lost: int = 0
    latest_s: float = 0.0
    cpu_share: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    kills: int = 0

    def wrong(self) -> bool:
        return bool(self.early or self.late or self.lost) or not (self.let_go and self.renewals)

    def __str__(self) -> str:
        return (
            f"{self.leases} leases of {self.ttl_s} s: {self.renewals} kept alive "
            f"({self.failed_renewals} tries failed: {dict(self.errors)}), leader CPU "
            f"{self.cpu_share:.2f} s per second; "
            f"{self.kept} kept to the end, lost {self.lost}; {self.let_go} let go: early "
            f"{self.early}, "
            f"later than {self.ttl_s + 1} s {self.late}, the latest after {self.latest_s:.2f} s; "
            f"leader killed {self.kills} times"
        )


class Leases:
    """Grants leases with a key each, keeps most of them alive, and watches the keys go."""

    def __init__(self, cluster: Cluster, leases: int, ttl_s: int) -> None:
        self.cluster = cluster
        self.report = LeaseReport(leases, ttl_s)
        self._clients = [Client(endpoints(cluster, n), timeout_s=10.0) for n in range(6)]
        self._asked_s: dict[int, float] = {}
        self._told_s: dict[int, float] = {}
        self._gone_s: dict[int, float] = {}
        self._let_go: set[int] = set()
        self._new_leader_s = 0.0

    async def run(self, seconds: float, kill: bool) -> LeaseReport:
        """Keep them for `seconds`, in the middle of which the leader may be killed."""
        report = self.report
        watching = asyncio.create_task(self._watch())
        numbers = iter(range(1, report.leases + 1))
        keeping = asyncio.create_task(self._keep_all())
        await asyncio.gather(*(self._grant(numbers, n) for n in range(24)))
        leader = await asyncio.to_thread(self.cluster.leader)
        began, cpu = time.monotonic(), _cpu_s(self.cluster, leader)
        await asyncio.sleep(seconds / 3)
        elapsed = time.monotonic() - began
        report.cpu_share = (_cpu_s(self.cluster, leader) - cpu) / elapsed
        self._release(report.leases // 20)
        await asyncio.sleep(seconds / 3)
        if kill:
            await asyncio.to_thread(self.cluster.kill9, leader)
            report.kills += 1
            await asyncio.to_thread(self.cluster.leader)
            self._new_leader_s = time.monotonic()
            await asyncio.to_thread(self.cluster.start, leader)
            self._release(report.leases // 20)
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        deadline_s = time.monotonic() + report.ttl_s + 5
        self._release(report.leases // 20)
        while time.monotonic() < deadline_s and self._let_go - self._gone_s.keys():
            await asyncio.sleep(0.2)
        for task in (keeping, watching):
            task.cancel()
        await asyncio.gather(keeping, watching, return_exceptions=True)
        self._judge()
        for client in self._clients:
            await client.close()
        return report

    async def _watch(self) -> None:
        async with self._clients[0].watch(prefix="l/", puts=False) as watch:
            async for event in watch:
                self._gone_s.setdefault(int(event.key[2:]), time.monotonic())

    async def _grant(self, numbers, worker: int) -> None:  # type: ignore[no-untyped-def]
        client = self._clients[worker % len(self._clients)]
        for lease in numbers:
            self._asked_s[lease] = time.monotonic()
            await client.lease(self.report.ttl_s, lease_id=lease)
            self._told_s[lease] = time.monotonic()
            await client.put(f"l/{lease}", b"", lease=lease)

    def _release(self, count: int) -> None:
        free = [lease for lease in self._told_s if lease not in self._let_go]
        self._let_go.update(free[:count])

    async def _keep_all(self) -> None:
        while True:
            began = time.monotonic()
            await self._renew_once()
            await asyncio.sleep(max(0.0, self.report.ttl_s / 3 - (time.monotonic() - began)))

    async def _renew_once(self) -> None:
        todo = iter([lease for lease in self._told_s if lease not in self._let_go])
        await asyncio.gather(*(self._renew(todo, n) for n in range(48)))

    async def _renew(self, todo, worker: int) -> None:  # type: ignore[no-untyped-def]
        client = self._clients[worker % len(self._clients)]
        for lease in todo:
            if lease in self._let_go:
                continue
            asked_s = time.monotonic()
            try:
                await client.keep_alive(lease)
            except KvError as error:
                self.report.failed_renewals += 1
                self.report.errors[type(error).__name__] += 1
            else:
                self._asked_s[lease], self._told_s[lease] = asked_s, time.monotonic()
                self.report.renewals += 1

    def _judge(self) -> None:
        report = self.report
        for lease, told_s in self._told_s.items():
            gone_s = self._gone_s.get(lease)
            report.early += gone_s is not None and gone_s < self._asked_s[lease] + report.ttl_s
            if lease not in self._let_go:
                report.kept += gone_s is None
                report.lost += gone_s is not None
                continue
            report.let_go += 1
            # A new leader gives every lease its full time from when it begins to lead.
            since_s = max(told_s, self._new_leader_s if gone_s is None else 0.0)
            if gone_s is not None and self._new_leader_s and gone_s > self._new_leader_s:
                since_s = max(told_s, self._new_leader_s)
            took_s = (gone_s if gone_s is not None else time.monotonic()) - since_s
            report.latest_s = max(report.latest_s, took_s)
            report.late += took_s > report.ttl_s + 1


def _cpu_s(cluster: Cluster, number: int) -> float:
    """User and system time of a node so far."""
    pid = cluster.nodes[number].pid
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    what = parser.add_subparsers(dest="what", required=True)
    watch = what.add_parser("watch")
    watch.add_argument("--watchers", type=int, default=200)
    watch.add_argument("--writes", type=int, default=20_000)
    watch.add_argument("--kills", type=int, default=2)
    leases = what.add_parser("leases")
    leases.add_argument("--leases", type=int, default=10_000)
    leases.add_argument("--ttl", type=int, default=10)
    leases.add_argument("--seconds", type=float, default=60.0)
    leases.add_argument("--no-kill", action="store_true")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kvstore-scale-"))
    cluster = Cluster(3, directory)
    try:
        cluster.start()
        report: WatchReport | LeaseReport
        if options.what == "watch":
            run = watch_all(cluster, options.watchers, options.writes, options.kills)
            report = asyncio.run(run)
        else:
            many = Leases(cluster, options.leases, options.ttl)
            report = asyncio.run(many.run(options.seconds, not options.no_kill))
        print(report)
        return int(report.wrong())
    finally:
        cluster.close(show=False)
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
