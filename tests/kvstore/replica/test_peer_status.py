"""What a node says of the peers that are not there: in `status`, its reason and its metrics."""

import asyncio
from dataclasses import replace
from pathlib import Path

from prometheus_client import generate_latest

from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from kvstore.replica.status import ReplicaStatus
from tests.support.replicas import configs_of, run, settled


async def told(replica: Replica, *words: str) -> ReplicaStatus:
    """The status once its reason holds these words; who calls has a deadline."""
    while not all(word in (found := replica.status()).reason for word in words):
        await asyncio.sleep(0.01)
    return found


def test_while_forming_it_says_who_is_missing_and_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        configs = configs_of(3, tmp_path)
        unresolvable = {**configs[0].members, 3: ("no-such-host.invalid", 2380)}
        one = await open_replica(replace(configs[0], members=unresolvable))
        two = await open_replica(replace(configs[1], phase2_quorum=3))
        try:
            found = await told(one, "node 2 (refuses", "configured", "node 3 (never", "resolve")
            assert "waiting for node 2 (" in found.reason and "node 1" not in found.reason[:60]
            await two.stop()
            two = await open_replica(replace(configs[1], data_dir=tmp_path / "again"))
            await told(one, "node 2 (met", "node 3 (never")
        finally:
            await one.stop()
            await two.stop()

    run(scenario())


def test_a_dead_follower_is_a_word_and_a_gauge(tmp_path: Path) -> None:
    async def scenario() -> None:
        replicas = [await open_replica(config) for config in configs_of(3, tmp_path)]
        try:
            await settled(replicas)
            one = replicas[0]
            member = one.status().members[2]
            assert member.connected and member.link == "up"
            assert member.silent_s is not None and member.silent_s < 2.0
            assert 'kvstore_peer_up{peer="3"} 1.0' in generate_latest(one.metrics.registry).decode()
            await replicas.pop().stop()
            while one.status().members[2].connected:
                await asyncio.sleep(0.01)
            assert one.status().members[2].link.startswith("down for ")
            exposed = generate_latest(one.metrics.registry).decode()
            assert 'kvstore_peer_up{peer="3"} 0.0' in exposed
            assert 'kvstore_peer_silent_seconds{peer="3"}' in exposed
            assert 'peer="1"' not in exposed, "it is no peer of itself"
        finally:
            for replica in replicas:
                await replica.stop()

    run(scenario())
