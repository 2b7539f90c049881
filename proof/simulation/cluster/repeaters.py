"""Clients that repeat a request under one idempotency key that is kept for a short time only.

Until it has expired, which is a matter of the log's clock, the answer is the same; after that the
request is carried out anew. The model knows which. Their keys are their own: the histories of other
keys know no writes that are carried out twice.
"""

import asyncio

from kvstore.commands.commands import Once, Put
from proof.simulation.cluster.clients import SimulatedClient

REQUESTS = 5


class SimulatedRepeater(SimulatedClient):
    """One request after the other."""

    async def _run(self) -> None:
        for _ in range(REQUESTS):
            await self._repeat(self.rng.choice((0.1, 0.5, 2.0)))
        self.done = True

    async def _repeat(self, ttl_s: float) -> None:
        key = f"e{self.number}"
        value = self.new_value()
        once = Once(self.new_name(), Put(key.encode(), value.encode()), int(ttl_s * 1000))
        for _ in range(self.rng.randint(2, 4)):
            await self.insist(f"put {key} once in {ttl_s:g} s", key, once, 1)
            await asyncio.sleep(self.rng.uniform(0, 1.2 * ttl_s))
