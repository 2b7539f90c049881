"""One request, sent to one endpoint after the other, or to several at once, until one answers.

A node that is frozen, or cut off without a word, still takes connections and requests. So an
attempt that is silent for HEDGE_S gets company at the next endpoint, and the first to answer wins
(Dean and Barroso, "The Tail at Scale", CACM 2013). Only requests that may arrive twice are sent so:
reads, and writes with an idempotency key, which are applied once wherever they arrive.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from kvstore.client.verdict import HttpReply
from kvstore.errors import KvError, NoQuorum, OutcomeUnknown, OutOfSpace, Unavailable

HEDGE_S = 1.0
"""How long one endpoint has for its answer before the next is asked too."""
ATTEMPT_S_MIN = 0.1
"""With less time left no further attempt is made: it would end unanswered, and make doubtful what
is certain until then."""
STILL_TRYING_S = 1.0
"""How long a call is silent before it says, once, what it waits for."""

log = logging.getLogger("kvstore.client")
"""At INFO: what takes long. The command line shows it."""


class Race:
    """One call. `attempt(endpoint, limit_s)` sends the request once; `pause_s(failures, error)`
    says how long to wait after so many failures; `failed(index)` hears of each. `check` may raise
    for an answer, as if the attempt had failed so."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        first: int,
        attempt: Callable[[str, float], Coroutine[Any, Any, HttpReply]],
        *,
        pause_s: Callable[[int, KvError], float],
        failed: Callable[[int], None],
        check: Callable[[HttpReply], None] | None,
        writes: bool,
        hedged: bool,
        attempt_s: float,
        deadline_s: float,
    ) -> None:
        self._endpoints = endpoints
        self._next = first
        self._attempt = attempt
        self._pause_s = pause_s
        self._failed = failed
        self._check = check
        self._writes = writes
        self._hedge_s = HEDGE_S if hedged and len(endpoints) > 1 else math.inf
        self._attempt_s = attempt_s
        self._deadline_s = deadline_s
        self._last_start_s = math.inf
        """When it is too late for a further attempt. The first is always made."""
        self._running: dict[asyncio.Task[HttpReply], int] = {}
        self._heard: dict[str, KvError] = {}
        self._doubts: dict[str, OutcomeUnknown] = {}
        self._last: KvError | None = None
        self._failures = 0
        self.winner: int | None = None
        """The index of the endpoint that answered."""

    @property
    def failed(self) -> bool:
        """Whether an attempt ended without an answer, or was silent when another had one."""
        return self._failures > 0 or bool(self._running)

    async def run(self) -> HttpReply:
        """The first answer. Raises the RequestError that one is, and at the deadline what is to be
        said of all attempts together."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        tell_s = next_s + STILL_TRYING_S
        try:
            while True:
                now_s = loop.time()
                if now_s >= tell_s:
                    tell_s = math.inf
                    log.info("still trying: %s", self._so_far())
                if now_s >= next_s and self._start(now_s):
                    next_s = now_s + self._hedge_s
                # Both: whoever sleeps until `next_s` may wake up when it is too late.
                if not self._running and max(now_s, next_s) >= self._last_start_s:
                    raise self._verdict()
                over = self._all_asked or next_s >= self._last_start_s
                until_s = tell_s if over else min(tell_s, next_s)
                wait_s = None if until_s == math.inf else max(0.0, until_s - loop.time())
                for task in await self._ended(wait_s):
                    index = self._running.pop(task)
                    answer = self._answer_of(task, index)
                    if answer is not None:
                        return answer
                    assert self._last is not None
                    next_s = loop.time() + self._pause_s(self._failures, self._last)
                if self._no_room_anywhere:
                    raise self._verdict()
        finally:
            for task in self._running:
                task.cancel()

    @property
    def _no_room_anywhere(self) -> bool:
        """Whether every endpoint has said so. To ask again is of no use: somebody must make room
        first."""
        full = sum(isinstance(error, OutOfSpace) for error in self._heard.values())
        return full == len(self._endpoints) and not self._running

    @property
    def _all_asked(self) -> bool:
        return len(self._running) == len(self._endpoints)

    def _start(self, now_s: float) -> bool:
        """Ask the next endpoint that is not asked already, if there is one and time is left."""
        if self._all_asked or now_s >= self._last_start_s:
            return False
        self._last_start_s = self._deadline_s - ATTEMPT_S_MIN
        while self._next in self._running.values():
            self._next = (self._next + 1) % len(self._endpoints)
        index, self._next = self._next, (self._next + 1) % len(self._endpoints)
        # Never 0, which aiohttp takes for "no limit".
        limit_s = max(min(self._attempt_s, self._deadline_s - now_s), 0.001)
        task = asyncio.ensure_future(self._attempt(self._endpoints[index], limit_s))
        task.add_done_callback(_heard)
        self._running[task] = index
        return True

    async def _ended(self, wait_s: float | None) -> set[asyncio.Task[HttpReply]]:
        if not self._running:
            await asyncio.sleep(wait_s or 0.0)
            return set()
        done, _ = await asyncio.wait(
            self._running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
        )
        return done

    def _answer_of(self, task: asyncio.Task[HttpReply], index: int) -> HttpReply | None:
        """The answer; None if the attempt failed so that another may do better."""
        endpoint = self._endpoints[index]
        try:
            answer = task.result()
            if self._check is not None:
                self._check(answer)
        except (OutcomeUnknown, Unavailable) as error:
            if isinstance(error, OutcomeUnknown):
                self._doubts.setdefault(endpoint, error)
            self._heard[endpoint] = self._last = error
            self._failures += 1
            self._failed(index)
            return None
        except KvError:
            self.winner = index
            raise
        self.winner = index
        return answer

    def _so_far(self) -> str:
        asked = {self._endpoints[index] for index in self._running.values()}
        texts = [str(error) for endpoint, error in self._heard.items() if endpoint not in asked]
        texts += [f"no answer yet from {endpoint}" for endpoint in asked]
        return "; ".join(dict.fromkeys(texts))

    def _verdict(self) -> KvError:
        """What to raise in the end. Once one attempt of a write is in doubt, later certain refusals
        do not make it certain, and what they say ("nothing was written") is not repeated."""
        last = self._last or NoQuorum("the deadline was over before anything was sent")
        if self._writes and self._doubts:
            return OutcomeUnknown(_joined(self._doubts.values()))
        text = _joined(self._heard.values()) or str(last)
        if isinstance(last, OutcomeUnknown):
            return NoQuorum(text)  # a read has no outcome to doubt
        return type(last)(text)


def _joined(errors: Any) -> str:
    return "; ".join(dict.fromkeys(str(error) for error in errors))


def _heard(task: asyncio.Task[HttpReply]) -> None:
    """The error of an attempt that lost the race is nobody's business."""
    if not task.cancelled():
        task.exception()
