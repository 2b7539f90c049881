"""Reads and writes that come to a follower in one turn of the loop cost one message each way."""

import asyncio
from collections import Counter
from pathlib import Path

from kvstore.commands.commands import Command, Put
from kvstore.peers.frames import PeerMessage
from kvstore.replica.machine import Machine
from kvstore.replica.open import open_replica
from kvstore.replica.probe import Probe
from paxos.ballot import NodeId
from tests.support.replicas import configs_of, run, settled

MANY = 100


class Sent(Probe):
    """Counts what a replica sends, by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def sent(self, to: NodeId, message: PeerMessage) -> None:
        self.counts[type(message).__name__] += 1


def test_a_follower_asks_once_for_all_of_a_turn(tmp_path: Path) -> None:
    async def test() -> None:
        configs, probes = configs_of(3, tmp_path), [Sent() for _ in range(3)]
        replicas = [
            await open_replica(config, machine=Machine(probe=probe))
            for config, probe in zip(configs, probes, strict=True)
        ]
        await settled(replicas)
        while True:
            at = next(at for at, replica in enumerate(replicas) if not replica.leading)
            follower, counts, ballot = replicas[at], probes[at].counts, replicas[at].leader_ballot
            counts.clear()
            await asyncio.gather(*(follower.barrier(5) for _ in range(MANY)))
            puts: list[Command] = [Put(b"%d" % number, b"v") for number in range(MANY)]
            await asyncio.gather(
                *(follower.submit(put, 5) for put in puts), follower.submit_group(puts, 5)
            )
            if all(replica.leader_ballot == ballot for replica in replicas):
                break  # one leader saw it through
        assert counts["ReadIndex"] == 1
        assert counts["Relay"] == 1
        await asyncio.gather(*(replica.stop() for replica in replicas))

    run(test())
