"""A future that tells at once, and is otherwise like any other."""

import asyncio
from typing import Any

import pytest

from kvstore.replica.prompt import PromptFuture
from tests.support.replicas import run

Future = asyncio.Future[int]


def test_a_listener_hears_in_the_same_turn_and_others_in_the_next() -> None:
    async def test() -> None:
        heard: list[str] = []
        future: PromptFuture[int] = PromptFuture(loop=asyncio.get_running_loop())
        future.add_done_callback(lambda _: heard.append("callback"))
        future.tell(lambda done: heard.append(f"told {done.result()}"))
        future.set_result(7)
        assert heard == ["told 7"]
        assert await future == 7
        await asyncio.sleep(0)
        assert heard == ["told 7", "callback"]
        future.tell(lambda done: heard.append(f"late {done.result()}"))
        assert len(heard) == 2
        await asyncio.sleep(0)
        assert heard[2:] == ["late 7"]

    run(test())


def test_an_error_is_told_and_a_cancelled_future_tells_nothing() -> None:
    async def test() -> None:
        heard: list[object] = []
        failed: PromptFuture[int] = PromptFuture(loop=asyncio.get_running_loop())
        failed.tell(lambda done: heard.append(done.exception()))
        error = ValueError("x")
        failed.set_exception(error)
        assert heard == [error]
        cancelled: PromptFuture[int] = PromptFuture(loop=asyncio.get_running_loop())
        cancelled.tell(heard.append)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert heard == [error]

    run(test())


def test_what_a_listener_does_wrong_is_not_the_fault_of_who_answers() -> None:
    async def test() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        future: PromptFuture[int] = PromptFuture(loop=asyncio.get_running_loop())

        def fails(_: Future) -> None:
            raise ZeroDivisionError

        future.tell(fails)
        future.set_result(1)
        assert isinstance(told[0]["exception"], ZeroDivisionError)
        assert await future == 1

    run(test())
