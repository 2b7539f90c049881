"""The load of `kvstore demo`: clients whose rate the page sets, and whose history is judged."""

import asyncio
import contextlib
import itertools
import random
import ssl
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol

import aiohttp

from kvstore.client.at_most_once import Attempt, at_most_once

ENTRY_POINTS = "kvstore.demo"
"""The group of entry points; the one named "judge" makes a `Judge`."""
CLIENTS = 12
RATE_MAX = 500
"""Requests per second of all clients together: more would measure this process."""
JUDGED_KEYS = 4
ROUND_S = 3.0
CALL_S_MAX = 2.0
READ_SHARE = 0.5
PREFIX = "demo/load/"


class Judge(Protocol):
    """Judges a history while it is made. Values of one key are written once."""

    def put(
        self, client: int, key: str, value: str, called_s: float, returned_s: float | None
    ) -> None:
        """A write; `returned_s` None: nobody knows whether it happened, or will."""

    def get(
        self, client: int, key: str, value: str | None, called_s: float, returned_s: float
    ) -> None:
        """A read that was answered."""

    def judge(self, prefix: str) -> None:
        """No more calls come for the keys with this prefix. May take seconds."""

    def verdict(self) -> dict[str, Any]:
        """Of everything judged so far."""


def installed_judge() -> Judge | None:
    """The one that some package offers; None if none does, and then nothing is judged."""
    for entry_point in entry_points(group=ENTRY_POINTS, name="judge"):
        with contextlib.suppress(ImportError):
            made: Judge = entry_point.load()()
            return made
    return None


class Round:
    """Keys that are used for ROUND_S; `calls` of them are under way."""

    def __init__(self, number: int) -> None:
        self.prefix = f"{PREFIX}{number}/"
        self.calls = 0
        self.over = False


class DemoLoad:
    """Runs while `run` does. `rate_per_s` may be set at any time; 0 is silence. `trust`: by what
    nodes are believed that speak TLS."""

    def __init__(
        self, urls: Sequence[str], judge: Judge | None, trust: ssl.SSLContext | None = None
    ) -> None:
        self._trust = trust
        self._urls = list(urls)
        self._judge = judge
        self._values = itertools.count(1)
        self._rounds = itertools.count(time.time_ns() // 1_000_000)
        self._round = Round(next(self._rounds))
        self.rate_per_s = 0
        self.done = 0
        self.failed = 0

    def state(self) -> dict[str, Any]:
        """For the page."""
        verdict = None if self._judge is None else self._judge.verdict()
        counts = {"rate_per_s": self.rate_per_s, "rate_max": RATE_MAX}
        return {**counts, "done": self.done, "failed": self.failed, "verdict": verdict}

    async def run(self) -> None:
        """Until it is cancelled."""
        timeout = aiohttp.ClientTimeout(total=CALL_S_MAX)
        connector = aiohttp.TCPConnector(ssl=True if self._trust is None else self._trust)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, trace_configs=[at_most_once()]
        ) as session:
            clients = [self._client(number, session) for number in range(1, CLIENTS + 1)]
            async with asyncio.TaskGroup() as group:
                for client in (*clients, self._turn_rounds()):
                    group.create_task(client)

    async def _turn_rounds(self) -> None:
        while True:
            await asyncio.sleep(ROUND_S)
            if self.rate_per_s or self._round.calls:
                over, self._round = self._round, Round(next(self._rounds))
                while over.calls:  # each ends within CALL_S_MAX
                    await asyncio.sleep(0.05)
                if self._judge is not None:
                    await asyncio.to_thread(self._judge.judge, over.prefix)

    async def _client(self, number: int, session: aiohttp.ClientSession) -> None:
        at = number
        while True:
            if not self.rate_per_s:
                await asyncio.sleep(0.1)
                continue
            began_s = time.monotonic()
            if not await self._call(number, session, self._urls[at % len(self._urls)]):
                at += 1
                await asyncio.sleep(0.1)
            pause_s = CLIENTS / max(1, self.rate_per_s) * random.uniform(0.5, 1.5)
            await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - began_s)))

    async def _call(self, number: int, session: aiohttp.ClientSession, url: str) -> bool:
        """Whether the node answered."""
        now = self._round
        key = f"{now.prefix}{random.randrange(JUDGED_KEYS)}"
        target = f"{url}/v1/kv/{key}"
        now.calls += 1
        try:
            if random.random() < READ_SHARE:
                answered = await self._read(number, session, target, key)
            else:
                answered = await self._write(number, session, target, key)
        finally:
            now.calls -= 1
        self.done += answered
        self.failed += not answered
        return answered

    async def _read(
        self, number: int, session: aiohttp.ClientSession, target: str, key: str
    ) -> bool:
        called_s = time.monotonic()
        try:
            async with session.get(target, trace_request_ctx=Attempt(again=True)) as answer:
                body = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return False
        if answer.status not in (200, 404):
            return False
        if self._judge is not None:
            value = body if answer.status == 200 else None
            self._judge.get(number, key, value, called_s, time.monotonic())
        return True

    async def _write(
        self, number: int, session: aiohttp.ClientSession, target: str, key: str
    ) -> bool:
        value = str(next(self._values))
        called_s = time.monotonic()
        status, body, returned_s = 0, b"", None
        attempt = Attempt()
        try:
            async with session.put(
                target, data=value.encode(), trace_request_ctx=attempt
            ) as answer:
                body = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            if not attempt.sent:
                return False
        if status == 200:
            returned_s = time.monotonic()
        # Whatever else came, or did not, leaves it open.
        refused = status == 503 and b'"outcome":"unknown"' not in body
        if self._judge is not None and not refused:
            self._judge.put(number, key, value, called_s, returned_s)
        return status == 200
