"""Members that come and go, on real replicas: who is taken in, who must go, and what each hears."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.commands.commands import Put
from kvstore.commands.members import (
    AddMember,
    MemberChange,
    NewMember,
    RemoveMember,
    SetConfiguration,
    UpdateMember,
)
from kvstore.commands.results import MembershipRefused, Reconfigured, Written
from kvstore.config import Config, format_address
from kvstore.errors import NoQuorum
from kvstore.peers.refusals import Ending
from kvstore.replica.open import open_replica
from kvstore.replica.replica import Replica
from tests.support.replicas import configs_of, run, settled


class Town:
    """Replicas by the number of their directory; those that begin again are opened again."""

    def __init__(self, configs: list[Config]) -> None:
        self.configs = dict(enumerate(configs, 1))
        self.replicas: dict[int, Replica] = {}
        self.ended: dict[int, str] = {}
        self._watching: dict[int, asyncio.Task[None]] = {}

    async def start(self, *numbers: int) -> None:
        for replica, number in zip(
            await asyncio.gather(*(open_replica(self.configs[n]) for n in numbers)),
            numbers,
            strict=True,
        ):
            self.replicas[number] = replica
            self._watching[number] = asyncio.create_task(self._watch(number))

    async def _watch(self, number: int) -> None:
        while True:
            replica = self.replicas[number]
            reason = await replica.wait_failed()
            await replica.stop()
            if replica.ending is not Ending.AGAIN:
                self.ended[number] = reason
                del self.replicas[number]
                return
            self.replicas[number] = await open_replica(self.configs[number])

    async def stop(self, number: int) -> None:
        self._watching[number].cancel()
        await self.replicas.pop(number).stop()

    async def wipe(self, number: int) -> None:
        await self.stop(number)
        shutil.rmtree(self.configs[number].data_dir)

    async def close(self) -> None:
        for number in list(self.replicas):
            await self.stop(number)

    def leader(self) -> int:
        return next(n for n, replica in self.replicas.items() if replica.leading)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.02)

    def voters(self, number: int) -> set[int]:
        told = self.replicas[number].status().configuration
        return set() if told is None or told.under_way else set(told.voters)

    async def change(self, number: int, change: MemberChange) -> Reconfigured:
        replica = self.replicas[number]
        command = replica.reconfiguration(change)
        await replica.make_way(command, 5)
        done = await replica.execute(command, 5)
        assert isinstance(done, Reconfigured), done
        await replica.members_settled(10)
        return done

    async def put(self, number: int, key: bytes) -> None:
        done = await self.replicas[number].execute(Put(key, b"v"), 5)
        assert isinstance(done, Written)


@asynccontextmanager
async def town(tmp_path: Path, founders: int = 3, spares: int = 0) -> AsyncIterator[Town]:
    configs = [
        replace(config, replace_lost_after_s=0.3) for config in configs_of(founders, tmp_path)
    ]
    for n, config in enumerate(configs_of(spares, tmp_path / "spare"), founders + 1):
        configs.append(replace(config, node_id=0, members={}, name=f"spare{n}"))
    made = Town(configs)
    try:
        await made.start(*range(1, founders + 1))
        await settled(list(made.replicas.values()))
        yield made
    finally:
        await made.close()


def add(config: Config, **fields: bool) -> AddMember:
    return AddMember(NewMember(config.name, format_address(config.listen_peer), **fields))


async def take_in(made: Town, number: int, at: int = 1) -> int:
    """Add the spare, start it, and wait until it votes; its id."""
    done = await made.change(at, add(made.configs[number]))
    await made.start(number)
    places = {n: format_address(c.listen_peer) for n, c in made.configs.items()}
    made.replicas[number].ask_at(places)
    await made.until(lambda: done.member in made.voters(at))
    return done.member


@pytest.mark.parametrize("victim", ["follower", "leader"])
def test_a_member_that_lost_its_disk_is_taken_in_again_by_itself(
    tmp_path: Path, victim: str
) -> None:
    async def body() -> None:
        async with town(tmp_path) as made:
            for n in range(20):
                await made.put(1, b"k%d" % n)
            leader = made.leader()
            wiped = leader if victim == "leader" else leader % 3 + 1
            other = wiped % 3 + 1
            await made.wipe(wiped)
            await made.start(wiped)
            await made.until(lambda: made.voters(other) == {1, 2, 3, 4} - {wiped})
            await made.until(lambda: made.replicas[wiped].status().ready)
            assert made.replicas[wiped].node.id == 4
            item = made.replicas[wiped].state.get(b"k7")
            await made.put(wiped, b"after")
            assert item is not None and not made.ended
            names = {m.id: m.name for m in made.replicas[other].status().members}
            assert names[4] == f"node{wiped}"

    run(body(), 60)


def test_the_old_disk_is_refused_for_good_and_says_so(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path) as made:
            await made.put(1, b"k")
            wiped = made.leader() % 3 + 1
            other = wiped % 3 + 1
            old = made.configs[wiped].data_dir
            await made.stop(wiped)
            old.rename(tmp_path / "kept")
            await made.start(wiped)
            await made.until(lambda: 4 in made.voters(other) and wiped not in made.voters(other))
            await made.stop(wiped)
            old.rename(tmp_path / "new")
            (tmp_path / "kept").rename(old)
            await made.start(wiped)
            await made.until(lambda: wiped in made.ended)
            assert f"node {wiped} was removed from cluster" in made.ended[wiped]
            assert f"node{other} at" in made.ended[wiped]

    run(body(), 60)


def test_from_one_to_three_and_back_to_another_one(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path, founders=1, spares=2) as made:
            await made.put(1, b"first")
            assert await take_in(made, 2) == 2
            assert await take_in(made, 3) == 3
            assert made.voters(1) == {1, 2, 3}
            await made.put(3, b"second")
            # The leader is removed: another one leads first.
            leader = made.leader()
            stays = leader % 3 + 1
            await made.change(leader, RemoveMember(made.replicas[leader].node.id))
            await made.until(lambda: leader in made.ended)
            assert "was removed" in made.ended[leader]
            last = made.leader()
            own = made.replicas[last].node.id
            await made.change(last, SetConfiguration((own,), ()))
            await made.until(lambda: len(made.ended) == 2)
            await made.put(last, b"third")
            state = made.replicas[last].state
            assert all(state.get(key) is not None for key in (b"first", b"second", b"third"))
            assert stays in (1, 2, 3)

    run(body(), 60)


def test_a_learner_follows_without_a_vote_until_it_is_promoted(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path, founders=1, spares=1) as made:
            for n in range(50):
                await made.put(1, b"k%d" % n)
            done = await made.change(1, add(made.configs[2], promote=False))
            await made.start(2)
            made.replicas[2].ask_at({1: format_address(made.configs[1].listen_peer)})
            await made.until(
                lambda: (
                    not made.replicas[2].failure
                    and made.replicas[2].state.applied_through
                    == made.replicas[1].state.applied_through
                    and made.replicas[2].node.id == done.member
                )
            )
            assert made.voters(1) == {1} and not made.replicas[2].node.votes
            kinds = {m.id: m.kind for m in made.replicas[2].status().members}
            assert kinds == {1: "voter", done.member: "learner"}
            await made.put(2, b"by the learner")
            await made.change(1, UpdateMember(done.member, promote=True))
            await made.until(lambda: made.voters(1) == {1, done.member})

    run(body(), 60)


def test_what_would_leave_too_few_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path) as made:
            leader = made.leader()
            gone, other = leader % 3 + 1, (leader + 1) % 3 + 1
            await made.stop(gone)
            await made.until(lambda: not made.replicas[leader].status().members[gone - 1].connected)
            command = made.replicas[leader].reconfiguration(RemoveMember(other))
            with pytest.raises(NoQuorum, match="too few of the voters"):
                await made.replicas[leader].make_way(command, 5)
            stale = made.replicas[leader].reconfiguration(RemoveMember(gone), expected=7)
            done = await made.replicas[leader].execute(stale, 5)
            assert isinstance(done, MembershipRefused)

    run(body(), 60)


def test_a_node_that_nobody_added_is_no_member_and_disturbs_nobody(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path, founders=1, spares=1) as made:
            ballot = made.replicas[1].leader_ballot
            await made.start(2)
            made.replicas[2].ask_at({1: format_address(made.configs[1].listen_peer)})
            await made.until(lambda: bool(made.replicas[2].membership.refused_by))
            (reason,) = made.replicas[2].membership.refused_by.values()
            assert "it must join by a token, or be added first" in reason
            assert not made.replicas[2].status().ready
            await made.put(1, b"k")
            assert made.replicas[1].leader_ballot == ballot

    run(body(), 60)


def test_who_was_replaced_goes_however_the_new_one_came_to_vote(tmp_path: Path) -> None:
    async def body() -> None:
        async with town(tmp_path, spares=1) as made:
            leader = made.leader()
            lost = leader % 3 + 1
            await made.stop(lost)
            spare = made.configs[4]
            address = format_address(spare.listen_peer)
            added = AddMember(NewMember(spare.name, address, promote=False, replaces=lost))
            await made.change(leader, added)
            await made.start(4)
            made.replicas[4].ask_at({leader: format_address(made.configs[leader].listen_peer)})
            await made.until(lambda: made.replicas[4].node.id == 4)
            await made.until(
                lambda: any(
                    one.id == 4 and one.connected for one in made.replicas[leader].status().members
                )
            )
            # An operator names all of them, the lost one and its replacement, as voters.
            await made.change(leader, SetConfiguration((1, 2, 3, 4), ()))
            await made.until(lambda: made.voters(leader) == {1, 2, 3, 4} - {lost})
            members = made.replicas[leader].state.members.record.members
            assert {one.id: one.replaces for one in members}.items() == {
                (id, 0) for id in {1, 2, 3, 4} - {lost}
            }
            await made.put(4, b"k")

    run(body(), 60)
