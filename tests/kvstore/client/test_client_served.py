"""The client's errors as a served node makes them: who may not, and what fields they carry."""

from pathlib import Path

import pytest

from kvstore.client import (
    Client,
    LeaseExists,
    LeaseNotFound,
    PermissionDenied,
    Reason,
    TooManyOperations,
    Unauthenticated,
    put,
)
from tests.support.etcd_node import EtcdNode, on_node
from tests.support.guarded_node import Guarded, guarded

LEASE = (1 << 62) + 1


def address(node: EtcdNode) -> str:
    host, port = node.address
    return f"http://{host}:{port}"


def test_leases_and_limits_are_named(tmp_path: Path) -> None:
    async def body(node: EtcdNode) -> None:
        async with Client(address(node)) as client:
            with pytest.raises(LeaseNotFound) as missing:
                await client.keep_alive(LEASE)
            assert missing.value.lease == LEASE
            await client.lease(60, lease_id=LEASE)
            with pytest.raises(LeaseExists) as taken:
                await client.lease(60, lease_id=LEASE)
            assert taken.value.lease == LEASE
            with pytest.raises(TooManyOperations) as many:
                await client.txn(then=[put(f"k{n}", "") for n in range(2000)])
            assert 0 < many.value.maximum < 2000

    on_node(tmp_path, body)


def test_nobody_and_somebody_without_the_right(tmp_path: Path) -> None:
    async def body(node: Guarded) -> None:
        async with Client(address(node.node)) as nobody:
            with pytest.raises(Unauthenticated) as unknown:
                await nobody.put("a", "2")
            assert unknown.value.reason is Reason.NO_USER
        async with Client(address(node.node), user="u", password="u's") as somebody:
            assert (await somebody.put("a", "2")).version == 2
            with pytest.raises(PermissionDenied) as denied:
                await somebody.put("z", "2")
            assert denied.value.reason is Reason.DENIED
        async with Client(address(node.node), user="u", password="wrong") as pretender:
            with pytest.raises(Unauthenticated) as wrong:
                await pretender.get("a")
            assert wrong.value.reason is Reason.WRONG_PASSWORD

    guarded(tmp_path, body)
