"""The client against three real nodes, one of which is killed while it is being used."""

import asyncio
from typing import Any

import pytest

from kvstore.client import (
    BlockingClient,
    Client,
    DeleteResult,
    LeaseLost,
    NotAcquired,
    PutResult,
    Value,
    absent,
    delete,
    get,
    put,
)
from kvstore.errors import (
    ConditionFailed,
    DuplicateKey,
    KeyNotFound,
    LeaseExists,
    LeaseNotFound,
    RevisionCompacted,
)
from tests.support.real_cluster import Cluster, eventually

pytestmark = pytest.mark.integration


def endpoints(cluster: Cluster, first: int = 1) -> list[str]:
    """All nodes; the client begins with `first`."""
    ordered = sorted(cluster.numbers, key=lambda number: number != first)
    return [f"http://127.0.0.1:{cluster.nodes[number].client_port}" for number in ordered]


def run(cluster: Cluster, body: Any, first: int = 1) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(60),
            Client(endpoints(cluster, first), timeout_s=15, attempt_timeout_s=3) as client,
        ):
            await body(client)

    asyncio.run(main())


def test_transactions_and_batches(cluster: Cluster) -> None:
    async def body(client: Client) -> None:
        await client.put("t/a", "10")
        done = await client.txn(
            Value("t/a") == "10",
            absent("t/b"),
            then=[delete("t/a", previous=True), put("t/b", b"\xff"), get(prefix="t/")],
            otherwise=[get("t/a")],
        )
        gone, written, found = done.results
        assert done and isinstance(gone, DeleteResult) and gone.previous[0].value == b"10"
        assert isinstance(written, PutResult) and written.revision == done.revision
        assert [entry.value for entry in found.items] == [b"\xff"]
        again = await client.txn(absent("t/b"), then=[put("t/b", "")], otherwise=[get("t/b")])
        assert not again and again.results[0].entry.mod_revision == done.revision
        with pytest.raises(DuplicateKey):
            await client.txn(then=[put("t/c", "1"), put("t/c", "2")])
        with pytest.raises(KeyNotFound):
            await client.txn(then=[put("t/absent", None)])
        with pytest.raises(LeaseNotFound):
            await client.put("t/d", "1", lease=12345)
        results = await client.batch(
            [put("t/e", "1", ttl_s=60), get("t/e"), get("t/no"), put("t/e", "", if_absent=True)]
        )
        assert results[0].lease == results[1].entry.lease != 0
        assert results[2].entry is None and isinstance(results[3], ConditionFailed)
        history = [event async for event in client.history("t/a")]
        assert [event.deleted for event in history] == [True, False]

    run(cluster, body)


def test_leases_hold_keys(cluster: Cluster) -> None:
    async def body(client: Client) -> None:
        lease = await client.lease(30)
        await client.put("l/a", "1", lease=lease.id)
        entry = await client.get("l/a")
        assert entry is not None and entry.lease == lease.id
        assert (await lease.status()).keys == (b"l/a",)
        assert lease.id in [each.id for each in await client.leases()]
        with pytest.raises(LeaseExists):
            await client.lease(30, lease_id=lease.id)
        assert (await lease.revoke()).deleted == 1
        assert await client.get("l/a") is None
        with pytest.raises(LeaseNotFound):
            await lease.keep_alive()

    run(cluster, body)


def test_a_watch_misses_nothing_while_its_node_is_killed(cluster: Cluster) -> None:
    victim = cluster.leader()

    async def body(client: Client) -> None:
        async with client.watch(prefix="w/") as watch:
            wanted: list[tuple[int, bytes]] = []

            async def write() -> None:
                for number in range(300):
                    key = b"w/%d" % number
                    wanted.append(((await client.put(key, "v")).revision, key))
                    if number == 100:
                        await asyncio.to_thread(cluster.kill9, victim)

            writing = asyncio.create_task(write())
            found = []
            async for event in watch:
                found.append((event.revision, event.key))
                if event.key == b"w/299":
                    break
            await writing
            assert found == wanted

    run(cluster, body, first=victim)


def test_a_watch_of_compacted_history_says_so(cluster: Cluster) -> None:
    async def body(client: Client) -> None:
        for _ in range(3):
            revision = (await client.put("c", "v")).revision
        await client.compact(revision)
        with pytest.raises(RevisionCompacted) as caught:
            await anext(client.watch("c", from_revision=revision - 1))
        assert caught.value.compacted_revision == revision
        assert (await anext(client.watch("c", from_revision=revision))).revision == revision

    run(cluster, body)


def test_locks_are_exclusive_and_fair_while_a_node_is_killed(cluster: Cluster) -> None:
    victim = cluster.leader()

    async def body(client: Client) -> None:
        asked: list[int] = []
        served: list[int] = []
        tokens: list[int] = []
        inside = 0

        async def hold(number: int) -> None:
            nonlocal inside
            async with client.lock("fair", ttl_s=15) as lock:
                inside += 1
                assert inside == 1
                served.append(number)
                tokens.append(lock.revision)
                if number == 2:
                    await asyncio.to_thread(cluster.kill9, victim)
                assert await client.txn(lock.held, then=[put("guarded", str(number))])
                inside -= 1

        holders = []
        async with client.lock("fair", ttl_s=15) as first:
            for number in range(6):
                holders.append(asyncio.create_task(hold(number)))
                async with asyncio.timeout(60):
                    while len(queue := [e async for e in client.list(prefix="fair/")]) < number + 2:
                        await asyncio.sleep(0.02)
                asked.append(max(entry.create_revision for entry in queue))
            assert not served
            assert (await client.leader("fair")).key == first.key
        await asyncio.gather(*holders)
        assert served == list(range(6)) and tokens == asked == sorted(asked)
        assert await client.leader("fair") is None

    run(cluster, body, first=victim)


def test_a_lock_that_is_not_free_in_time(cluster: Cluster) -> None:
    async def body(client: Client) -> None:
        async with client.lock("busy") as lock:
            for wait_s in (0, 0.2):
                with pytest.raises(NotAcquired, match="busy"):
                    async with client.lock("busy", wait_s=wait_s):
                        pytest.fail("two holders")
            # Those who went leave nothing behind.
            assert [e.key async for e in client.list(prefix="busy/")] == [lock.key]
        async with client.lock("busy", wait_s=5):
            pass

    run(cluster, body)


def test_whoever_loses_the_lease_loses_the_lock(cluster: Cluster) -> None:
    async def body(client: Client) -> None:
        with pytest.raises(LeaseLost):  # noqa: PT012
            async with client.lock("lost", ttl_s=3) as lock:
                held, revoke = lock.held, lock.lease.id
                await client.revoke(revoke)
                await asyncio.sleep(20)
        assert not await client.txn(held, then=[put("guarded", "no")])
        async with client.lock("lost"):
            waiting = asyncio.create_task(client.lock("lost", ttl_s=3).__aenter__())
            async with asyncio.timeout(60):
                while len(queue := [e async for e in client.list(prefix="lost/")]) < 2:
                    await asyncio.sleep(0.02)
            await client.revoke(max(queue, key=lambda entry: entry.create_revision).lease)
            with pytest.raises(LeaseLost):
                await waiting

    run(cluster, body)


def test_a_lock_outlives_the_node_that_it_was_taken_at(cluster: Cluster) -> None:
    async def body(client: Client) -> None:
        async with client.lock("outlives", ttl_s=4) as lock:
            await asyncio.to_thread(cluster.kill9, 1)
            await asyncio.sleep(6)  # longer than its time: it lives by what the others confirm
            assert await client.txn(lock.held, then=[put("guarded", "yes")])

    run(cluster, body, first=1)


def test_elections(cluster: Cluster) -> None:
    async def body(client: Client) -> None:
        seen: list[bytes] = []

        async def observe() -> None:
            async for entry in client.observe("boss"):
                seen.append(entry.value)

        observing = asyncio.create_task(observe())
        async with client.elect("boss", "one") as first:
            second = client.elect("boss", "two")
            standing = asyncio.create_task(second.__aenter__())
            await first.proclaim("one, really")
            assert (await client.leader("boss")).value == b"one, really"
            async with asyncio.timeout(60):
                while b"one, really" not in seen:
                    await asyncio.sleep(0.02)
            await first.resign()
            await standing
            with pytest.raises(LeaseLost):
                await first.proclaim("still me")
        async with asyncio.timeout(60):
            while b"two" not in seen:
                await asyncio.sleep(0.02)
        await second.__aexit__(None, None, None)
        observing.cancel()
        assert seen in ([b"one", b"one, really", b"two"], [b"one, really", b"two"])

    run(cluster, body)


def test_the_blocking_client_does_the_same(cluster: Cluster) -> None:
    with BlockingClient(endpoints(cluster), timeout_s=15, attempt_timeout_s=3) as client:
        with client.watch(prefix="b/") as watch:
            with client.lock("blocking", ttl_s=3) as lock:
                assert client.txn(lock.held, then=[put("b/1", "1"), put("b/2", "2")])
                with pytest.raises(NotAcquired), client.lock("blocking", wait_s=0.1):
                    pytest.fail("two holders")
                lock.check()
            assert [next(watch).key, next(watch).key] == [b"b/1", b"b/2"]
        with pytest.raises(LeaseLost), client.lock("blocking", ttl_s=3) as lock:  # noqa: PT012
            client.revoke(lock.lease_id)
            assert lock.lost.wait(10)
        with client.elect("blocking boss", "me") as leadership:
            leadership.proclaim("I")
            assert next(client.observe("blocking boss")).value == b"I"
        assert [event.value for event in client.history("b/1")] == [b"1"]
        assert client.batch([get("b/1")])[0].entry.value == b"1"
        with client.lease(3) as lease:
            client.put("b/held", "", lease=lease.id)
            eventually(lambda: client.lease_status(lease.id).left_s > 2.9, "it is kept alive")
        assert client.get("b/held") is None
