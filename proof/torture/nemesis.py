"""Injects one fault after another, and now and then two at once."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from proof.torture.faults import FAULTS, FaultKind, Target
from proof.torture.record import RunRecord

LASTS_S = (0.8, 3.0)
CALM_S = (0.4, 1.2)
RECOVERY_S_MAX = 15.0
"""How long to wait for an acknowledged write before the next fault comes anyway."""
POLL_S = 0.02
PAIR_AFTER = 4
"""After so many faults, a pair of faults: one of a process and one of the links."""
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
    processes = [fault for fault in faults if not fault.of_network]
    links = [fault for fault in faults if fault.of_network]
    while True:
        rng.shuffle(faults)
        for count, fault in enumerate(faults, start=1):
            yield [fault]
            if processes and links and (count % PAIR_AFTER == 0 or count == len(faults)):
                yield [rng.choice(links), rng.choice(processes)]


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
        began_s = self._record.now_s()
        async with AsyncExitStack() as stack:
            done = [await stack.enter_async_context(fault.inject(self._target)) for fault in faults]
            self.now = " and ".join(done)
            await _wait(stop, self._target.rng.uniform(*LASTS_S))
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
