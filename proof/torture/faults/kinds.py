"""What a fault is, and what it works on.

A fault is one asynchronous context, which ends it on leaving. It undoes itself only if nothing goes
wrong in between: whoever ends the run ends the processes anyway.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from kvstore_cli.launcher.node_cluster import NodeCluster
from proof.processes.faulty_places import FaultyPlaces
from proof.processes.links import Cut, LinkState
from proof.processes.network import NodeNetwork
from proof.torture.cluster import leader_of
from proof.torture.requests import Requests

LASTS_S = (0.8, 3.0)


@dataclass
class Target:
    """What a fault works on, its randomness, and where it notes what came of it."""

    cluster: NodeCluster
    network: NodeNetwork
    places: FaultyPlaces
    requests: Requests
    rng: random.Random
    alone: bool = True
    """Whether the fault under way is the only one, so that it can be judged by itself."""
    met: Counter[str] = field(default_factory=Counter)
    """What the nodes met of the faults, such as syncs that had to wait."""
    problems: list[str] = field(default_factory=list)
    """What nodes did that they must not do under a fault."""

    @property
    def numbers(self) -> list[int]:
        """All nodes."""
        return self.cluster.numbers

    def any_node(self) -> int:
        """Some node."""
        return self.rng.choice(self.numbers)

    async def leader(self) -> int:
        """The leader, or some node if there is none."""
        return await leader_of(self.requests) or self.any_node()

    async def victim(self) -> int:
        """The leader in half of the cases."""
        return self.any_node() if self.rng.random() < 0.5 else await self.leader()

    def others(self, *excluded: int) -> list[int]:
        """All nodes but these, in random order."""
        found = [n for n in self.numbers if n not in excluded]
        self.rng.shuffle(found)
        return found

    def cut(self) -> LinkState:
        """A cut, of one of the kinds."""
        return LinkState(cut=self.rng.choice([Cut.HOLD, Cut.DROP, Cut.RESET]))

    def lives(self, number: int) -> tuple[int, bool]:
        """What changes when the node's process is another one, or none."""
        node = self.cluster.nodes[number]
        return node.pid, node.running

    def count(self, what: str, met: int, judged: bool = True) -> None:
        """So often the nodes met the fault under way. One that no node met in the whole run shows
        nothing; `judged` False: it could not be met this time, because a node ended."""
        if met or judged:
            self.met[what] += met


class Group(StrEnum):
    """What a fault is done to. Two at once are of two groups."""

    PROCESS = "process"
    LINK = "link"
    SURROUNDINGS = "surroundings"


Injection = Callable[[Target], AbstractAsyncContextManager[str]]


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault. `inject` gives what was done, in words."""

    name: str
    summary: str
    group: Group
    nodes_min: int
    lasts_s: tuple[float, float]
    pairs: bool
    """Whether another fault may come at the same time."""
    inject: Injection
    unavailable: Callable[[NodeNetwork, FaultyPlaces], str]
    """Why it cannot be had in these; empty if it can."""


FAULTS: dict[str, FaultKind] = {}
"""All kinds, in the order in which they are documented."""


def _anywhere(_: NodeNetwork, __: FaultyPlaces) -> str:
    return ""


def fault(
    name: str,
    summary: str,
    group: Group,
    *,
    nodes_min: int = 1,
    lasts_s: tuple[float, float] = LASTS_S,
    pairs: bool = True,
    unavailable: Callable[[NodeNetwork, FaultyPlaces], str] = _anywhere,
) -> Callable[[Callable[[Target], AsyncIterator[str]]], None]:
    """Declares the generator that follows as a kind of fault."""

    def register(inject: Callable[[Target], AsyncIterator[str]]) -> None:
        context = asynccontextmanager(inject)
        FAULTS[name] = FaultKind(
            name, summary, group, nodes_min, lasts_s, pairs, context, unavailable
        )

    return register
