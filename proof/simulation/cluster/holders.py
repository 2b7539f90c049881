"""Lease holders in the simulation: grant, attach a key, keep alive for a while, then let go.

A lease must never end before its full time since the last answer that kept it alive; the monitor
compares. Its key lives outside the keys of the other clients, whose histories know no expiry.
"""

import asyncio

from kvstore.commands.commands import Grant, Put, Revoke, StoreCommand
from kvstore.commands.results import Granted, NoLease
from kvstore.replica.leasing import LeaseTime
from kvstore.replica.replica import Replica
from proof.simulation.cluster.clients import SimulatedClient
from proof.simulation.cluster.membership import SimulatedCluster
from proof.simulation.cluster.plans import ClientPlan

LEASES = 4
"""That each holder has, one after the other."""


class SimulatedHolder(SimulatedClient):
    """Holds one lease at a time."""

    def __init__(self, world: SimulatedCluster, plan: ClientPlan) -> None:
        super().__init__(world, plan)
        self._next_lease = 1000 * plan.id

    async def _run(self) -> None:
        for _ in range(LEASES):
            self._next_lease += 1
            await self._hold(self._next_lease, self.rng.randint(2, 4))
            await asyncio.sleep(self.rng.uniform(0, 0.5))
        self.done = True

    async def _hold(self, lease: int, ttl_s: int) -> None:
        monitor, scheduler = self.world.monitor, self.world.scheduler
        key = f"l{lease}".encode()
        called_s = scheduler.now_s
        if self.rng.random() < 0.5:
            command: StoreCommand = Grant(lease, ttl_s)
        else:
            command = Put(key, self.new_value().encode(), None, lease, ttl_s)
        result = await self.send(f"grant {lease} for {ttl_s} s", "", command)
        if result is None or isinstance(result, Exception):
            return
        monitor.leases.granted(lease, ttl_s, called_s)
        if isinstance(result, Granted):
            await self.send(
                f"put {key.decode()}", "", Put(key, self.new_value().encode(), None, lease)
            )
        for _ in range(self.rng.randint(0, 6)):
            await asyncio.sleep(self.rng.uniform(0.1, 0.7 * ttl_s))
            if not await self._renew(lease):
                return
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.uniform(0, 2 * ttl_s))
        if self.rng.random() < 0.3 and isinstance(
            await self.send(f"revoke {lease}", "", Revoke(lease)), NoLease
        ):
            self.world.reached("lease ended before it was revoked")

    async def _renew(self, lease: int) -> bool:
        """Keep it alive; whether it still is, as far as anybody knows."""
        monitor, called_s = self.world.monitor, self.world.scheduler.now_s

        async def work(replica: Replica) -> LeaseTime | None:
            return await replica.leasing.renew(lease, replica.config.request_timeout_s)

        answer = await self.attempt(self.node, f"keep lease {lease} alive", "", work)
        if isinstance(answer, Exception):
            return True
        if answer is None:
            return False
        self.world.reached("lease kept alive")
        if complaint := monitor.leases.renewed(lease, called_s):
            monitor.violated("no lease ends early", complaint)
        return True
