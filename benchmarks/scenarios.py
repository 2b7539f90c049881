"""What is measured side by side, as data; and the rows of the README's table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from benchmarks.clients.traffic import VALUE_BYTES, Dialect, key_of, value_of

OURS, ETCD, ZOOKEEPER, PYSYNCOBJ = "ours", "etcd", "zookeeper", "pysyncobj"
STEADY_WRITES = 250_000
"""So many writes each system takes before it is measured: ours compacts from 100,000 on."""
KEYS = 10_000


class Api(StrEnum):
    """How ours is spoken to; the other systems have one way each."""

    OWN = "own"
    ETCD = "etcd's"


class Aim(StrEnum):
    """Which nodes the connections go to."""

    LEADER = "leader"
    FOLLOWER = "follower"
    ALL = "all"


@dataclass(frozen=True)
class BenchScenario:
    """One kind of load on the systems that can do it.

    `puts`: their share; the rest are linearizable gets. `rate_per_s`: of an open loop; 0 is a
    closed loop. `seconds`: 0 is as long as the run says. `beside`: the scenario whose figures of
    etcd this one is compared with, where etcd would do the same once more.
    """

    name: str
    puts: float
    connections: int
    systems: tuple[str, ...] = (OURS, ETCD)
    api: Api = Api.OWN
    aim: Aim = Aim.LEADER
    rate_per_s: float = 0.0
    seconds: float = 0.0
    keys: int = KEYS
    value_bytes: int = VALUE_BYTES
    beside: str = ""

    @property
    def traffic(self) -> str:
        """What makes its requests the same as another's, as the name of a file."""
        return f"{self.api.name.lower()}-{self.puts:g}-{self.keys}-{self.value_bytes}"

    def requests(self, dialect: Dialect, generation: int) -> Iterator[bytes]:
        """What is sent, in random order: each key once, and of a mix twice as many as keys."""
        pure = self.puts in (0.0, 1.0)
        random = Random(generation)
        for number in range(self.keys) if pure else range(2 * self.keys):
            key = number if pure else random.randrange(self.keys)
            if self.puts == 1.0 or (not pure and random.random() < self.puts):
                yield dialect.put(key_of(key), value_of(key, generation, self.value_bytes))
            else:
                yield dialect.get(key_of(key))


PUT_64 = BenchScenario("put-64", 1.0, 64, (OURS, ETCD, ZOOKEEPER, PYSYNCOBJ))

SIDE_BY_SIDE = (
    BenchScenario("put-1", 1.0, 1),
    BenchScenario("v3-put-1", 1.0, 1, (OURS,), Api.ETCD, beside="put-1"),
    PUT_64,
    BenchScenario("v3-put-64", 1.0, 64, (OURS,), Api.ETCD, beside="put-64"),
    BenchScenario("put-256", 1.0, 256),
    BenchScenario("v3-put-256", 1.0, 256, (OURS,), Api.ETCD, beside="put-256"),
    BenchScenario("get-64", 0.0, 64),
    BenchScenario("v3-range-64", 0.0, 64, (OURS,), Api.ETCD, beside="get-64"),
    BenchScenario("get-64-follower", 0.0, 64, aim=Aim.FOLLOWER),
    BenchScenario("mixed-64", 0.1, 64),
)
"""`make bench`. What is compared with one figure of etcd stands beside it."""

MORE = (
    BenchScenario("put-16", 1.0, 16),
    BenchScenario("get-1", 0.0, 1),
    BenchScenario("get-256", 0.0, 256),
    BenchScenario("put-64-all", 1.0, 64, aim=Aim.ALL),
    BenchScenario("get-64-all", 0.0, 64, aim=Aim.ALL),
    BenchScenario("put-open", 1.0, 64, rate_per_s=3000.0),
)
"""What `make bench-full` measures besides, of the same keys."""

LARGE = (BenchScenario("put-1MiB", 1.0, 8, keys=32, value_bytes=1 << 20),)
"""And in a store of its own."""

EVERY = (*SIDE_BY_SIDE, *MORE, *LARGE)


@dataclass(frozen=True)
class TableRow:
    """A row of the README's table: its words, a scenario, and which figure of a `Sample`."""

    text: str
    scenario: str
    figure: str = "per_s"


README_ROWS = (
    TableRow("puts/s, 1 connection", "put-1"),
    TableRow("puts, 1 connection, p50 in ms", "put-1", "p50_ms"),
    TableRow("puts/s, 64 connections", "put-64"),
    TableRow("puts, 64 connections, p99 in ms", "put-64", "p99_ms"),
    TableRow("puts, 64 connections, CPU s per 1,000 over three nodes", "put-64", "server_cpu"),
    TableRow("puts/s, 256 connections", "put-256"),
    TableRow("linearizable gets/s, 64 connections, leader", "get-64"),
    TableRow("linearizable gets/s, 64 connections, follower", "get-64-follower"),
    TableRow("90 % gets, 10 % puts, per s, 64 connections", "mixed-64"),
    TableRow("etcd's API: puts/s, 1 connection", "v3-put-1"),
    TableRow("etcd's API: puts/s, 64 connections", "v3-put-64"),
    TableRow("etcd's API: puts/s, 256 connections", "v3-put-256"),
    TableRow("etcd's API: ranges/s of one key, 64 connections", "v3-range-64"),
)


def find(names: list[str]) -> list[BenchScenario]:
    """The scenarios that have these names, in their order. Raises KeyError."""
    known = {scenario.name: scenario for scenario in EVERY}
    return [known[name] for name in names]
