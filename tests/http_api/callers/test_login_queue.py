"""Passwords are checked a few at a time, and a flood of guesses stands in nobody else's way."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from http_api.callers import login_queue
from http_api.callers.login_queue import (
    DELAY_S_MAX,
    FAILURES_FREE,
    FORGET_S,
    HASHING_MAX,
    LANE_WAITING_MAX,
    LANES_MAX,
    USER_FAILURES_MAX,
    LoginQueue,
)
from kvstore.errors import Overloaded, SlowDown
from tests.support.guarded_node import Guarded, guarded
from tests.support.raw_http import connect


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def guess(queue: LoginQueue, user: str = "u", address: str = "192.0.2.1") -> None:
    """A wrong password."""
    async with queue.turn(user, address):
        queue.failed(user, address)


async def wrong(queue: LoginQueue, times: int, user: str = "u", address: str = "192.0.2.1") -> None:
    for _ in range(times):
        await guess(queue, user, address)


def test_wrong_passwords_slow_one_lane_down_and_no_other() -> None:
    async def run() -> None:
        clock = Clock()
        queue = LoginQueue(clock)
        await wrong(queue, FAILURES_FREE)
        for delay_s in (1, 2, 4, 8, 16, 32, 32):
            with pytest.raises(SlowDown) as slowed:
                await guess(queue)
            assert slowed.value.retry_after_s == delay_s <= DELAY_S_MAX
            await guess(queue, "other")
            queue.succeeded("other", "192.0.2.1")
            async with queue.turn("u", "192.0.2.9"):
                pass
            clock.now_s += delay_s
            await guess(queue)
        clock.now_s += FORGET_S + 1
        await wrong(queue, FAILURES_FREE)

    asyncio.run(run())


def test_the_right_password_clears_the_lane() -> None:
    async def run() -> None:
        queue = LoginQueue(Clock())
        await wrong(queue, FAILURES_FREE - 1)
        queue.succeeded("u", "192.0.2.1")
        await wrong(queue, FAILURES_FREE)

    asyncio.run(run())


def test_one_client_of_ipv6_has_a_whole_network() -> None:
    async def run() -> None:
        queue = LoginQueue(Clock())
        for host in range(FAILURES_FREE):
            await guess(queue, address=f"2001:db8::{host}")
        with pytest.raises(SlowDown):
            await guess(queue, address="2001:db8::beef")
        await guess(queue, address="2001:db8:0:1::1")

    asyncio.run(run())


def test_attempts_that_run_count_as_wrong() -> None:
    """Failing schedule otherwise: as many guesses as there are slots, whatever the lane's delay."""

    async def run() -> None:
        clock = Clock()
        queue = LoginQueue(clock)
        await wrong(queue, FAILURES_FREE)
        clock.now_s += 1
        async with queue.turn("u", "192.0.2.1"):
            with pytest.raises(SlowDown):
                await guess(queue)

    asyncio.run(run())


def test_slots_go_round_the_lanes() -> None:
    async def run() -> None:
        queue, order, flood = LoginQueue(Clock()), list[str](), list[asyncio.Task[None]]()

        async def attempt(user: str, address: str) -> None:
            async with queue.turn(user, address):
                order.append(user)

        async with AsyncExitStack() as held:
            for number in range(HASHING_MAX):
                await held.enter_async_context(queue.turn(f"held{number}", "x"))
            for _ in range(LANE_WAITING_MAX):
                flood.append(asyncio.create_task(attempt("flood", "a")))
                await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await attempt("flood", "a")
            flood.append(asyncio.create_task(attempt("honest", "a")))
            await asyncio.sleep(0)
        await asyncio.gather(*flood)
        assert order.index("honest") <= 1

    asyncio.run(run())


def test_a_waiting_attempt_that_is_given_up_takes_no_slot() -> None:
    async def run() -> None:
        queue = LoginQueue(Clock())
        async with AsyncExitStack() as held:
            for number in range(HASHING_MAX):
                await held.enter_async_context(queue.turn(f"held{number}", "x"))
            waiting = asyncio.create_task(guess(queue))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with AsyncExitStack() as held:  # all slots are there again
            for number in range(HASHING_MAX):
                await held.enter_async_context(queue.turn(f"more{number}", "x"))

    asyncio.run(run())


def test_a_user_who_is_attacked_from_everywhere_can_still_log_in_from_home() -> None:
    async def run() -> None:
        queue = LoginQueue(Clock())
        async with queue.turn("u", "home"):
            queue.succeeded("u", "home")
        for number in range(USER_FAILURES_MAX):
            await guess(queue, address=f"bot{number}")
        await guess(queue, address="a new bot")
        with pytest.raises(SlowDown):
            await guess(queue, address="a new bot")
        await wrong(queue, FAILURES_FREE - 1, address="home")
        async with queue.turn("u", "home"):
            pass

    asyncio.run(run())


def test_lanes_and_lines_are_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        monkeypatch.setattr(login_queue, "LANES_MAX", 100)
        clock = Clock()
        queue = LoginQueue(clock)
        with caplog.at_level(logging.WARNING, "http_api.login"):
            for number in range(300):
                await guess(queue, f"u{number}")
            shown = len(caplog.records)
            clock.now_s += 61
            await guess(queue, "one more")
        assert len(queue._lanes) <= 100 and len(queue._user_failures) <= 100
        assert shown == login_queue.LINES_PER_MINUTE
        assert "270 more" in caplog.records[shown].getMessage()
        assert "'one more' from 192.0.2.1" in caplog.records[-1].getMessage()

    assert LANES_MAX >= 1000
    asyncio.run(run())


def test_eighty_connections_that_guess_do_not_keep_others_out(tmp_path: Path) -> None:
    """Three people with the right passwords, from the same address as the flood."""

    async def test(on: Guarded) -> None:
        people = [f"p{number}" for number in range(3)]
        for name in people:
            await on.ok("auth/user/add", on.root, name=name, password=f"{name}'s")
        stop = asyncio.Event()

        async def flood(name: str) -> None:
            async with connect(on.node.address) as connection:
                body = b'{"user":"%s","password":"x"}' % name.encode()
                while not stop.is_set():
                    reply = await connection.call("POST", "/v1/auth/login", None, body)
                    assert reply.status in (401, 429, 503)
                    if reply.status != 401:
                        await asyncio.sleep(0.2)

        def names() -> list[str]:
            return ["root", "u", *(f"nobody{number}" for number in range(2))]

        async def log_in(name: str) -> int:
            async with connect(on.node.address) as connection:
                body = b'{"user":"%s","password":"%s\'s"}' % (name.encode(), name.encode())
                return (await connection.call("POST", "/v1/auth/login", None, body)).status

        floods = [asyncio.create_task(flood(names()[number % 4])) for number in range(80)]
        try:
            await until(lambda: on.node.http._access._queue._waiting > 8)
            assert await asyncio.gather(*map(log_in, people)) == [200] * 3
        finally:
            stop.set()
            await asyncio.gather(*floods)

    guarded(tmp_path, test)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.001)


def test_both_apis_tell_addresses_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Failing schedule otherwise: whoever guesses by one API slows down all who log in by it."""

    async def test(on: Guarded) -> None:
        calls = (
            ("/v1/auth/login", b'{"user":"u","password":"x"}'),
            ("/v3/auth/authenticate", b'{"name":"u","password":"x"}'),
        )
        for path, body in calls:
            await on.node.connection.call("POST", path, None, body)
        await on.native("GET", "/v1/kv/a", "Basic dTp4")
        told = [r.getMessage() for r in caplog.records if r.name == "http_api.login"]
        assert told == ["wrong password for user 'u' from 127.0.0.1"] * 3

    caplog.set_level(logging.WARNING, "http_api.login")
    guarded(tmp_path, test)
