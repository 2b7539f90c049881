"""Three real replicas in one process: write, relay, read, hand over, restart, agree."""

import asyncio
import socket
from pathlib import Path

from kvstore.commands.commands import Put, Written
from kvstore.config import Config
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from kvstore.replica.restoring import reconcile
from kvstore.storage.log import LogStore
from paxos.ballot import Ballot
from paxos.messages import LogEntry


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def settled(replicas: list[Replica]) -> None:
    async with asyncio.timeout(10):
        while len({(r.state.applied_through, r.state.digest) for r in replicas}) > 1 or not all(
            r.status().ready for r in replicas
        ):
            await asyncio.sleep(0.01)


def test_write_relay_hand_over_restart(tmp_path: Path) -> None:
    async def run() -> None:
        members = {n: ("127.0.0.1", port) for n, port in enumerate(free_ports(3), 1)}
        configs = [
            Config(node_id=n, members=members, listen_peer=members[n], data_dir=tmp_path / str(n))
            for n in members
        ]
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
    log = LogStore(tmp_path / "log.mdb")
    log.commit([LogEntry(slot, Ballot(slot, 1), b"v") for slot in (1, 2, 6)])
    for restored in (reconcile(log, 5), log.restore()):
        assert (restored.first_slot, restored.chosen_through) == (6, 5)
        assert [entry.slot for entry in restored.entries] == [6]
    log.close()
