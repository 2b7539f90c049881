"""Fail-over, retries and deadlines of the client against real, misbehaving endpoints."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from kvstore.client import Client
from kvstore.errors import (
    ConditionFailed,
    IdempotencyMismatch,
    InvalidArgument,
    KvError,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    RevisionCompacted,
    RevisionInFuture,
    TooLarge,
)
from tests.support.flaky_node import FlakyNode, Step, no_quorum, problem, unknown, value, written


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


def test_writes_have_keys_of_their_own() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        await client.put("k", "v")
        await client.put("k", "v")
        assert len(set(idempotency_keys(*nodes))) == 2

    with_nodes([[written]], body)


def test_it_stays_with_the_endpoint_that_answers() -> None:
    async def body(nodes: list[FlakyNode], client: Client) -> None:
        for _ in range(3):
            await client.put("k", "v")
        assert [len(node.seen) for node in nodes] == [1, 3]

    with_nodes([[no_quorum], [written]], body)


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
