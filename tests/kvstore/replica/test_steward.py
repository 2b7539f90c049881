"""What the leader does about members by itself, when more is lost than one disk."""

import time
from dataclasses import replace
from pathlib import Path

from kvstore.config import format_address
from tests.kvstore.replica.test_changing_members import Town, add, town
from tests.support.replicas import configs_of, run, settled


def others(made: Town, number: int) -> list[int]:
    return [n for n in made.replicas if n != number]


def test_a_learner_that_loses_its_disk_too_is_taken_in_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path) as made:
            await made.put(1, b"k")
            leader = made.leader()
            wiped = leader % 3 + 1
            members = made.replicas[leader].state.members
            # Nobody is close enough to vote for now.
            steward = made.replicas[leader]._parts.steward
            close, steward._close_slots = steward._close_slots, -1
            for id in (4, 5):
                await made.wipe(wiped)
                await made.start(wiped)
                await made.until(lambda id=id: made.replicas[wiped].node.id == id)
                replacing = {one.id: one.replaces for one in members.record.members}
                assert replacing == {1: 0, 2: 0, 3: 0, id: wiped}
            steward._close_slots = close
            await made.until(lambda: made.voters(leader) == {1, 2, 3, 5} - {wiped})

    run(body(), 30)


def test_who_was_not_heard_since_the_start_is_waited_for_and_then_given_up(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path, spares=1) as made:
            lost = made.leader() % 3 + 1
            await made.change(made.leader(), add(made.configs[4], promote=False))
            await made.start(4)
            places = {n: format_address(made.configs[n].listen_peer) for n in (1, 2, 3)}
            made.replicas[4].ask_at(places)
            await made.until(lambda: made.replicas[4].node.id == 4)
            rest = [n for n in (1, 2, 3) if n != lost]
            for n in (lost, *rest):
                await made.stop(n)
            began_s = time.monotonic()
            for n in rest:
                made.configs[n] = replace(
                    made.configs[n], dead_after_s=1.0, replace_lost_after_s=60.0
                )
            await made.start(*rest)
            await made.until(lambda: any(made.replicas[n].leading for n in rest))
            leader = made.replicas[made.leader()]
            member = leader.state.members.find(lost)
            assert member is not None and not leader._parts.steward._is_lost(member)
            await made.until(lambda: made.voters(rest[0]) == {*rest, 4})
            assert time.monotonic() - began_s >= 1.0

    run(body(), 30)


def test_nothing_is_changed_by_which_what_is_left_would_be_too_few(tmp_path: Path) -> None:
    async def body() -> None:
        made = Town(
            [
                replace(one, phase1_quorum=3, phase2_quorum=2, replace_lost_after_s=0.3)
                for one in configs_of(4, tmp_path)
            ]
        )
        try:
            await made.start(1, 2, 3, 4)
            await settled(list(made.replicas.values()))
            leader = made.leader()
            lost, away, _ = others(made, leader)
            await made.stop(away)
            await made.wipe(lost)
            await made.start(lost)
            await made.until(lambda: made.replicas[lost].node.id == 5)
            steward, view = made.replicas[leader]._parts.steward, made.replicas[leader]._parts.view
            await made.until(lambda: steward.held_back == "promote node 5")
            assert any("promote node 5" in told for told in view.status().warnings)
            assert view.gauges()["member_change_held_back"] == 1
            await made.put(leader, b"k")
            await made.start(away)
            await made.until(lambda: made.voters(leader) == {1, 2, 3, 4, 5} - {lost})
            await made.put(lost, b"k")
            assert not steward.warning
        finally:
            await made.close()

    run(body(), 30)


def test_a_founder_with_a_name_of_its_own_is_taken_in_again(tmp_path: Path) -> None:
    """Before the first change only the links know that name."""

    async def body() -> None:
        configs = [
            replace(one, name=f"town-{one.node_id}", replace_lost_after_s=0.3)
            for one in configs_of(3, tmp_path)
        ]
        made = Town(configs)
        try:
            await made.start(1, 2, 3)
            await settled(list(made.replicas.values()))
            leader = made.leader()
            wiped = leader % 3 + 1
            await made.wipe(wiped)
            await made.start(wiped)
            await made.until(lambda: made.voters(leader) == {1, 2, 3, 4} - {wiped})
            names = {one.id: one.name for one in made.replicas[leader].status().members}
            assert names[4] == f"town-{wiped}"
        finally:
            await made.close()

    run(body(), 15)
