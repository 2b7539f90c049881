"""Voters that a change removes, while one that stays has not heard that the change governs."""

from contextlib import suppress
from pathlib import Path

import pytest

from kvstore.commands.members import RemoveMember
from kvstore.commands.results import Reconfigured
from kvstore.config import format_address
from kvstore.errors import Stopping
from kvstore.peers.frames import PeerMessage
from kvstore.replica.replica import Replica
from paxos.ballot import NodeId
from paxos.messages import Chosen, HandOver, Heartbeat
from tests.kvstore.replica.test_changing_members import add, town
from tests.support.replicas import run


def keep_back(leader: Replica, peer: Replica, patch: pytest.MonkeyPatch) -> None:
    """`peer` votes on, hears no more what is chosen than with the votes that it is asked for, and
    does not try to lead meanwhile."""
    transport = leader._parts.transport
    send = transport.send

    def lossy(to: NodeId, message: PeerMessage) -> None:
        if to != peer.node.id or not isinstance(message, Chosen | Heartbeat | HandOver):
            send(to, message)

    patch.setattr(transport, "send", lossy)
    patch.setattr(peer.node.election, "tick", lambda: False)


def test_a_learner_that_is_ahead_does_not_part_the_voters_of_the_last_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with town(tmp_path, founders=2, spares=1) as made:
            await made.change(1, add(made.configs[3], promote=False))
            await made.start(3)
            places = {n: format_address(made.configs[n].listen_peer) for n in (1, 2)}
            made.replicas[3].ask_at(places)
            await made.until(lambda: made.replicas[3].node.id == 3)
            if made.leader() != 1:
                await made.replicas[2].hand_over(1, 5)
            goes, stays, learner = (made.replicas[n] for n in (1, 2, 3))
            await made.until(lambda: learner.state.applied_through == goes.node.chosen_through)
            with monkeypatch.context() as patch:
                keep_back(goes, stays, patch)
                done = await goes.execute(goes.reconfiguration(RemoveMember(1)), 5)
                assert isinstance(done, Reconfigured)
                await made.until(lambda: learner.state.members.find(1) is None)
                await made.stop(3)
                await made.start(3)
                await made.until(lambda: stays.roster is not None and stays.roster.find(1) is None)
                assert stays.state.applied_through < done.first_slot - 1
            await made.until(lambda: stays.leading)
            await made.put(2, b"k")
            await made.until(lambda: 1 in made.ended)
            assert stays.membership.peers.keys() == {3}

    run(body(), 20)


def test_a_leader_that_goes_hands_over_to_one_that_can_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of those that stay lacks slots that the leader has truncated."""

    async def body() -> None:
        async with town(tmp_path) as made:
            if made.leader() != 1:
                await made.replicas[made.leader()].hand_over(1, 5)
            goes, behind = made.replicas[1], made.replicas[2]
            transport = goes._parts.transport
            send = transport.send
            monkeypatch.setattr(
                transport, "send", lambda to, message: None if to == 2 else send(to, message)
            )
            for n in range(5):
                await made.put(1, b"k%d" % n)
            await goes._parts.checkpoints.checkpoint()
            goes.node.truncate(goes.state.checkpointed_through + 1)
            first_slot = goes.node.acceptor.first_slot
            await made.until(lambda: goes.node.progress[3] + 1 >= first_slot)
            assert goes.node.progress[2] + 1 < first_slot
            with suppress(Stopping):  # it may have gone before it can say so
                await made.change(1, RemoveMember(1))
            await made.until(lambda: made.voters(2) == {2, 3} and 1 in made.ended)
            assert behind.state.get(b"k4") is not None

    run(body(), 20)
