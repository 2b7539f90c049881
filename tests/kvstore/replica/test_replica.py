"""Three real replicas in one process: write, relay, read, hand over, restart, agree."""

import asyncio
from pathlib import Path

from kvstore.commands.commands import Put
from kvstore.commands.results import Written
from kvstore.replica.open import open_replica
from kvstore.replica.restoring import reconcile
from kvstore.storage.segment_log import SegmentLog
from paxos.ballot import Ballot
from paxos.messages import LogEntry
from tests.support.replicas import configs_of, settled


def test_write_relay_hand_over_restart(tmp_path: Path) -> None:
    async def run() -> None:
        configs = configs_of(3, tmp_path)
        replicas = [await open_replica(config) for config in configs]
        await settled(replicas)
        for at, replica in enumerate(replicas):
            assert isinstance(await replica.execute(Put(b"%d" % at, b"v"), 5), Written)
            for reader in replicas:
                await reader.read_barrier(5)
                assert reader.state.get(b"%d" % at) is not None
        await settled(replicas)
        leader = next(at for at, r in enumerate(replicas) if r.node.leader == r.node.id)
        await replicas[leader].stop()
        rest = [replica for replica in replicas if replica is not replicas[leader]]
        assert isinstance(await rest[0].execute(Put(b"after", b"v"), 5), Written)
        replicas[leader] = await open_replica(configs[leader])
        await settled(replicas)
        assert replicas[leader].state.get(b"after") is not None
        await asyncio.gather(*(replica.stop() for replica in replicas))

    asyncio.run(run())


def test_a_state_ahead_of_the_log_wins(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log")
    log.commit([LogEntry(slot, Ballot(slot, 1), b"v") for slot in (1, 2, 6)])
    for restored in (reconcile(log, 5), log.restore()):
        assert (restored.first_slot, restored.chosen_through) == (6, 5)
        assert [entry.slot for entry in restored.entries] == [6]
    log.close()
