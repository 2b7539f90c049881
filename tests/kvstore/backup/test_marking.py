"""Backups tell their store how far they are, and never fail because they cannot."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.backup import marking
from kvstore.backup.following import Follower, FollowPlan
from kvstore.backup.marking import DRILL_MARK, BackupMarker, Naming
from kvstore.backup.marks import BackupMark
from kvstore.backup.policies import parse_policy
from kvstore.backup.targets import DirectoryTarget
from kvstore.client import BlockingClient, Client
from tests.support.commands import run
from tests.support.thread_node import thread_node


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with thread_node(tmp_path_factory.mktemp("marked")) as url:
        with BlockingClient(url) as store:
            store.put("first", "1")
        yield url


class RefusingTarget(DirectoryTarget):
    """Takes no changes while `full`."""

    full = False

    def write(self, name: str, data: bytes) -> None:
        if self.full and name.startswith("changes-"):
            raise OSError(28, "No space left on device")
        super().write(name, data)


async def known(client: Client) -> dict[str, dict[str, Any]]:
    found = json.loads(await client.fetch("/v1/backups"))["backups"]
    return {one["name"]: one for one in found}


def test_a_continuous_backup_says_how_far_it_is(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marking, "MARK_EVERY_S", 0.05)
    monkeypatch.setattr(marking, "LOOK_S", 0.02)
    target = RefusingTarget(tmp_path)
    note = {"time_ms": 5000, "ok": False, "said": "reading\nkey a differs"}
    target.write(DRILL_MARK, json.dumps(note).encode())
    plan = FollowPlan(
        endpoints=where,
        policy=parse_policy("1h:1m"),
        flush_s=0.02,
        base_every_s=3600.0,
        naming=Naming("shop", "/b/shop", 60.0),
    )

    async def until(client: Client, revision: int) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while (found := (await known(client)).get("shop", {})).get("revision", 0) < revision:
                await asyncio.sleep(0.02)
        return found

    async def test() -> None:
        stop = asyncio.Event()
        following = asyncio.create_task(Follower(plan, target, lambda *_, **__: None).run(stop))
        async with Client(where) as client:
            found = await until(client, (await client.put("a", "1")).revision)
            assert found["place"] == "/b/shop" and found["continuous"] and not found["late"]
            assert found["next_ms"] == found["base_ms"] + 3_600_000
            assert found["drill"]["said"] == "key a differs" and not found["drill"]["ok"]
            assert found["drill"]["next_ms"] == 65_000
            target.full = True
            lost = (await client.put("a", "2")).revision
            await asyncio.sleep(0.3)  # six marks' time: none may say what is not so
            before = (await known(client))["shop"]
            assert before["revision"] < lost
            target.full = False
            assert (await until(client, lost))["time_ms"] > before["time_ms"]
        stop.set()
        await following

    asyncio.run(test())


def test_that_no_mark_can_be_left_is_said_once(where: str) -> None:
    told: list[str] = []
    mark = BackupMark(place="p", continuous=False, revision=1, time_ms=1)

    async def test() -> None:
        async with Client("http://127.0.0.1:1", timeout_s=0.2) as nobody, Client(where) as client:
            marker = BackupMarker(nobody, Naming("once", "p"), lambda what, **_: told.append(what))
            assert not await marker.leave(mark) and not await marker.leave(mark)
            marker._client = client
            assert await marker.leave(mark) and await marker.leave(mark)

    asyncio.run(test())
    assert told == ["no mark in the store", "marked again"]


def test_a_single_backup_is_known_by_its_name(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--endpoints", where)
    run(capsys, "backup", str(tmp_path / "plain.kvb"), *at)
    run(capsys, "backup", f"{tmp_path}/", "--name", "nightly", "--every", "daily", *at)
    listed = run(capsys, "backup", "list", "--json", *at)
    found = {one["name"]: one for one in map(json.loads, listed.splitlines())}
    assert "plain" not in found and not found["nightly"]["late"]
    assert found["nightly"]["fresh_s"] == 1.5 * 86_400
    assert Path(found["nightly"]["place"]).parent == tmp_path
    (row,) = (line for line in run(capsys, "backup", "list", *at).splitlines() if "nightly" in line)
    assert "in 24 h" in row
    assert "forgotten" in run(capsys, "backup", "forget", "nightly", *at)
    run(capsys, "backup", "forget", "nightly", *at, code=1)
