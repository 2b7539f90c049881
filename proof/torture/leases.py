"""Clients with leases: a key lives as long as its lease is kept alive, and not much longer.

Whatever is done to the nodes and their clocks, a lease must not end before its time, counted from
the beginning of the last call that granted or kept it.
"""

import asyncio
import random

import orjson

from proof.histories.history import CallOutcome
from proof.torture.record import RunRecord
from proof.torture.requests import Reply, Requests, key_target

TTL_S = (2, 5)
KEPT_MAX = 4
"""How often a lease is kept alive before it is left to end."""
CALL_S = 1.0
LOOK_S = (0.1, 0.6)
ENDS_S_MAX = 60.0
"""Seconds in which writes were acknowledged: a new leader gives every lease its time anew, and none
ends while there is no quorum. So it may last longer than its time, but not for ever."""


class LeaseClient:
    """One client, with one lease at a time."""

    def __init__(
        self, number: int, requests: Requests, record: RunRecord, rng: random.Random, prefix: str
    ) -> None:
        """All its keys begin with `prefix`."""
        self._requests = requests
        self._record = record
        self._rng = rng
        self._key = f"{prefix}-leases/{number}"
        self._leases = 0
        self.counts = record.leases

    async def run(self, stop: asyncio.Event) -> None:
        """One lease after another until `stop`, and the last one to its end."""
        while not stop.is_set():
            self._leases += 1
            await self._one(f"{self._key}/{self._leases}", stop)
            await asyncio.sleep(self._rng.uniform(*LOOK_S))

    async def _one(self, key: str, stop: asyncio.Event) -> None:
        ttl_s, called_s = self._rng.randint(*TTL_S), self._record.now_s()
        body = orjson.dumps({"ttl_s": ttl_s})
        granted = await self._send("POST", "/v1/leases", body)
        if granted.status != 201:
            return
        self.counts.granted += 1
        lease = granted.document()["id"]
        until_s = called_s + ttl_s
        put = await self._send("PUT", key_target(key, lease=lease), b"held")
        if put.outcome is not CallOutcome.OK or put.status != 200:
            # It is there, was there, or never will be.
            self.counts.perhaps += 2 * (put.outcome is CallOutcome.UNKNOWN)
            return
        self.counts.sure += 1
        for _ in range(self._rng.randint(0, KEPT_MAX)):
            await self._look(key, until_s, stop, until_s - ttl_s / 2)
            if stop.is_set():
                break
            called_s = self._record.now_s()
            kept = await self._send("POST", f"/v1/leases/{lease}/keep-alive", b"")
            if kept.status == 200:
                self.counts.kept += 1
                until_s = called_s + ttl_s
            elif kept.status == 404 and self._record.now_s() < until_s:
                self._record.complain(f"{key}: its lease is gone before its time")
        await self._look(key, until_s, stop, until_s)
        await self._see_end(key, lease, stop)

    async def _look(self, key: str, until_s: float, stop: asyncio.Event, end_s: float) -> None:
        """Until `end_s`: the key is there if its lease cannot have ended before `until_s`."""
        while self._record.now_s() < end_s and not stop.is_set():
            found = await self._send("GET", key_target(key))
            now_s = self._record.now_s()
            if found.outcome is CallOutcome.OK and now_s < until_s:
                self.counts.looked += 1
                if found.absent:
                    self._record.complain(
                        f"{key} was gone {until_s - now_s:.2f} s before the end of its lease"
                    )
                    return
            await asyncio.sleep(self._rng.uniform(*LOOK_S))

    async def _see_end(self, key: str, lease: str, stop: asyncio.Event) -> None:
        """The key goes with its lease, which is revoked when the load is over."""
        began_s, revoking_s = self._record.now_s(), 0.0
        while self._record.served_s(began_s) < ENDS_S_MAX and revoking_s < ENDS_S_MAX:
            looked_s = self._record.now_s()
            if stop.is_set():
                await self._send("DELETE", f"/v1/leases/{lease}")
            found = await self._send("GET", key_target(key))
            if found.absent:
                self.counts.sure += 1
                self.counts.ended += 1
                return
            await asyncio.sleep(self._rng.uniform(*LOOK_S))
            # Nothing is written any more then, so that nothing shows that nodes serve.
            revoking_s += (self._record.now_s() - looked_s) * stop.is_set()
        self.counts.perhaps += 1
        self._record.complain(f"{key} is still there {ENDS_S_MAX:g} s after the end of its lease")

    async def _send(self, method: str, target: str, body: bytes | None = None) -> Reply:
        node = self._rng.choice(list(self._requests.endpoints))
        return await self._requests.send(node, method, target, body=body, timeout_s=CALL_S)
