"""Leases against scripted nodes: what is sent, when a lease is lost, and what that ends."""

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web

from kvstore.client import BlockingClient, Client, LeaseLost
from kvstore.client.leasing import HeldBlock, Lease
from kvstore.errors import InvalidArgument, LeaseExists, LeaseNotFound
from tests.support.flaky_node import FlakyNode, Seen, Step, answers, problem

not_found = problem(404, "lease-not-found")
exists = problem(409, "lease-exists")
revoked = answers({"revision": 4, "deleted": 0})


class LeaseNode(FlakyNode):
    """Grants every lease; keep-alives are answered as `keep_alive` says."""

    def __init__(self, keep_alive: Step | None = None, ttl_s: int = 2) -> None:
        super().__init__(answers({"id": "5", "ttl_s": ttl_s}))
        self._granted = self._script[0]
        self._keep_alive = keep_alive or self._granted

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/keep-alive"):
            self._script = [self._keep_alive]
        elif request.method == "DELETE":
            self._script = [revoked]
        else:
            self._script = [self._granted]
        return await super()._handle(request)


def run(node: FlakyNode, body: Any, **settings: Any) -> list[Seen]:
    async def main() -> None:
        async with asyncio.timeout(20), node, Client(node.url, **settings) as client:
            await body(client)

    asyncio.run(main())
    return node.seen


def test_a_grant_names_the_lease_and_is_the_same_on_every_attempt() -> None:
    async def body(client: Client) -> None:
        lease = client.lease(60)
        with pytest.raises(RuntimeError, match="not granted"):
            _ = lease.id
        assert (await lease) is lease and (await lease).id == 5 and lease.ttl_s == 60

    first, second = run(FlakyNode("drop", answers({"id": "5", "ttl_s": 60}, 201)), body)
    assert first.body == second.body and 0 < int(json.loads(first.body)["id"]) < 1 << 63
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_a_lease_that_an_earlier_attempt_granted_is_ours() -> None:
    async def body(client: Client) -> None:
        assert (await client.lease(60)).ttl_s == 60
        with pytest.raises(LeaseExists):
            await client.lease(60, lease_id=7)

    kept = answers({"id": "5", "ttl_s": 60})
    seen = run(FlakyNode(exists, kept, exists), body)
    assert seen[1].path.endswith(f"/{json.loads(seen[0].body)['id']}/keep-alive")


def test_what_the_calls_send() -> None:
    async def body(client: Client) -> None:
        status = await client.lease_status(5)
        assert status.left_s == 3.5 and status.keys == (b"a", b"\xff")
        assert (await client.keep_alive(5)).ttl_s == 60
        assert (await client.revoke(5)).deleted == 2
        with pytest.raises(LeaseNotFound):
            await client.keep_alive(5)
        assert [lease.id for lease in await client.leases()] == [7, 8]
        with pytest.raises(InvalidArgument):
            await client.lease(0)

    look = {"id": "5", "ttl_s": 60, "left_s": 3.5, "keys": [{"key": "a"}, {"key_base64": "/w=="}]}
    seen = run(
        FlakyNode(
            answers(look),
            answers({"id": "5", "ttl_s": 60}),
            answers({"revision": 4, "deleted": 2}),
            not_found,
            answers({"leases": [{"id": "7", "ttl_s": 60}], "cursor": "7"}),
            answers({"leases": [{"id": "8", "ttl_s": 60}], "cursor": None}),
        ),
        body,
    )
    assert [(each.method, each.path) for each in seen[:3]] == [
        ("GET", "/v1/leases/5"),
        ("POST", "/v1/leases/5/keep-alive"),
        ("DELETE", "/v1/leases/5"),
    ]
    assert "cursor=7" in seen[5].query


def test_a_block_keeps_its_lease_alive_and_revokes_it() -> None:
    async def body(client: Client) -> None:
        async with client.lease(2) as lease:
            async with asyncio.timeout(60):
                while len(node.seen) < 5:  # four renewals: longer than its time
                    await asyncio.sleep(0.05)
            assert not lease.lost.is_set()
            lease.check()

    node = LeaseNode()
    seen = run(node, body)
    assert [each.method for each in seen][-1] == "DELETE"


@pytest.mark.parametrize(
    ("step", "earliest_s", "latest_s"),
    [(not_found, 0.3, 1.3), ("hang", 1.3, 1.99), (problem(503, "no-quorum"), 1.3, 1.99)],
)
def test_a_lease_is_lost_before_the_store_ends_it(
    step: Step, earliest_s: float, latest_s: float
) -> None:
    async def body(client: Client) -> None:
        began = time.monotonic()
        async with client.lease(2) as lease:
            await lease.lost.wait()
            assert earliest_s < time.monotonic() - began < latest_s
            with pytest.raises(LeaseLost):
                lease.check()

    run(LeaseNode(step), body)


def test_a_margin_makes_it_lost_earlier() -> None:
    async def body(client: Client) -> None:
        began = time.monotonic()
        async with client.lease(2, margin_s=60) as lease:  # at most 40 % of its time
            await lease.lost.wait()
            assert 0.9 < time.monotonic() - began < 1.99

    run(LeaseNode("hang"), body)


async def held(lease: Lease, block: HeldBlock, body: Any) -> None:
    """What a lock does around its body."""
    block.enter(lease)
    try:
        await body()
    except BaseException as error:
        block.leave(error)
        raise
    block.leave(None)


def granted(client: Client) -> Lease:
    lease = client.lease(2)
    lease._id = 5
    return lease


def lose(lease: Lease) -> None:
    lease.lost.set()
    for call in list(lease._on_lost):
        call()


def test_a_loss_cancels_the_block_and_says_why() -> None:
    async def main() -> None:
        async with Client("localhost:1") as client:
            lease = granted(client)
            task = asyncio.create_task(held(lease, HeldBlock(), lambda: asyncio.sleep(20)))
            await asyncio.sleep(0)
            lose(lease)
            await asyncio.wait([task], timeout=5)
            assert isinstance(task.exception(), LeaseLost)
            assert task.cancelling() == 0

    asyncio.run(main())


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def main() -> None:
        async with Client("localhost:1") as client:
            lease = granted(client)
            task = asyncio.create_task(held(lease, HeldBlock(), lambda: asyncio.sleep(20)))
            await asyncio.sleep(0)
            lose(lease)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_a_block_that_ignores_the_loss_does_not_end_well() -> None:
    async def body() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(20)

    async def main() -> None:
        async with Client("localhost:1") as client:
            lease = granted(client)
            task = asyncio.create_task(held(lease, HeldBlock(), body))
            await asyncio.sleep(0)
            lose(lease)
            with pytest.raises(LeaseLost):
                await task

    asyncio.run(main())


def test_the_blocking_lease_is_kept_by_the_other_thread() -> None:
    async def main() -> None:
        async with asyncio.timeout(20), LeaseNode() as node:

            def calls() -> None:
                with BlockingClient(node.url) as client, client.lease(2) as lease:
                    assert lease.id == 5 and lease.ttl_s == 2
                    assert not lease.lost.wait(2.5)
                    assert lease.keep_alive().ttl_s == 2
                with BlockingClient(node.url) as client:
                    node._keep_alive = not_found
                    with client.lease(2) as lease:
                        assert lease.lost.wait(2)
                        with pytest.raises(LeaseLost):
                            lease.check()

            await asyncio.to_thread(calls)

    asyncio.run(main())
