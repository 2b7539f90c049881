"""A cluster of one from one of three directories, after the others are gone."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.commands.commands import Put
from kvstore.commands.members import RemoveMember
from kvstore.commands.results import Written
from kvstore.config import Config
from kvstore.errors import StorageError
from kvstore.peers.refusals import Ending
from kvstore.replica.open import open_replica
from kvstore.replica.recovering import look, recover
from kvstore.storage.data_dir import RECOVERING
from kvstore_cli.main import main
from tests.kvstore.replica.test_changing_members import Town, take_in
from tests.support.replicas import configs_of, opened, run, settled


def alone(path: Path, config: Config) -> Config:
    """As one starts it then: with the settings that it had, or with none."""
    return Config(node_id=config.node_id, members=config.members, listen_peer=config.listen_peer,
                  data_dir=path)  # fmt: skip


def test_what_one_directory_held_is_there_and_the_statement_is_right(tmp_path: Path) -> None:
    written: dict[bytes, int] = {}

    async def fill() -> None:
        async with opened(configs_of(3, tmp_path)) as replicas:
            await settled(replicas)
            for n in range(60):
                done = await replicas[n % 3].execute(Put(b"k%d" % n, b"%d" % n), 5)
                assert isinstance(done, Written)
                written[b"k%d" % n] = done.revision
            while replicas[1].state.revision < max(written.values()):
                await asyncio.sleep(0.01)
            for replica in replicas:  # as if all were killed: no last checkpoint
                replica.fail("killed")

    async def serve(config: Config) -> None:
        replica = await open_replica(config)
        try:
            assert replica.node.id == 4, "another member than any that there was"
            await replica.read_barrier(5)
            for key, revision in written.items():
                item = replica.state.get(key)
                assert item is not None and item.mod_revision == revision
            assert isinstance(await replica.execute(Put(b"new", b""), 5), Written)
            assert replica.status().configuration is not None
            assert replica.status().configuration.voters == (4,)
        finally:
            await replica.stop()

    async def old_one_comes_back(config: Config, new: Config) -> None:
        """Node 3 was not dead, and calls: it is of another cluster."""
        replica, old = await open_replica(new), await open_replica(config)
        try:
            async with asyncio.timeout(10):
                while not any("another cluster" in r for r in old.membership.refused_by.values()):
                    await asyncio.sleep(0.05)
            assert old.ending is Ending.FAILED and not old.failure
        finally:
            await old.stop()
            await replica.stop()

    run(fill(), 60)
    configs = configs_of(3, tmp_path)
    path = configs[1].data_dir
    survivor = look(path)
    assert (survivor.node, set(survivor.others)) == (2, {1, 3})
    assert survivor.can_go_on({1, 3}) and not survivor.can_go_on({1, 2})
    done = recover(path)
    assert (done.node, done.was_cluster_id) == (4, survivor.cluster_id) != (4, done.cluster_id)
    assert done.kept_through >= done.sure_through > 0
    assert done.revision == max(written.values())
    own = alone(path, configs[1])
    run(serve(own), 30)
    run(serve(own), 30)
    run(old_one_comes_back(configs[2], own), 30)


def test_a_recovery_that_was_interrupted_is_to_be_run_again(tmp_path: Path) -> None:
    async def fill() -> None:
        async with opened(configs_of(1, tmp_path)) as replicas:
            await settled(replicas)
            await replicas[0].execute(Put(b"k", b"v"), 5)

    run(fill(), 60)
    (config,) = configs_of(1, tmp_path)
    (config.data_dir / RECOVERING).touch()

    async def begin() -> None:
        await open_replica(config)

    with pytest.raises(StorageError, match="run `kvstore recover"):
        run(begin(), 30)
    assert recover(config.data_dir).kept_through > 0
    assert not (config.data_dir / RECOVERING).exists()


def test_there_must_be_something_to_recover(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no data directory"):
        look(tmp_path / "nothing")


def test_those_who_came_after_the_last_checkpoint_are_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body() -> None:
        founders = [replace(one, checkpoint_interval_s=60) for one in configs_of(3, tmp_path)]
        (spare,) = configs_of(1, tmp_path / "spare")
        made = Town([*founders, replace(spare, node_id=0, members={}, name="spare")])
        try:
            await made.start(1, 2, 3)
            await settled(list(made.replicas.values()))
            assert await take_in(made, 4) == 4
            await made.change(1, RemoveMember(2))
            await made.until(lambda: 2 in made.ended and made.voters(1) == {1, 3, 4})
            made.replicas[1].fail("killed")  # no last checkpoint
            await made.until(lambda: 1 in made.ended)
            await made.until(lambda: any(one.leading for one in made.replicas.values()))
            await made.put(3, b"k")
            path = str(founders[0].data_dir)
            assert main(["recover", "--data-dir", path, "--new-cluster"]) == 2
            assert "nodes [3, 4] of cluster" in capsys.readouterr().err
        finally:
            await made.close()

    run(body(), 30)


def test_those_whose_address_is_not_known_may_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fill() -> None:
        async with opened(configs_of(3, tmp_path)) as replicas:
            await settled(replicas)

    run(fill(), 60)
    path = tmp_path / "1"
    identity = json.loads((path / "identity.json").read_bytes())
    identity["roster"] = None  # as a release before left it
    (path / "identity.json").write_text(json.dumps(identity))
    recovering = ["recover", "--data-dir", str(path), "--new-cluster"]
    assert main(recovering) == 2
    assert "where nodes [2, 3] are is not known here" in capsys.readouterr().err
    assert main([*recovering, "--i-know"]) == 0
