"""Fail-over, retries and deadlines of the client against real, misbehaving endpoints."""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from kvstore.client import Client, racing
from kvstore.client.racing import Race
from kvstore.client.verdict import HttpReply
from kvstore.errors import (
    ConditionFailed,
    IdempotencyMismatch,
    InvalidArgument,
    KvError,
    NoQuorum,
    OutcomeUnknown,
    OutOfSpace,
    Overloaded,
    RevisionCompacted,
    RevisionInFuture,
    TooLarge,
)
from tests.support.flaky_node import FlakyNode, Step, no_quorum, problem, unknown, value, written


@pytest.fixture
def no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attempt gets company because this machine is slow: what is asked here is counted."""
    monkeypatch.setattr(racing, "HEDGE_S", math.inf)


def with_nodes(
    scripts: list[list[Step]],
    body: Callable[[list[FlakyNode], Client], Awaitable[None]],
    **settings: float,
) -> None:
    """Run `body` with one node per script and a client of all."""

    async def run() -> None:
        async with asyncio.timeout(20):
            nodes = [FlakyNode(*script) for script in scripts]
            for node in nodes:
                await node.__aenter__()
            try:
                async with Client([n.url for n in nodes], **settings) as client:
                    await body(nodes, client)
            finally:
                for node in nodes:
                    await node.__aexit__(None, None, None)

    asyncio.run(run())


def idempotency_keys(*nodes: FlakyNode) -> list[str]:
    return [seen.headers["Idempotency-Key"] for node in nodes for seen in node.seen]


@pytest.mark.parametrize(
    "fault", [no_quorum, unknown, "drop", "hang", problem(502, "x", "unknown")]
)
def test_a_write_fails_over_with_the_same_idempotency_key(fault: Step) -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        assert (await client.put("k", "v")).revision == 8
        assert len(nodes[0].seen) >= 1 and len(nodes[1].seen) == 1
        assert len(set(idempotency_keys(*nodes))) == 1
        assert nodes[1].seen[0].body == b"v"

    with_nodes([[fault], [written]], body, attempt_timeout_s=0.3)


def test_no_room_anywhere_is_told_at_once(no_company: None) -> None:
    """Where one node has none another may; where none has, somebody must make room first."""
    full = problem(507, "out-of-space")

    async def body(nodes: list[FlakyNode], client: Client) -> None:
        assert (await client.put("k", "v")).revision == 8
        with pytest.raises(OutOfSpace):
            await client.put("k", "v")
        assert [len(node.seen) for node in nodes] == [2, 2]

    with_nodes([[full, full], [written, full]], body, timeout_s=600.0)


def test_writes_have_keys_of_their_own() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        await client.put("k", "v")
        await client.put("k", "v")
        assert len(set(idempotency_keys(*nodes))) == 2

    with_nodes([[written]], body)


@pytest.mark.usefixtures("no_company")
def test_it_stays_with_the_endpoint_that_answers() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        for _ in range(3):
            await client.put("k", "v")
        assert [len(node.seen) for node in nodes] == [1, 3]

    with_nodes([[no_quorum], [written]], body)


def test_a_loop_that_is_late_for_the_last_attempt_gives_up() -> None:
    def hold_the_loop(_: object) -> None:
        asyncio.get_running_loop().call_later(0.05, time.sleep, 0.4)

    async def attempt(endpoint: str, limit_s: float) -> HttpReply:
        raise NoQuorum("nobody leads")

    async def run() -> None:
        race = Race(
            ("http://127.0.0.1:1",),
            0,
            attempt,
            pause_s=lambda failures, error: 0.1,
            failed=hold_the_loop,
            check=None,
            writes=True,
            hedged=True,
            attempt_s=1.0,
            deadline_s=asyncio.get_running_loop().time() + 0.4,
        )
        async with asyncio.timeout(5):
            with pytest.raises(NoQuorum, match="nobody leads"):
                await race.run()

    asyncio.run(run())


def test_an_unreachable_endpoint_is_skipped() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"

        async def run() -> None:
            async with FlakyNode(value(b"v")) as node, Client([dead, node.url]) as client:
                entry = await client.get("k")
                assert entry is not None and entry.value == b"v"
            async with Client(dead, timeout_s=0.2) as client:
                with pytest.raises(NoQuorum, match="cannot reach"):
                    await client.put("k", "v")

        asyncio.run(run())


@pytest.mark.usefixtures("no_company")
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (problem(400, "invalid-argument", parameter="limit"), InvalidArgument),
        (problem(412, "condition-failed", mod_revision=9), ConditionFailed),
        (problem(413, "too-large"), TooLarge),
        (problem(410, "revision-compacted", compacted_revision=4), RevisionCompacted),
        (problem(400, "revision-in-future", current_revision=4), RevisionInFuture),
        (problem(422, "idempotency-mismatch"), IdempotencyMismatch),
        (problem(405, "method-not-allowed"), InvalidArgument),
    ],
)
def test_the_callers_fault_is_not_retried(fault: Step, error: type[KvError]) -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(error):
            await client.put("k", "v")
        assert [len(node.seen) for node in nodes] == [1, 0]

    with_nodes([[fault], [written]], body)


def test_a_failed_condition_tells_what_was_found() -> None:
    async def body(_: list[FlakyNode], client: Client) -> None:
        with pytest.raises(ConditionFailed) as caught:
            await client.put("k", "v", if_revision=3)
        assert caught.value.mod_revision == 9

    with_nodes([[problem(412, "condition-failed", mod_revision=9)]], body)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([no_quorum], NoQuorum),
        ([problem(429, "overloaded")], Overloaded),
        ([unknown], OutcomeUnknown),
        (["hang"], OutcomeUnknown),
        ([unknown, no_quorum], OutcomeUnknown),
        (["drop", "drop", no_quorum], OutcomeUnknown),
    ],
)
def test_the_deadline_holds_and_says_what_is_certain(
    script: list[Step], error: type[KvError]
) -> None:
    async def body(_: list[FlakyNode], client: Client) -> None:
        began = time.monotonic()
        with pytest.raises(error):
            await client.put("k", "v")
        assert time.monotonic() - began < 3

    with_nodes([script], body, timeout_s=0.5, attempt_timeout_s=0.2)


def test_a_read_is_never_of_unknown_outcome() -> None:
    async def body(_: list[FlakyNode], client: Client) -> None:
        with pytest.raises(NoQuorum):
            await client.get("k")

    with_nodes([[unknown], ["drop"]], body, timeout_s=0.3)


@pytest.mark.parametrize("write", [True, False])
def test_a_silent_endpoint_gets_company_and_the_first_answer_wins(write: bool) -> None:
    """A frozen node takes requests and never answers them."""

    async def body(nodes: list[FlakyNode], client: Client) -> None:
        begun_s = time.monotonic()
        for _ in range(3):
            if write:
                assert (await client.put("k", "v")).version == 3
            else:
                assert await client.get("k") is not None
        assert time.monotonic() - begun_s < 5.0
        assert len(nodes[0].seen) == 1, "it stays with the endpoint that answered"
        if write:
            assert len(set(idempotency_keys(*nodes))) == 3

    answering = written if write else value(b"v")
    with_nodes([["hang"], [answering]], body, timeout_s=15)


def test_company_fails_and_the_first_may_still_answer() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        done = asyncio.create_task(client.put("k", "v"))
        while not (nodes[1].seen and nodes[2].seen):
            await asyncio.sleep(0.01)
        nodes[0].go_on()
        assert (await done).version == 3
        assert len(set(idempotency_keys(*nodes))) == 1
        assert await client.get("k") is not None  # from the one that answered
        assert len(nodes[0].seen) == 2

    scripts: list[list[Step]] = [["wait", written, value(b"v")], [no_quorum], [no_quorum]]
    with_nodes(scripts, body, timeout_s=15)


def test_what_must_not_arrive_twice_is_asked_of_one_node_at_a_time() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        handing_over = asyncio.create_task(client.hand_over())
        await asyncio.sleep(1.5)
        assert not nodes[1].seen
        handing_over.cancel()

    with_nodes([["hang"], [no_quorum]], body, timeout_s=15, attempt_timeout_s=5)


def test_a_doubtful_write_is_not_called_certainly_unwritten() -> None:
    """One message said both: "nothing was written", and that it may have been applied."""

    detail = "no leader could reach a quorum in time; nothing was written"
    unsent = problem(503, "no-quorum", detail=detail)

    async def body(nodes: list[FlakyNode], client: Client) -> None:
        with pytest.raises(OutcomeUnknown) as raised:
            await client.put("k", "v")
        assert nodes[0].url in str(raised.value)
        assert "nothing was written" not in str(raised.value)
        with pytest.raises(NoQuorum, match="nothing was written"):
            await client.get("k")

    with_nodes([["drop", unsent], [unsent]], body, timeout_s=0.5)


def test_a_call_that_takes_long_says_once_what_it_waits_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as free, caplog.at_level(logging.INFO, "kvstore.client"):
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def body(nodes: list[FlakyNode], reached: Client) -> None:
            await reached.get("k")  # which takes no time, and says nothing
            async with Client([nobody, nodes[0].url], timeout_s=3, attempt_timeout_s=3) as client:
                begun_s = time.monotonic()
                task = asyncio.create_task(client.get("k"))
                while not caplog.messages and not task.done():
                    await asyncio.sleep(0.01)
                assert time.monotonic() - begun_s < 2.5
                with pytest.raises(NoQuorum):
                    await task
            (told,) = caplog.messages
            assert told.startswith("still trying: ")
            assert "refused" in told and f"no answer yet from {nodes[0].url}" in told

        with_nodes([[value(b"v"), "hang"]], body, timeout_s=3)


@pytest.mark.usefixtures("no_company")
def test_overload_is_retried() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        await client.put("k", "v")
        assert [len(node.seen) for node in nodes] == [1, 1]

    with_nodes([[problem(429, "overloaded")], [written]], body)


def test_another_kind_of_server_is_named_as_such() -> None:
    from aiohttp import web

    async def body(_: list[FlakyNode], client: Client) -> None:
        with pytest.raises(InvalidArgument, match="kvstore node"):
            await client.get("k")

    with_nodes([[lambda _: web.Response(status=404, text="nginx")]], body)
