"""Three real replicas keep leases alive, across leaders and restarts, and end them in time."""

import asyncio
import time
from pathlib import Path

from kvstore.commands.binary import decode_batch
from kvstore.commands.commands import Grant, Put, Revoke
from kvstore.commands.results import Granted, Written
from kvstore.config import Config
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from tests.support.replicas import configs_of, run, settled

TTL_S = 2


def leader_of(replicas: list[Replica]) -> Replica:
    return next(r for r in replicas if r.node.proposer.leading)


async def gone(replica: Replica, key: bytes) -> float:
    """When `replica` has applied the end of `key`."""
    while replica.state.get(key) is not None:
        await asyncio.sleep(0.005)
    return time.monotonic()


def test_kept_alive_across_a_leader_change_then_ended(tmp_path: Path) -> None:
    async def test() -> None:
        configs = configs_of(3, tmp_path)
        replicas = [await open_replica(config) for config in configs]
        await settled(replicas)
        asked_s = time.monotonic()
        assert await replicas[0].execute(Grant(7, TTL_S), 5) == Granted(1, 7, TTL_S)
        assert isinstance(await replicas[1].execute(Put(b"k", b"v", None, 7), 5), Written)
        assert isinstance(
            await replicas[2].execute(Put(b"other", b"v", None, 9, TTL_S), 5), Written
        )
        stopped = False
        while time.monotonic() - asked_s < 2 * TTL_S:
            renewed_s = time.monotonic()
            kept = await asyncio.gather(*(r.leasing.renew(7, 5) for r in replicas))
            assert all(lease is not None and lease.ttl_s == TTL_S for lease in kept)
            assert all(lease is not None and lease.left_s > TTL_S - 1 for lease in kept)
            if not stopped and time.monotonic() - asked_s > TTL_S:
                stopped = True
                old = leader_of(replicas)
                await old.stop()
                replicas = [r for r in replicas if r is not old]
            await asyncio.sleep(0.1)
        new = leader_of(replicas)
        assert new.state.leader_ballot == new.node.proposer.ballot
        ended_s = await asyncio.gather(*(gone(r, b"k") for r in replicas))
        assert renewed_s + TTL_S <= min(ended_s) <= max(ended_s) <= renewed_s + TTL_S + 1
        for replica in replicas:
            assert await replica.leasing.renew(7, 5) is None
            assert await replica.leasing.look(9, 5) is None
            assert replica.state.get(b"other") is None
        await asyncio.gather(*(r.stop() for r in replicas))

    run(test(), 40)


def test_a_lease_survives_a_restart_of_all(tmp_path: Path) -> None:
    async def test() -> None:
        configs = configs_of(3, tmp_path)
        replicas = [await open_replica(config) for config in configs]
        await settled(replicas)
        await replicas[0].execute(Put(b"k", b"v", None, 7, TTL_S), 5)
        await replicas[0].execute(Put(b"l", b"v", None, 8, 600), 5)
        await asyncio.gather(*(r.stop() for r in replicas))
        await asyncio.sleep(TTL_S / 2)
        began_s = time.monotonic()
        replicas = [await open_replica(config) for config in configs]
        await settled(replicas)
        ended_s = await asyncio.gather(*(gone(r, b"k") for r in replicas))
        assert began_s + TTL_S <= min(ended_s)
        found = await replicas[0].leasing.look(8, 5)
        assert found is not None and found.ttl_s == 600 and 590 < found.left_s <= 600
        assert replicas[0].state.leases.keys(8) == [b"l"]
        await replicas[1].execute(Revoke(8), 5)
        await settled(replicas)
        assert all(list(r.state.leases.all()) == [] for r in replicas)
        await asyncio.gather(*(r.stop() for r in replicas))

    run(test(), 40)


def test_every_batch_bears_its_leaders_ballot(tmp_path: Path) -> None:
    async def test() -> None:
        (config, _, _) = configs_of(3, tmp_path)
        alone = Config(
            node_id=1,
            members={1: config.members[1]},
            listen_peer=config.members[1],
            data_dir=tmp_path / "alone",
        )
        replica = await open_replica(alone)
        await settled([replica])
        await replica.execute(Put(b"k", b"v"), 5)
        values = [entry.value for entry in replica.node.acceptor.log.values()]
        assert [decode_batch(v).ballot for v in values if v] == [replica.node.proposer.ballot]
        await replica.stop()

    run(test())
