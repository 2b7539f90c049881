"""The client's locks and elections beside other keys, and leases that counting must not drop."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kvstore.client import Client, LeaseNotFound, NotAcquired, put
from kvstore.client import queues as client_queues
from tests.support.etcd_node import EtcdNode, on_node


def with_client(path: Path, test: Callable[[EtcdNode, Client], Awaitable[None]]) -> None:
    async def run(node: EtcdNode) -> None:
        url = f"http://{node.address[0]}:{node.address[1]}"
        async with asyncio.timeout(60), Client(url) as client:
            await test(node, client)

    on_node(path, run)


def test_counting_keeps_the_lease(tmp_path: Path) -> None:
    async def test(node: EtcdNode, client: Client) -> None:
        lease = await client.lease(60)
        await client.put("n", "4", lease=lease.id)
        assert await asyncio.gather(*(client.increment("n") for _ in range(3)))
        entry = await client.get("n")
        assert entry is not None and (entry.value, entry.lease) == (b"7", lease.id)
        await client.increment("plain")
        plain = await client.get("plain")
        assert plain is not None and plain.lease == 0
        await lease.revoke()
        assert await client.get("n") is None
        assert await client.increment("n") == 1

    with_client(tmp_path, test)


def test_keys_below_a_name_hold_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_queues, "_AT_ONCE", 2)  # so that several answers are needed

    async def test(node: EtcdNode, client: Client) -> None:
        other = await client.lease(60)
        foreign = [put(f"jobs/{name}", b"") for name in ("1", "2", "report", "0a", "3/5")]
        foreign += [put(f"jobs/{name}", b"", lease=other.id) for name in ("4/5", "x", "5/b/1")]
        await client.txn(then=foreign[:5])
        for each in foreign[5:]:
            await client.txn(then=[each])
        async with client.elect("jobs", "me", wait_s=5):
            leader = await client.leader("jobs")
            assert leader is not None and leader.value == b"me"
            async with client.elect("jobs/inner", "other", wait_s=5):
                pass
            with pytest.raises(NotAcquired):
                async with client.lock("jobs", wait_s=0.2):
                    pass
        assert await client.leader("jobs") is None

    with_client(tmp_path, test)


def test_a_place_overwritten_without_its_lease_holds_while_the_lease_lasts(
    tmp_path: Path,
) -> None:
    async def test(node: EtcdNode, client: Client) -> None:
        async with client.elect("jobs", "me") as leading:
            await client.put(leading.key, "by hand")
            leader = await client.leader("jobs")
            assert leader is not None and leader.value == b"by hand"
            waiting = asyncio.create_task(client.lock("jobs").__aenter__())
            with pytest.raises(NotAcquired):
                async with client.lock("jobs", wait_s=0.2):
                    pass
            lease = leading.lease_id
        with pytest.raises(LeaseNotFound):
            await client.lease_status(lease)
        lock = await waiting
        await lock.__aexit__(None, None, None)

    with_client(tmp_path, test)
