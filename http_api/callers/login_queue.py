"""Who may have a password checked, and when: few at a time, and no flood stands before others.

A check takes a core and 16 MiB for some 50 ms. Attempts wait in lanes, one for each pair of user
and address; free slots go round the lanes, so a flood on one lane, or on eighty, delays another by
one turn of each. A lane in which passwords were wrong is slowed down: the next attempt is refused
until its time has come, which is a second away at first and half a minute at last. Failing
schedule otherwise: 80 connections guess, and nine of ten people with the right password are told
to come back later.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address

from kvstore.errors import Overloaded, SlowDown

HASHING_MAX = 2
"""Password hashes computed at once."""
WAITING_MAX = 512
"""Attempts that wait, in all lanes together."""
LANE_WAITING_MAX = 4
FAILURES_FREE = 5
"""Wrong passwords in a lane before it is slowed down."""
DELAY_S_MAX = 32.0
FORGET_S = 900.0
"""A lane without a failure for so long starts anew."""
USER_FAILURES_MAX = 200
"""Wrong passwords for one user from all addresses: then one failure is enough to slow a lane down
from which nobody has logged in."""
LANES_MAX = 10_000
LINES_PER_MINUTE = 30

_log = logging.getLogger("http_api.login")

Pair = tuple[str, str]


class LoginLane:
    """The attempts of one user from one address."""

    __slots__ = ("failures", "last_failure_s", "next_s", "running", "succeeded", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0
        self.failures = 0
        self.last_failure_s = -math.inf
        self.next_s = -math.inf
        """Before that no attempt is checked."""
        self.succeeded = False


class LoginQueue:
    """Hands out the slots. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free = HASHING_MAX
        self._waiting = 0
        self._lanes: OrderedDict[Pair, LoginLane] = OrderedDict()
        self._turns: OrderedDict[Pair, LoginLane] = OrderedDict()
        """Lanes in which somebody waits, the next one first."""
        self._user_failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._minute, self._lines, self._unsaid = -math.inf, 0, 0

    @asynccontextmanager
    async def turn(self, user: str, address: str) -> AsyncIterator[None]:
        """A block that may compute one hash. Raises SlowDown or Overloaded at once, or while it
        waits."""
        pair = user, _network(address)
        lane = self._lane(pair)
        self._check(user, lane)
        if self._waiting >= WAITING_MAX or len(lane.waiting) >= LANE_WAITING_MAX:
            raise Overloaded("too many passwords are being checked at once")
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(mine)
        self._waiting += 1
        self._turns.setdefault(pair, lane)
        self._dispatch()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:
                self._over(lane)  # its turn came as it was given up
            raise
        try:
            yield
        finally:
            self._over(lane)

    def failed(self, user: str, address: str) -> None:
        """That attempt had the wrong password."""
        now_s, network = self._clock(), _network(address)
        lane = self._lane((user, network))
        lane.failures += 1
        lane.last_failure_s = now_s
        count, _ = self._failures_of(user)
        self._user_failures[user] = count + 1, now_s
        self._user_failures.move_to_end(user)
        if len(self._user_failures) > LANES_MAX:
            self._user_failures.popitem(last=False)
        over = lane.failures - self._failures_free(user, lane)
        if over >= 0:
            lane.next_s = now_s + min(2.0**over, DELAY_S_MAX)
        slowed = f"; slowed down for {lane.next_s - now_s:g} s" if over >= 0 else ""
        self._say(f"wrong password for user {user[:64]!r} from {address or 'nowhere'}{slowed}")

    def succeeded(self, user: str, address: str) -> None:
        """That attempt had the right one."""
        lane = self._lane((user, _network(address)))
        lane.failures, lane.next_s, lane.succeeded = 0, -math.inf, True

    # -- lanes ------------------------------------------------------------------------------

    def _lane(self, pair: Pair) -> LoginLane:
        lane = self._lanes.get(pair)
        if lane is None:
            lane = self._lanes[pair] = LoginLane()
            if len(self._lanes) > LANES_MAX:
                self._forget_one()
        self._lanes.move_to_end(pair)
        if lane.failures and self._clock() - lane.last_failure_s > FORGET_S:
            lane.failures, lane.next_s = 0, -math.inf
        return lane

    def _forget_one(self) -> None:
        """The lane that was not used for the longest time and is not in use."""
        for pair, lane in self._lanes.items():
            if not lane.waiting and not lane.running:
                del self._lanes[pair]
                return

    def _failures_of(self, user: str) -> tuple[int, float]:
        count, last_s = self._user_failures.get(user, (0, -math.inf))
        return (0, last_s) if self._clock() - last_s > FORGET_S else (count, last_s)

    def _failures_free(self, user: str, lane: LoginLane) -> int:
        flooded = self._failures_of(user)[0] >= USER_FAILURES_MAX
        return 1 if flooded and not lane.succeeded else FAILURES_FREE

    def _check(self, user: str, lane: LoginLane) -> None:
        """Raise SlowDown while the lane is slowed down: an attempt that runs counts as wrong."""
        left_s = lane.next_s - self._clock()
        if left_s > 0:
            raise SlowDown(math.ceil(left_s))
        if lane.running and lane.failures + lane.running >= self._failures_free(user, lane):
            raise SlowDown(1)

    # -- slots ------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give the free slots to the lanes, one attempt of each in turn."""
        while self._free and self._turns:
            pair, lane = self._turns.popitem(last=False)
            mine = lane.waiting.popleft()
            self._waiting -= 1
            if lane.waiting:
                self._turns[pair] = lane
            if mine.done():  # given up
                continue
            try:
                self._check(pair[0], lane)
            except SlowDown as slow:
                mine.set_exception(slow)
                continue
            self._free -= 1
            lane.running += 1
            mine.set_result(None)

    def _over(self, lane: LoginLane) -> None:
        self._free += 1
        lane.running -= 1
        self._dispatch()

    def _say(self, text: str) -> None:
        """A line of the log; so many a minute, and then how many there were."""
        now_s = self._clock()
        if now_s - self._minute >= 60:
            if self._unsaid:
                _log.warning("%d more wrong passwords were not shown", self._unsaid)
            self._minute, self._lines, self._unsaid = now_s, 0, 0
        if self._lines < LINES_PER_MINUTE:
            self._lines += 1
            _log.warning("%s", text)
        else:
            self._unsaid += 1


def _network(address: str) -> str:
    """One client's addresses: of IPv6 it has a whole /64."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address
