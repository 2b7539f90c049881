"""What a replica marks for whoever listens, from its start to its end."""

import asyncio
from dataclasses import replace
from pathlib import Path

from kvstore.commands.commands import Put
from kvstore.commands.results import Result, Written
from kvstore.peers.frames import PeerMessage
from kvstore.replica.machine import Machine
from kvstore.replica.open import open_replica
from kvstore.replica.probe import Probe
from kvstore.state.state_machine import AppliedBundle, StateMachine
from paxos.ballot import NodeId, Slot
from paxos.messages import Accept, Accepted, AnyMessage
from paxos.node import Node
from tests.support.replicas import configs_of, run, settled


class Recorder(Probe):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []
        self.messages: list[tuple[NodeId, PeerMessage]] = []
        self.applications: list[tuple[Slot, list[Result]]] = []

    def of(self, name: str) -> list[object]:
        return [what for heard, what in self.heard if heard == name]

    def votes_for(self, slot: Slot) -> list[Accepted]:
        """What the node told itself."""
        told = self.of("answered itself")
        return [m for m in told if isinstance(m, Accepted) and m.slot == slot]

    def opened(self, node: Node, state: StateMachine, formed: bool) -> None:
        self.heard.append(("opened", state.applied_through))

    def sent(self, to: NodeId, message: PeerMessage) -> None:
        self.messages.append((to, message))

    def answered_itself(self, message: AnyMessage) -> None:
        self.heard.append(("answered itself", message))

    def proposed(self, accept: Accept) -> None:
        self.heard.append(("proposed", accept.slot))

    def applied(
        self,
        state: StateMachine,
        slot: Slot,
        value: bytes,
        results: list[AppliedBundle],
    ) -> None:
        assert state.applied_through == slot
        applied = slot, [result for _, of_bundle in results for result in of_bundle]
        self.applications.append(applied)
        self.heard.append(("applied", applied))

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
        while True:
            leader = next(at for at, replica in enumerate(replicas) if replica.leading)
            ballot = replicas[leader].leader_ballot
            written = await replicas[leader].execute(Put(b"k", b"v"), 5)
            await settled(replicas)
            if all(replica.leader_ballot == ballot for replica in replicas):
                break  # one leader saw it through
        assert isinstance(written, Written)
        heard = probes[leader]
        (slot,) = [slot for slot, results in heard.applications if results == [written]]
        for probe in probes:
            assert probe.heard[0] == ("opened", 0)
            assert probe.applications.count((slot, [written])) == 1
        assert heard.of("proposed").count(slot) == 1
        asked = {to for to, m in heard.messages if isinstance(m, Accept) and m.slot == slot}
        assert asked == {1, 2, 3} - {leader + 1}
        # Its own vote may come last: the other two are a quorum.
        while not (own := heard.votes_for(slot)):
            await asyncio.sleep(0.01)
        assert len(own) == 1
        assert heard.heard.index(("proposed", slot)) < heard.heard.index(
            ("applied", (slot, [written]))
        )
        assert heard.of("stepped")
        await asyncio.gather(*(replica.stop() for replica in replicas))
        for probe, replica in zip(probes, replicas, strict=True):
            assert probe.of("checkpointed")[-1] == replica.state.applied_through

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
        assert all(applied > slot for applied, _ in second.applications)

    run(test())
