"""Injects one fault after another, and now and then two at once."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from proof.torture.faults.catalogue import FAULTS
from proof.torture.faults.kinds import FaultKind, Group, Target
from proof.torture.record import RunRecord

CALM_S = (0.4, 1.2)
RECOVERY_S_MAX = 15.0
"""How long to wait for an acknowledged write before the next fault comes anyway."""
POLL_S = 0.02
PAIR_AFTER = 4
"""After so many faults, a pair of faults of two groups."""
TWO_AT_ONCE = "two at once"


@dataclass
class Injected:
    """One fault as it was injected. Seconds since the run began."""

    names: tuple[str, ...]
    what: str
    began_s: float
    ended_s: float
    until_s: float
    """When the next fault began, or the load ended."""

    @property
    def kind(self) -> str:
        """The name to count it under."""
        return self.names[0] if len(self.names) == 1 else TWO_AT_ONCE


def rotation(faults: list[FaultKind], rng: random.Random) -> Iterator[list[FaultKind]]:
    """Rounds of all faults, each round in another order, with pairs in between, for ever."""
    pairs = [fault for fault in faults if fault.pairs]
    while True:
        rng.shuffle(faults)
        for count, fault in enumerate(faults, start=1):
            yield [fault]
            if count % PAIR_AFTER == 0 or count == len(faults):
                yield from _pair(pairs, rng)


def _pair(faults: list[FaultKind], rng: random.Random) -> Iterator[list[FaultKind]]:
    """Two of different groups, if there are; what is done to processes last, so that it ends
    first: a node starts while the other fault still lasts."""
    by_group = {group: [f for f in faults if f.group is group] for group in Group}
    groups = [group for group, some in by_group.items() if some]
    if len(groups) > 1:
        chosen = sorted(rng.sample(groups, 2), key=lambda group: group is Group.PROCESS)
        yield [rng.choice(by_group[group]) for group in chosen]


class RealNemesis:
    """Works on one cluster until it is stopped. `injected` is what it did, in order."""

    def __init__(self, target: Target, record: RunRecord, names: list[str]) -> None:
        self._target = target
        self._record = record
        self._rotation = rotation([FAULTS[name] for name in names], target.rng)
        self.injected: list[Injected] = []
        self.now = ""
        """What is being done to the cluster just now; empty in between."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. A fault under way is ended early then."""
        await _wait(stop, self._target.rng.uniform(*CALM_S))
        while not stop.is_set():
            await self._inject(next(self._rotation), stop)
            await self._recover(stop)
            self.injected[-1].until_s = self._record.now_s()

    async def _inject(self, faults: list[FaultKind], stop: asyncio.Event) -> None:
        began_s, target = self._record.now_s(), self._target
        target.alone = len(faults) == 1
        lasts_s = max(target.rng.uniform(*fault.lasts_s) for fault in faults)
        async with AsyncExitStack() as stack:
            done = [await stack.enter_async_context(fault.inject(target)) for fault in faults]
            self.now = " and ".join(done)
            await _wait(stop, lasts_s)
        now_s = self._record.now_s()
        names = tuple(fault.name for fault in faults)
        self.injected.append(Injected(names, self.now, began_s, now_s, now_s))
        self.now = ""

    async def _recover(self, stop: asyncio.Event) -> None:
        """A write is acknowledged again, and some calm."""
        healed_s = self._record.now_s()
        times = self._record.acknowledged_at_s
        while not stop.is_set() and self._record.now_s() < healed_s + RECOVERY_S_MAX:
            if times and times[-1] > healed_s:
                break
            await asyncio.sleep(POLL_S)
        await _wait(stop, self._target.rng.uniform(*CALM_S))


async def _wait(stop: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await stop.wait()
    except TimeoutError:
        pass
