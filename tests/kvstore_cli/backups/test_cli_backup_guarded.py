"""Backups of a cluster that asks who one is, and speaks TLS."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvstore.backup.catalogue import Catalogue
from kvstore.backup.following import Follower, FollowPlan
from kvstore.backup.policies import parse_policy
from kvstore.backup.sources import RestorePoint
from kvstore.backup.targets import DirectoryTarget
from kvstore.client import BlockingClient, Client
from tests.support.certificates import authority, settings
from tests.support.commands import run
from tests.support.following import restored
from tests.support.thread_node import thread_node


class Place(NamedTuple):
    """A node with authentication on; `words` name it to a command, and `who` a user."""

    endpoint: str
    ca: str
    directory: Path

    def words(self, user: str, password: str) -> tuple[str, ...]:
        file = self.directory / user
        file.touch(mode=0o600)
        file.write_text(password)
        where = ("--endpoints", self.endpoint.removeprefix("https://"), "--ca", self.ca)
        return (*where, "--user", user, "--password-file", str(file))

    def client(self, **who: Any) -> BlockingClient:
        return BlockingClient(self.endpoint, ca=self.ca, **who)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("guarded")
    certs = directory / "certs"
    authority(certs)
    with thread_node(directory, **settings(certs)) as endpoint:
        made = Place(endpoint, str(certs / "ca.crt"), directory)
        with made.client() as store:
            for user, password in (("root", "root's"), ("keeper", "keeps"), ("u", "u's")):
                store.add_user(user, password)
            store.add_role("keeper")
            for scope in ("backup", "watch"):
                store.grant_scope("keeper", scope)
            store.grant_role("root", "root")
            store.grant_role("keeper", "keeper")
            store.put("kept/a", "1")
            store.put("kept/b", "1")
            store.auth_enable()
        yield made


def test_a_backup_takes_its_scope(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "store.kvb"
    words = ("backup", str(file))
    assert "user" in run(capsys, *words, *place.words("u", "u's")[:4], code=2)
    assert "lacks the permission" in run(capsys, *words, *place.words("u", "u's"), code=2)
    run(capsys, *words, *place.words("keeper", "wrong"), code=2)
    assert not file.exists()
    told = json.loads(run(capsys, *words, *place.words("keeper", "keeps"), "--json"))
    assert told["keys"] == 2
    seen = json.loads(run(capsys, "backup", "inspect", str(file), "--json"))
    assert seen["users"] == 3


def test_keys_go_back_by_tls(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "store.kvb")
    keeper, root = place.words("keeper", "keeps"), place.words("root", "root's")
    run(capsys, "backup", file, *keeper)
    with place.client(user="root", password="root's") as store:
        store.put("kept/a", "2")
        words = ("restore", file, "--prefix", "kept/a", "--into", root[1], *root[2:])
        assert "1 changed" in run(capsys, *words)
        assert store.get("kept/a").value == b"1"


def test_a_continuous_backup_logs_in(place: Place, tmp_path: Path) -> None:
    target = DirectoryTarget(tmp_path / "kept")
    plan = FollowPlan(
        endpoints=place.endpoint.removeprefix("https://"),
        policy=parse_policy("1h:1m"),
        flush_s=0.02,
        base_every_s=3600.0,
        login={"ca": place.ca, "user": "keeper", "password": "keeps"},
    )

    async def test() -> None:
        stop = asyncio.Event()
        following = asyncio.create_task(Follower(plan, target, lambda *_, **__: None).run(stop))
        async with Client(place.endpoint, ca=place.ca, user="root", password="root's") as store:
            async with asyncio.timeout(60):
                while not any(name.startswith("base-") for name in target.names()):
                    assert not following.done()
                    await asyncio.sleep(0.01)
            revision = (await store.put("follow/later", "1")).revision
        async with asyncio.timeout(60):
            while (known := Catalogue(target.names())).reaches(known.newest) < revision:
                await asyncio.sleep(0.01)
        stop.set()
        await following
        assert restored(str(tmp_path / "kept"), RestorePoint())[1] == {b"follow/later": b"1"}

    asyncio.run(test())


@pytest.mark.proof
def test_a_drill_reads_what_only_users_may(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "store.kvb")
    run(capsys, "backup", file, *place.words("keeper", "keeps"))
    done = json.loads(run(capsys, "backup", "drill", file, "--nodes", "1", "--json"))
    assert done["keys"] >= 2
