"""A node that is frozen, or cut off, holds up nobody who can reach another one."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from kvstore.client import Client, LeaseLost
from tests.support.etcd_node import b64
from tests.support.real_cluster import HOST, Answer, Cluster, eventually, running_cluster

pytestmark = pytest.mark.integration

ELSEWHERE_S = 2.0
"""The aim: what goes on at another node does so within this."""
SLACK_S = 2.0
"""For machines that are busy with other tests."""


@pytest.fixture(scope="module")
def proxied() -> Iterator[Cluster]:
    with running_cluster(proxied=True) as made:
        yield made


@pytest.fixture
def there(proxied: Cluster) -> Cluster:
    """All links whole, all nodes ready."""
    proxied.heal()
    proxied.wait_ready()
    return proxied


def endpoints(cluster: Cluster, first: int) -> list[str]:
    ordered = sorted(cluster.numbers, key=lambda number: number != first)
    return [f"http://{HOST}:{cluster.nodes[number].client_port}" for number in ordered]


def test_a_frozen_first_endpoint(there: Cluster) -> None:
    """A call, a watch that had begun there, and a lock."""
    victim = there.followers()[0]

    async def body() -> None:
        async with (
            Client(endpoints(there, victim)) as client,
            Client(endpoints(there, victim)) as other,
            client.watch("frozen") as watch,
        ):
            next_event = asyncio.ensure_future(anext(watch))
            with there.frozen(victim):
                begun_s = time.monotonic()
                await other.put("frozen", "v")
                put_s = time.monotonic() - begun_s
                assert (await next_event).value == b"v"
                watch_s = time.monotonic() - begun_s
                begun_s = time.monotonic()
                async with Client(endpoints(there, victim)) as third, third.lock("frozen"):
                    lock_s = time.monotonic() - begun_s
        seconds = {"put": put_s, "watch": watch_s, "lock": lock_s}
        print("seconds:", seconds)
        assert max(seconds.values()) < ELSEWHERE_S + SLACK_S, seconds

    asyncio.run(asyncio.wait_for(body(), 60))


def test_a_watch_leaves_a_node_that_is_cut_off(there: Cluster) -> None:
    victim, other = there.followers()[0], there.leader()

    async def body() -> None:
        async with Client(endpoints(there, victim)) as client, client.watch("cut") as watch:
            there.isolate(victim, silent=True)
            begun_s = time.monotonic()
            there.must_put(other, "cut", b"v")
            assert (await anext(watch)).value == b"v"
            print("seconds:", time.monotonic() - begun_s)
            assert time.monotonic() - begun_s < 2 * (ELSEWHERE_S + SLACK_S)

    asyncio.run(asyncio.wait_for(body(), 60))


def etcd(cluster: Cluster, number: int, path: str, timeout_s: float = 30, **fields: str) -> Answer:
    body = json.dumps(fields).encode()
    return cluster.call(number, "POST", f"/v3/{path}", body, timeout_s=timeout_s)


def test_who_waits_for_a_lock_at_a_node_that_is_cut_off_blocks_nobody(there: Cluster) -> None:
    """Its call ends with a reason; nobody keeps its lease; whoever is behind it has the lock."""
    victim, other = there.followers()[0], there.leader()
    for lease, ttl_s in (("21", "60"), ("22", "4"), ("23", "60")):
        assert etcd(there, other, "lease/grant", ID=lease, TTL=ttl_s).status == 200
    name = b64(b"blocked")
    assert etcd(there, other, "lock/lock", name=name, lease="21").status == 200
    answers: dict[int, Answer] = {}

    def wait(number: int, lease: str) -> None:
        answers[number] = etcd(there, number, "lock/lock", name=name, lease=lease)

    threads = []
    for number, lease in ((victim, "22"), (other, "23")):
        threads.append(threading.Thread(target=wait, args=(number, lease), daemon=True))
        threads[-1].start()
        # Where it waits: the others may have its key before, and a request that is cut off then
        # ends with a time-out, because nobody there can know whether it has a place.
        key = f"blocked%2F{int(lease):x}?consistency=serializable"
        eventually(lambda at=number, key=key: there.get(at, key).status == 200, key)
    there.isolate(victim, silent=True)
    assert etcd(there, other, "lock/unlock", key=b64(b"blocked/15")).status == 200
    for thread in threads:
        thread.join(30)
    assert answers[other].status == 200
    refused = json.loads(answers[victim].body)
    assert (refused["code"], refused["message"]) == (14, "etcdserver: no leader")


def test_a_waiter_of_the_client_whose_key_is_deleted_hears_it(there: Cluster) -> None:
    """The lease goes on: nothing but the key tells."""

    async def body() -> None:
        async with Client(endpoints(there, 1)) as client, client.lock("gone") as lock:
            waiting = asyncio.create_task(client.lock("gone", ttl_s=30).__aenter__())
            while len(queue := [e.key async for e in client.list(prefix="gone/")]) < 2:
                await asyncio.sleep(0.02)
            await client.delete(next(key for key in queue if key != lock.key))
            with pytest.raises(LeaseLost):
                await asyncio.wait_for(waiting, 5)

    asyncio.run(asyncio.wait_for(body(), 60))


@pytest.mark.proof
def test_candidates_too_leave_a_node_that_is_cut_off(there: Cluster) -> None:
    """With its first endpoint cut off, a candidate waits on at another one, and wins there."""
    victim, other = there.followers()[0], there.leader()

    async def body() -> None:
        async with (
            Client(endpoints(there, other)) as holder,
            Client(endpoints(there, victim)) as waiter,
        ):
            async with holder.elect("both", "first", ttl_s=20):
                waiting = asyncio.create_task(waiter.elect("both", "second", ttl_s=20).__aenter__())
                while len([e async for e in holder.list(prefix="both/")]) < 2:
                    await asyncio.sleep(0.02)
                there.isolate(victim, silent=True)
                await asyncio.sleep(0.5)
            leadership = await asyncio.wait_for(waiting, 15)
            with suppress(LeaseLost):
                await leadership.__aexit__(None, None, None)

    asyncio.run(asyncio.wait_for(body(), 60))
