"""Founders of a cluster from a backup: all of them have it, or there is no cluster."""

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest

from kvstore.backup.restoring import restore
from kvstore.backup.sources import RestorePoint
from kvstore.commands.commands import Put
from kvstore.errors import NotReady
from kvstore.peers.roster import RosterMember
from kvstore.replica.replica import Replica
from tests.kvstore.replica.test_changing_members import town
from tests.support.backup_files import write_backup
from tests.support.driven_state import Driven
from tests.support.replicas import configs_of, opened, run, settled


@pytest.mark.parametrize("lost", [(), (2, 3)])
def test_those_with_empty_directories_do_not_outvote_the_restored_one(
    tmp_path: Path, lost: tuple[int, ...]
) -> None:
    one = Driven(tmp_path / "one.mdb")
    one.apply(Put(b"k", b"v"))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    one.store.close()
    configs = configs_of(3, tmp_path)
    restore(str(tmp_path / "b.kvb"), [config.data_dir for config in configs], RestorePoint())
    for number in lost:
        shutil.rmtree(configs[number - 1].data_dir)

    async def body() -> None:
        async with opened(configs) as replicas:
            if lost:
                restored, *empty = (replica.membership for replica in replicas)
                while not all("another state" in one.refused_by.get(1, "") for one in empty):
                    await asyncio.sleep(0.01)
                assert restored.pinned.keys() == {1}
                assert "another state" in replicas[1].status().reason
                assert not any(one.formed for one in (restored, *empty))
                return
            await settled(replicas)
            held = replicas[2].state.get(b"k")
            assert held is not None and held.value == b"v"

    run(body())


def test_a_restored_directory_is_not_that_of_a_member_of_a_cluster_that_lives(
    tmp_path: Path,
) -> None:
    """It has the name and the place of a member that was lost, and the state of another cluster."""
    one = Driven(tmp_path / "one.mdb")
    one.apply(Put(b"of the backup", b"v"))
    write_backup(one.store, one.state, tmp_path / "b.kvb")
    one.store.close()

    async def body() -> None:
        async with town(tmp_path) as made:
            lost = made.leader() % 3 + 1
            await made.wipe(lost)
            others = [tmp_path / f"other{n}" for n in (1, 2, 3)]
            others[lost - 1] = made.configs[lost].data_dir
            restore(str(tmp_path / "b.kvb"), others, RestorePoint())
            await made.start(lost)
            restored = made.replicas[lost]
            alive = {1, 2, 3} - {lost}
            await made.until(
                lambda: alive == {n for n, why in refusals(restored) if "another cluster" in why}
            )
            assert not any(made.replicas[n].membership.claims for n in alive)
            roster = made.replicas[made.leader()].roster
            assert roster is not None
            own = RosterMember(4, restored.membership.incarnation, "node", "", "", False)
            with pytest.raises(NotReady, match="restored"):
                restored.take_in(msgspec.structs.replace(roster, members=(*roster.members, own)))
            assert not restored.membership.formed

    run(body())


def refusals(replica: Replica) -> list[tuple[int, str]]:
    return list(replica.membership.refused_by.items())
