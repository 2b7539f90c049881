"""What a replica marks for whoever listens, from its start to its end."""

import asyncio
from dataclasses import replace
from pathlib import Path

from kvstore.commands.commands import Bundle, Put, Result, Written
from kvstore.peers.frames import PeerMessage
from kvstore.replica.machine import Machine
from kvstore.replica.open import open_replica
from kvstore.replica.probe import Probe
from kvstore.state.state_machine import StateMachine
from paxos.ballot import NodeId, Slot
from paxos.messages import Accept, Accepted, AnyMessage
from paxos.node import Node
from tests.support.replicas import configs_of, run, settled


class Recorder(Probe):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def count(self, name: str) -> int:
        return sum(heard == name for heard, _ in self.heard)

    def of(self, name: str) -> list[object]:
        return [what for heard, what in self.heard if heard == name]

    def opened(self, node: Node, state: StateMachine) -> None:
        self.heard.append(("opened", state.applied_through))

    def sent(self, to: NodeId, message: PeerMessage) -> None:
        self.heard.append(("sent", (to, message)))

    def answered_itself(self, message: AnyMessage) -> None:
        self.heard.append(("answered itself", message))

    def proposed(self, accept: Accept) -> None:
        self.heard.append(("proposed", accept.slot))

    def applied(
        self,
        state: StateMachine,
        slot: Slot,
        value: bytes,
        results: list[tuple[Bundle, list[Result]]],
    ) -> None:
        assert state.applied_through == slot
        self.heard.append(("applied", (slot, [result for _, all_ in results for result in all_])))

    def checkpointed(self, through: Slot) -> None:
        self.heard.append(("checkpointed", through))

    def stepped(self, node: Node) -> None:
        self.heard.append(("stepped", node.role))


def test_a_write_is_heard_of_once_at_each_station(tmp_path: Path) -> None:
    async def test() -> None:
        configs, probes = configs_of(3, tmp_path), [Recorder() for _ in range(3)]
        replicas = [
            await open_replica(config, machine=Machine(probe=probe))
            for config, probe in zip(configs, probes, strict=True)
        ]
        await settled(replicas)
        leader = next(at for at, replica in enumerate(replicas) if replica.leading)
        written = await replicas[leader].execute(Put(b"k", b"v"), 5)
        assert isinstance(written, Written)
        await settled(replicas)
        heard = probes[leader]
        slot = replicas[leader].state.applied_through
        for probe in probes:
            assert probe.heard[0] == ("opened", 0)
            assert probe.of("applied").count((slot, [written])) == 1
        assert heard.of("proposed").count(slot) == 1
        asked = [to for to, m in heard.of("sent") if isinstance(m, Accept) and m.slot == slot]  # type: ignore[misc]
        assert sorted(asked) == sorted({1, 2, 3} - {leader + 1})
        own = [m for m in heard.of("answered itself") if isinstance(m, Accepted) and m.slot == slot]
        assert len(own) == 1
        # Its own vote counts only once it is durable, and nothing is applied before a step.
        assert heard.heard.index(("answered itself", own[0])) < heard.heard.index(
            ("applied", (slot, [written]))
        )
        assert heard.count("stepped")
        await asyncio.gather(*(replica.stop() for replica in replicas))
        assert all(probe.of("checkpointed")[-1] == slot for probe in probes)

    run(test())


def test_what_a_restart_replays_is_not_applied_again(tmp_path: Path) -> None:
    async def test() -> None:
        (config,) = configs_of(1, tmp_path)
        config = replace(config, checkpoint_interval_s=60.0)
        first, second = Recorder(), Recorder()
        replica = await open_replica(config, machine=Machine(probe=first))
        assert isinstance(await replica.execute(Put(b"k", b"v"), 5), Written)
        await replica.stop()
        slot = replica.state.applied_through
        replica = await open_replica(config, machine=Machine(probe=second))
        await settled([replica])
        await replica.stop()
        assert second.heard[0] == ("opened", slot)
        assert all(applied > slot for applied, _ in second.of("applied"))  # type: ignore[misc]

    run(test())
